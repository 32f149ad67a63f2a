"""Splits that never part a patient, and the refusal of those that do."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from lungnode.errors import UnusableError
from trainer.samples import Sample, Split


def split_samples(samples: Sequence[Sample], share: float, seed: int) -> list[Sample]:
    """Give each sample a split: as its list says of it or its patient, else drawn.

    A patient is drawn whole, and so are patients who share a study or a file. In each source, patients with a
    positive slice and those without are drawn apart, so that both parts have both classes. Where a list names
    validation samples, nothing is drawn: the rest is trained on.

    Args:
        samples: In a fixed order, with digests.
        share: Of the patients, for validation.
        seed: Same samples, same seed: same split.
    """
    listed = {sample.group: sample.split for sample in samples if sample.split}
    undecided = [sample for sample in samples if sample.group not in listed]
    held_out: set[str] = set()
    if Split.VALIDATION not in listed.values():
        held_out = _draw(undecided, share, np.random.default_rng(seed))
    drawn = {True: Split.VALIDATION, False: Split.TRAIN}
    return [replace(s, split=s.split or listed.get(s.group) or drawn[s.group in held_out]) for s in samples]


def _draw(samples: Sequence[Sample], share: float, random: np.random.Generator) -> set[str]:
    """Return the groups to hold out: the share of each source's families, sick and clear ones apart."""
    source = {sample.group: sample.source for sample in samples}
    sick = {sample.group for sample in samples if sample.positive}
    strata: dict[tuple[str, bool], list[list[str]]] = defaultdict(list)
    for family in sorted(sorted(family) for family in _families(samples)):
        strata[source[family[0]], not sick.isdisjoint(family)].append(family)
    held_out: set[str] = set()
    for _, families in sorted(strata.items()):
        # At least one, unless there is no second one to train on.
        count = min(max(1, round(share * len(families))), len(families) - 1)
        for number in random.permutation(len(families))[:count]:
            held_out.update(families[number])
    return held_out


def _families(samples: Iterable[Sample]) -> list[set[str]]:
    """Join the groups that have a study or a file in common."""
    joined: DisjointSet[str] = DisjointSet()
    for sample in samples:
        joined.add(sample.group)
        for shared in (f"\0study {sample.study}", f"\0file {sample.digest}"):
            if not shared.endswith(" "):
                joined.add(shared)
                joined.merge(sample.group, shared)
    return [{name for name in family if not name.startswith("\0")} for family in joined.subsets()]


def check_disjoint(samples: Iterable[Sample]) -> None:
    """See that no patient, study or file is in two splits.

    Raises:
        UnusableError: One is; the sentence names it and both splits.
    """
    samples = list(samples)
    _check("patient", ((s.group, s) for s in samples))
    _check("study", ((s.study, s) for s in samples if s.study))
    for sample, other in _copies(samples):
        if other.split != sample.split:
            raise UnusableError(
                f"The image {sample.path} of split {sample.split} is the same file as {other.path} of split "
                f"{other.split}; what is trained on tests nothing."
            )


def check_labels(samples: Iterable[Sample]) -> None:
    """See that no file has both labels.

    Raises:
        UnusableError: One has.
    """
    for sample, other in _copies(samples):
        if other.positive != sample.positive:
            raise UnusableError(
                f"The image {sample.path} is labelled {sample.label} and is the same file as {other.path}, "
                f"which is labelled {other.label}."
            )


def count_duplicates(samples: Iterable[Sample]) -> int:
    """Return how many samples are the same file as an earlier one."""
    return sum(1 for _ in _copies(samples))


def _copies(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """Yield each sample whose file came before, with the first one of that file."""
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.digest, sample) if sample.digest else sample
        if other is not sample:
            yield sample, other


def _check(what: str, named: Iterable[tuple[str, Sample]]) -> None:
    splits: dict[str, Sample] = {}
    for name, sample in named:
        other = splits.setdefault(name, sample)
        if other.split != sample.split:
            raise UnusableError(
                f"The {what} {name} is in two splits, with {other.path.name} in {other.split} and with "
                f"{sample.path.name} in {sample.split}; a {what} must be whole in one."
            )


def check_classes(samples: Sequence[Sample], needed: Iterable[Split]) -> None:
    """See that each needed split has both classes.

    Raises:
        UnusableError: One lacks a class, or is empty.
    """
    counts = count_classes(samples)
    for split in needed:
        for label, count in counts[split].items():
            if not count:
                raise UnusableError(
                    f"The {split} split has no {label} image ({_counted(counts)}); both classes are needed, "
                    "from at least two patients each."
                )


def count_classes(samples: Iterable[Sample]) -> dict[Split, dict[str, int]]:
    """Return how many samples each split has of each class."""
    found = Counter((sample.split, sample.label) for sample in samples)
    return {split: {label: found[split, label] for label in ("positive", "negative")} for split in Split}


def _counted(counts: Mapping[Split, Mapping[str, int]]) -> str:
    return "; ".join(
        f"{split}: {of['positive']} positive, {of['negative']} negative" for split, of in counts.items()
    )
