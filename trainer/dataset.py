"""What a training or an evaluation is given: samples with splits, digests, what was left out and why."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from lungnode.errors import LungnodeError, UnusableError
from trainer.grays import file_digest, load_gray
from trainer.manifest import digest_samples
from trainer.samples import Collection, Exclusion, Sample, Split
from trainer.splits import check_classes, check_disjoint, check_labels, count_duplicates, split_samples

TRAINING: Final = (Split.TRAIN, Split.VALIDATION)
THREADS: Final = 4  # decoders release the GIL


@dataclass(frozen=True)
class Dataset:
    """Samples that can be read, each with its split, patient-disjoint."""

    samples: tuple[Sample, ...]
    exclusions: tuple[Exclusion, ...]
    notes: tuple[str, ...]  # sentences that the operator is told

    def of(self, split: Split) -> list[Sample]:
        """Return the samples of one split, in their order."""
        return [sample for sample in self.samples if sample.split is split]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each split that has samples, by its name; a model's manifest stores them."""
        used = [split for split in Split if self.of(split)]
        return {split.value: digest_samples(self.of(split)) for split in used}


@dataclass(frozen=True)
class Draw:
    """How the validation split is drawn where no list says."""

    share: float  # of the patients
    seed: int


def collect(
    collections: Iterable[Collection],
    draw: Draw,
    needed: Sequence[Split] = TRAINING,
    *,
    skip_unreadable: bool = False,
) -> Dataset:
    """Join collections into one data set; nothing is written.

    Args:
        collections: From image lists, a manifest, the archive.
        draw: Of the validation split.
        needed: Splits that must hold both classes; empty: an evaluation takes what there is.
        skip_unreadable: Leave out images that cannot be read, instead of refusing all.

    Raises:
        UnusableError: An image cannot be read, a patient is in two splits, or a class is empty.
    """
    collections = list(collections)
    readable, unreadable = _read_all([s for c in collections if not c.is_read for s in c.samples])
    if unreadable and not skip_unreadable:
        raise UnusableError(_refusal(unreadable))
    known = chain.from_iterable(c.samples for c in collections if c.is_read)
    samples = split_samples([*readable, *known], draw.share, draw.seed)
    check_labels(samples)
    check_disjoint(samples)
    exclusions = (*chain.from_iterable(c.exclusions for c in collections), *unreadable)
    _check_classes(samples, needed, exclusions)
    return Dataset(
        tuple(samples),
        exclusions,
        (*chain.from_iterable(c.notes for c in collections), *_notes(samples)),
    )


def _read_all(samples: Sequence[Sample]) -> tuple[list[Sample], list[Exclusion]]:
    """Decode every image once: a training must not find a damaged one after hours."""
    with ThreadPoolExecutor(THREADS, "read") as pool:
        found = list(pool.map(_try_read, samples))
    return (
        [each for each in found if isinstance(each, Sample)],
        [each for each in found if isinstance(each, Exclusion)],
    )


def _try_read(sample: Sample) -> Sample | Exclusion:
    try:
        load_gray(sample)
        return replace(sample, digest=_checked_digest(sample))
    except LungnodeError as error:
        return Exclusion(str(sample.path), str(error))


def _checked_digest(sample: Sample) -> str:
    digest = file_digest(sample.path)
    if sample.digest not in ("", digest):
        raise UnusableError(f"The image {sample.path} has changed since its list was written.")
    return digest


def _check_classes(
    samples: Sequence[Sample], needed: Sequence[Split], exclusions: Sequence[Exclusion]
) -> None:
    try:
        check_classes(samples, needed)
    except UnusableError as error:
        if not exclusions:
            raise
        told = f"{len(exclusions)} were left out; the first, {exclusions[0].what}: {exclusions[0].reason}"
        raise UnusableError(f"{error} {told}") from error


def _refusal(unreadable: Sequence[Exclusion]) -> str:
    more = f" (and {len(unreadable) - 1} more like it)" if len(unreadable) > 1 else ""
    return (
        f"{unreadable[0].reason.rstrip('.')}{more}. Take it off the list; a training leaves it out with "
        "--skip-unreadable."
    )


def _notes(samples: Sequence[Sample]) -> list[str]:
    copies = count_duplicates(samples)
    return [f"{copies} of {len(samples)} images are copies of others in their split."] if copies else []
