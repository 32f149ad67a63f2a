"""What `lungnode evaluate` measures on: image lists, a manifest or a frozen test set."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from db.label_policy import DEFAULT_POLICY
from db.session import transaction
from db.test_sets import read_test_set
from lungnode.cli._progress import shown
from lungnode.cli.studies import open_database
from lungnode.deidentify.pseudonyms import open_pseudonyms
from lungnode.errors import SettingsError, UnusableError
from lungnode.settings import Settings
from lungnode.store import open_archive
from trainer.archive import read_archive, select_test_set
from trainer.cache import Cache
from trainer.dataset import Draw
from trainer.dataset import collect as read_samples
from trainer.evaluate import main_split
from trainer.image_lists import ImageLists, read_image_lists
from trainer.manifest import read_manifest
from trainer.samples import NEGATIVE, POSITIVE, Collection, Sample, Split
from trainer.splits import check_disjoint

EVERYTHING: Final = "all"
LOSSLESS: Final = "lossless"  # below the cache: studies of test sets
_NOTHING_TO_DRAW: Final = Draw(share=0.2, seed=0)  # every sample has its split before


@dataclass(frozen=True)
class Source:
    """Where the samples come from: lists, a manifest or a frozen test set; one of them."""

    images: Path | None = None
    positives: Path | None = None
    negatives: Path | None = None
    patients: Path | None = None
    manifest: Path | None = None
    split: str = ""
    test_set: str = ""
    skip_unreadable: bool = False

    def problem(self) -> str:
        """Say what is wrong with the choice; empty when nothing is."""
        lists = (self.images, self.positives, self.negatives)
        if sum((any(lists), self.manifest is not None, bool(self.test_set))) != 1:
            return "Name one of: --images with --positives and --negatives, --manifest, --test-set."
        if any(lists) and not all(lists):
            return "--images, --positives and --negatives belong together."
        if self.patients and not self.images:
            return "--patients belongs to --images."
        if self.split and (not self.manifest or self.split not in (*Split, EVERYTHING)):
            return f"--split belongs to --manifest and is one of {', '.join((*Split, EVERYTHING))}."
        return ""


@dataclass(frozen=True)
class Found:
    """Samples to measure on."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()  # sentences that the operator is told
    everything: tuple[Sample, ...] = ()  # the list that they are a part of, for the tables of the data
    test_set: str = ""  # name of the frozen set, and its digest
    digest: str = ""


def collect(settings: Settings, source: Source) -> Found:
    """Read every sample once, and see that there is something to tell apart.

    Raises:
        UnusableError: A list or an image cannot be used, a class is empty, a file has both labels, or a
            patient is in two splits.
        UnavailableError: A file or the database is away.
    """
    if source.test_set:
        listed, digest = _read_test_set(settings, source.test_set)
    else:
        listed, digest = _read_lists(source), ""
    everything = _with_splits(listed.samples)
    check_disjoint(everything)
    chosen = _of_split(everything, source.split)
    _check_classes(chosen, source)
    listed = replace(listed, samples=chosen)
    read = read_samples([listed], _NOTHING_TO_DRAW, skip_unreadable=source.skip_unreadable, needed=())
    left_out = tuple(f"{each.what} is left out: {each.reason}" for each in read.exclusions)
    return Found(read.samples, (*read.notes, *left_out), everything, source.test_set, digest)


def _read_lists(source: Source) -> Collection:
    if source.manifest:
        return Collection(tuple(read_manifest(source.manifest)))
    if not (source.images and source.positives and source.negatives):
        raise SettingsError(source.problem())
    lists = ImageLists(source.images, source.positives, source.negatives, patients=source.patients)
    return read_image_lists(lists, Split.TEST)


def _read_test_set(settings: Settings, name: str) -> tuple[Collection, str]:
    """Read the studies of a frozen set, without loss, as a worker sees them; and its digest."""
    with transaction(open_database(settings)) as session:
        frozen = read_test_set(session, name)
        selection = select_test_set(
            session, open_archive(settings), name, DEFAULT_POLICY, open_pseudonyms(settings.data)
        )
    with shown() as progress:
        cache = Cache(settings.cache / LOSSLESS, None)
        return read_archive(selection, cache, os.cpu_count() or 1, progress), frozen.digest


def _with_splits(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Take samples without any split as a test; where others have one, those without are left out."""
    if any(sample.split for sample in samples):
        return tuple(sample for sample in samples if sample.split)
    return tuple(replace(sample, split=Split.TEST) for sample in samples)


def _of_split(samples: Sequence[Sample], wanted: str) -> tuple[Sample, ...]:
    if wanted == EVERYTHING:
        return tuple(samples)
    split = Split(wanted) if wanted else main_split(samples)
    return tuple(sample for sample in samples if split is None or sample.split is split)


def _check_classes(samples: Sequence[Sample], source: Source) -> None:
    """See that both classes are there.

    Raises:
        UnusableError: One is empty.
    """
    named = {True: source.positives or source.manifest, False: source.negatives or source.manifest}
    for positive, file in named.items():
        if not any(sample.positive is positive for sample in samples):
            word = POSITIVE if positive else NEGATIVE
            where = f"The list {file}" if file else f"The test set {source.test_set}"
            raise UnusableError(f"{where} names no {word} slice; both classes are needed to measure.")
