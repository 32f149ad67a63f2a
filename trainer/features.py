"""What the frozen part of the network makes of every example, made once and kept on disk.

Where nothing is frozen, the inputs themselves are kept: reading, cropping and disturbing slices costs more
than an epoch should pay for twice. A key names the slice by its content, so that another list of samples,
another run and another machine's copy of the folder find the same rows.
"""

import hashlib
import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import process_time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lungnode import lungs, pixels
from lungnode.errors import UnavailableError
from lungnode.recipe import Recipe
from trainer import examples, jitter, painting
from trainer.blocks import Array, BlockStore
from trainer.examples import Example, View, make_example, training_views
from trainer.grays import file_digest
from trainer.progress import Progress
from trainer.samples import Sample

Images = NDArray[np.uint8]  # shape (n, size, size)
Extract = Callable[[Images], list[Array]]  # the frozen part: one array, of n rows, for each map it ends in

BLOCK: Final = 32  # examples kept in one file: what a kill costs
# A change of the code that makes examples makes other features.
_MAKERS: Final = (examples, jitter, painting, lungs, pixels)


@dataclass(frozen=True)
class Case:
    """What an epoch visits once: a sample as it is, or with lesions painted in, by any of its views."""

    sample: Sample
    positive: bool
    keys: tuple[str, ...]  # of its views in the store; the first is undisturbed
    painted: bool = False


@dataclass(frozen=True)
class _Wanted:
    """An example whose features may still have to be made."""

    key: str
    sample: Sample
    view: View
    content: str


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


@dataclass(frozen=True)
class Maker:
    """What makes the features of examples, and keeps them."""

    recipe: Recipe
    store: BlockStore
    extract: Extract
    progress: Progress


def make_cases(samples: Sequence[Sample], maker: Maker, *, learnt: bool = True) -> list[Case]:
    """Bring every example of the samples into the store, and list the cases in the samples' order.

    Args:
        samples: The slices.
        maker: Does it.
        learnt: Disturbed and painted views are made, too, as the recipe says; else each sample as it is.

    Raises:
        UnusableError: A slice cannot be read.
        UnavailableError: A slice is away, or the disk is full.
    """
    wanted = [each for sample in samples for each in _views(sample, maker.recipe, learnt=learnt)]
    missing = [each for each in wanted if not maker.store.is_settled(each.key)]
    maker.progress.begin("Features", len(missing))
    begin = process_time()
    with ThreadPoolExecutor() as pool:
        for block, made in _made_ahead(pool, missing, maker.recipe):
            begin = _keep(maker, block, made, begin)
            maker.progress.advance(len(block))
    return list(_cases(wanted, maker.store))


def _views(sample: Sample, recipe: Recipe, *, learnt: bool) -> Iterator[_Wanted]:
    content = sample.digest or file_digest(sample.path)
    for view in training_views(sample, recipe) if learnt else [View()]:
        yield _Wanted(_key(content, view, recipe.training.seed), sample, view, content)


def _key(content: str, view: View, seed: int) -> str:
    """Name an example; only what was drawn depends on the seed."""
    drawn = "" if view.genuine else f"-{seed}-{int(view.painted)}-{view.disturbance}"
    return f"{content[:40]}{drawn}"


def _made_ahead(
    pool: ThreadPoolExecutor, wanted: Sequence[_Wanted], recipe: Recipe
) -> Iterator[tuple[list[_Wanted], list[Example | None]]]:
    """Yield the examples block by block; the next one is made while the caller works on this one."""
    # Two samples of the same content, say a slice listed twice, have one key.
    unique = iter({each.key: each for each in wanted}.values())
    ahead: list[tuple[list[_Wanted], list[Future[Example | None]]]] = []
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


def _keep(maker: Maker, block: list[_Wanted], made: list[Example | None], begin: float) -> float:
    """Keep a block that took the CPU since `begin`; return when it was done."""
    possible = [(each.key, example.image) for each, example in zip(block, made, strict=True) if example]
    impossible = [each.key for each, example in zip(block, made, strict=True) if not example]
    arrays = maker.extract(np.stack([image for _, image in possible])) if possible else []
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


def _cases(wanted: Sequence[_Wanted], store: BlockStore) -> Iterator[Case]:
    """Join the views of one sample and label, leaving out those that could not be made."""
    views: dict[tuple[int, bool], list[_Wanted]] = {}
    for each in wanted:
        if each.key in store:
            views.setdefault((id(each.sample), each.view.painted), []).append(each)
    for (_, painted), members in views.items():
        sample = members[0].sample
        keys = tuple(each.key for each in members)
        yield Case(sample, sample.positive or painted, keys, painted)


def frozen_digest(weights: dict[str, NDArray[Any]]) -> str:
    """Return a digest of weights: names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(weights[name], np.float32).tobytes())
    return digest.hexdigest()
