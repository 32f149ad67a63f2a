"""Pooled features of the unchanged feature extractor, kept in a folder so that they are made once."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lungnode.network import Weights, build_extractor, set_weights
from lungnode.recipe import Recipe

Images = NDArray[np.uint8]  # shape (n, size, size)
Features = NDArray[np.float32]  # shape (n, channels): the mean of each feature over its map

BLOCK: Final = 128  # images kept in one file: what is lost when the run is stopped
BATCH: Final = 16
_LOG = logging.getLogger(__name__)


def pooled_features(images: Images, weights: Weights, recipe: Recipe, cache: Path) -> Features:
    """Return the features of each image; blocks that lie in the cache are not computed again."""
    run = None
    blocks = []
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        kept = cache / f"{_digest(block, recipe)}.npy"
        if not kept.exists():
            run = run or _extractor(weights, recipe)
            parts = [run(block[at : at + BATCH]) for at in range(0, len(block), BATCH)]
            _write(kept, np.concatenate(parts))
            _LOG.info("features of %d of %d images", start + len(block), len(images))
        blocks.append(np.load(kept))
    return np.concatenate(blocks)


def _extractor(weights: Weights, recipe: Recipe) -> Callable[[Images], Features]:
    extractor = build_extractor(recipe.size, recipe.stages)
    set_weights(extractor, weights)
    traced = tf.function(extractor, reduce_retracing=True)

    def run(images: Images) -> Features:
        return np.asarray(traced(images[..., np.newaxis].astype(np.float32), training=False))

    return run


def _digest(block: Images, recipe: Recipe) -> str:
    stages = "-".join(str(stage) for stage in recipe.stages)
    return f"{hashlib.sha256(block.tobytes()).hexdigest()[:32]}-{stages}"


def _write(path: Path, features: Features) -> None:
    """Write a block whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, features)
    part.replace(path)
