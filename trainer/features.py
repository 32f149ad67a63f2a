"""What the frozen part of the network makes of every example, made once and kept on disk.

Where nothing is frozen, the inputs themselves are kept: reading, cropping and disturbing slices costs more
than an epoch should pay for twice. A key names the slice by its content, so that another list of samples,
another run and another machine's copy of the folder find the same rows.
"""

import hashlib
import inspect
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import process_time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lungnode import lungs, pixels
from lungnode import views as ways_to_look
from lungnode.errors import UnavailableError
from lungnode.recipe import Recipe
from trainer import examples, jitter, jpeg, painting
from trainer.blocks import Array, BlockStore, forget
from trainer.examples import Example, View, judging_views, make_example, training_views
from trainer.grays import file_digest
from trainer.progress import Progress
from trainer.samples import Sample

Images = NDArray[np.uint8]  # shape (n, size, size)
# The frozen part: one array, with a row an example, for each map it ends in.
Extract = Callable[[Sequence[Example]], list[Array]]

BLOCK: Final = 32  # examples kept in one file: what a kill costs
_CONTENT: Final = 40  # digits of a slice's digest in a key
# A change of the code that makes examples makes other features.
_MAKERS: Final = (examples, jitter, jpeg, painting, lungs, pixels, ways_to_look)


@dataclass(frozen=True)
class Wanted:
    """An example whose features may still have to be made."""

    key: str  # of its row in the store
    sample: Sample
    view: View
    content: str  # SHA-256 of the slice's file


@dataclass(frozen=True)
class Case:
    """What an epoch visits once: a sample as it is, or with lesions painted in, by one of its views."""

    sample: Sample
    positive: bool
    views: tuple[Wanted, ...]  # it is learnt by; the first is undisturbed
    judged: tuple[Wanted, ...]  # undisturbed ones, whose mean logit counts; the first one's map is shown
    painted: bool = False


@dataclass(frozen=True)
class Maker:
    """What makes the features of examples, and keeps them."""

    recipe: Recipe
    store: BlockStore
    extract: Extract
    progress: Progress


def open_store(cache: Path, recipe: Recipe, weights_digest: str) -> BlockStore:
    """Open the store of everything that this frozen part makes of slices.

    Args:
        cache: Folder of all stores.
        recipe: What shapes the input, and the network up to where it is frozen.
        weights_digest: SHA-256 of the frozen weights, hexadecimal.

    Raises:
        UnavailableError: The folder cannot be used.
    """
    network = recipe.network
    made_by = {
        "input": recipe.input.model_dump(),
        "network": [network.backbone, network.topology, network.stages, network.frozen],
        "weights": weights_digest,
        "code": [inspect.getsource(module) for module in _MAKERS],
    }
    name = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]
    return BlockStore(cache / name)


def list_cases(samples: Sequence[Sample], recipe: Recipe, *, learnt: bool = True) -> list[Case]:
    """List what an epoch may visit, in the samples' order; no feature is made yet.

    Args:
        samples: The slices.
        recipe: Says by which views they are learnt and judged.
        learnt: By disturbed and painted views, as the recipe says; else as it is.

    Raises:
        UnavailableError: A slice without a digest is away.
    """
    return [case for sample in samples for case in _cases(sample, recipe, learnt=learnt)]


def _cases(sample: Sample, recipe: Recipe, *, learnt: bool) -> Iterator[Case]:
    content = sample.digest or file_digest(sample.path)

    def want(view: View) -> Wanted:
        return Wanted(_key(content, view, recipe.training.seed), sample, view, content)

    by_label: dict[bool, list[Wanted]] = {}
    for view in training_views(sample, recipe) if learnt else judging_views(sample, recipe)[:1]:
        by_label.setdefault(view.painted, []).append(want(view))
    judged = tuple(want(view) for view in judging_views(sample, recipe))
    for painted, views in by_label.items():
        ways = tuple(want(replace(each.view, painted=True)) for each in judged) if painted else judged
        yield Case(sample, sample.positive or painted, tuple(views), ways, painted)


def make_features(wanted: Sequence[Wanted], maker: Maker) -> None:
    """Bring examples into the store, but for those of which nothing can be made.

    Raises:
        UnusableError: A slice cannot be read, or has changed.
        UnavailableError: A slice is away, or the disk is full; what was made is kept.
    """
    missing = [each for each in wanted if not maker.store.is_settled(each.key)]
    if not missing:
        return
    maker.progress.begin("Features", len(missing))
    begin = process_time()
    with ThreadPoolExecutor() as pool:
        for block, made in _made_ahead(pool, missing, maker.recipe):
            begin = _keep(maker, block, made, begin)
            maker.progress.advance(len(block))


def _key(content: str, view: View, seed: int) -> str:
    """Name an example; only what was drawn depends on the seed."""
    drawn = "" if view.genuine else f"-{seed}-{int(view.painted)}-{view.disturbance}"
    return f"{content[:_CONTENT]}-{view.way}{drawn}"


def _made_ahead(
    pool: ThreadPoolExecutor, wanted: Sequence[Wanted], recipe: Recipe
) -> Iterator[tuple[list[Wanted], list[Example | None]]]:
    """Yield the examples block by block; the next one is made while the caller works on this one."""
    # Two samples of the same content, say a slice listed twice, have one key.
    unique = iter({each.key: each for each in wanted}.values())
    ahead: list[tuple[list[Wanted], list[Future[Example | None]]]] = []
    while True:
        block = list(islice(unique, BLOCK))
        if block:
            futures = [pool.submit(make_example, w.sample, w.view, recipe, w.content) for w in block]
            ahead.append((block, futures))
        if not ahead:
            return
        if len(ahead) > 1 or not block:
            ready, futures = ahead.pop(0)
            yield ready, [future.result() for future in futures]


def _keep(maker: Maker, block: list[Wanted], made: list[Example | None], begin: float) -> float:
    """Keep a block that took the CPU since `begin`; return when it was done."""
    possible = [(each.key, example) for each, example in zip(block, made, strict=True) if example]
    impossible = [each.key for each, example in zip(block, made, strict=True) if not example]
    arrays = maker.extract([example for _, example in possible]) if possible else []
    _check_space(maker.store.folder, sum(array.nbytes for array in arrays))
    done = process_time()
    maker.store.add([key for key, _ in possible], arrays, impossible, done - begin)
    return done


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UnavailableError(
            f"The features need more space than the {free / 1e9:.1f} GB that are free in {folder}; what is "
            "kept there is used when the training goes on."
        )


def forget_features(cache: Path, contents: Collection[str]) -> int:
    """Overwrite what all stores below a folder hold of slices, by their digests; return how many rows.

    Raises:
        UnavailableError: A store cannot be read or written.
    """
    begins = tuple(f"{content[:_CONTENT]}-" for content in contents)
    return sum(
        forget(store, lambda key: key.startswith(begins)) for store in sorted(cache.glob("*")) if begins
    )


def frozen_digest(weights: dict[str, NDArray[Any]]) -> str:
    """Return a digest of weights: names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(weights[name], np.float32).tobytes())
    return digest.hexdigest()
