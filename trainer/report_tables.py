"""The tables of a report, the paper's first: rows of text, whatever draws them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from trainer.card import FIGURES, cell
from trainer.compression import Price
from trainer.document import FEW, Level, figures, scored
from trainer.evaluate import Evaluation, part
from trainer.localization import Localization
from trainer.metrics import Scores
from trainer.samples import Sample, Split
from trainer.subgroups import SEX, UNKNOWN, subgroups

NAMES: Final = {"acc": "ACC", "sens": "SENS", "spe": "SPE", "iou": "IoU", "f1": "F1", "auc": "AUC"}
SPLITS: Final = {Split.TRAIN: "Tr.", Split.VALIDATION: "Va.", Split.TEST: "Te.", None: "all"}


@dataclass(frozen=True)
class Table:
    """Headings and rows; the first column names the row."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Patient:
    """What is known of one patient of a list of samples."""

    positive: bool
    attributes: Mapping[str, str]


def patients_of(samples: Iterable[Sample]) -> list[Patient]:
    """Return the patients; one with a positive sample is positive, the first known attribute counts."""
    positive: dict[str, bool] = {}
    attributes: dict[str, dict[str, str]] = {}
    for sample in samples:
        positive[sample.group] = positive.get(sample.group, False) or sample.positive
        known = attributes.setdefault(sample.group, {})
        known |= {name: value for name, value in sample.attributes.items() if name not in known}
    return [Patient(positive[group], attributes[group]) for group in positive]


def cohort(samples: Sequence[Sample]) -> Table:
    """Table 1: patients by age decade, sex and RT-PCR."""
    patients = patients_of(samples)
    rows: list[tuple[str, ...]] = [_counted("patients", patients, patients)]
    for name, heading, words in (("age", "age", {}), ("sex", "sex", SEX), ("rt_pcr", "RT-PCR", {})):
        values = [patient.attributes.get(name, UNKNOWN) for patient in patients]
        if set(values) == {UNKNOWN}:
            continue
        for value in sorted(set(values), key=lambda each: (each == UNKNOWN, each)):
            chosen = [patient for patient, has in zip(patients, values, strict=True) if has == value]
            rows.append(_counted(f"{heading} {words.get(value, value)}", chosen, patients))
    note = "" if len(rows) > 1 else "Neither age nor sex is known of these samples."
    return Table("Table 1: patients", ("", "COVID-19", "non-COVID-19", "total"), tuple(rows), note)


def _counted(name: str, chosen: Sequence[Patient], everyone: Sequence[Patient]) -> tuple[str, ...]:
    def share(matches: Callable[[Patient], bool]) -> str:
        count, total = sum(map(matches, chosen)), sum(map(matches, everyone))
        return f"{count} ({count / total:.1%})" if total else "0"

    return name, share(lambda p: p.positive), share(lambda p: not p.positive), share(lambda _: True)


def splits(samples: Sequence[Sample]) -> Table:
    """Table 2: slices, studies and patients by split and label."""
    rows = []
    for split in SPLITS:
        chosen = [sample for sample in samples if sample.split is split]
        sick = [sample for sample in chosen if sample.positive]
        clear = [sample for sample in chosen if not sample.positive]
        if chosen:
            rows.append((split or "all", _sizes(clear), _sizes(sick), _sizes(chosen)))
    note = "Slices / studies / patients; 0 studies: the slices stand alone."
    return Table("Table 2: data", ("split", "non-COVID-19", "COVID-19", "total"), tuple(rows), note)


def _sizes(samples: Sequence[Sample]) -> str:
    studies = {sample.study for sample in samples if sample.study}
    return f"{len(samples)} / {len(studies)} / {len({sample.group for sample in samples})}"


def models(evaluations: Sequence[Evaluation], names: Sequence[str], level: Level) -> Table:
    """Table 3: the six metrics of each model on each split."""
    columns: list[tuple[str, Mapping[str, Any]]] = []
    for evaluation, name in zip(evaluations, names, strict=True):
        present = {sample.split for sample in evaluation.samples}
        for split in (split for split in SPLITS if split in present):
            measured = scored(part(evaluation, split) if len(present) > 1 else evaluation, level)
            columns.append((f"{name} {SPLITS[split]}", figures(measured, evaluation.info.threshold)))
    rows = [
        (NAMES[key], *(cell(found[key], found["confidence_intervals"][key]) for _, found in columns))
        for key in FIGURES
    ]
    rows.append(("n", *(str(found["n"]) for _, found in columns)))
    note = f"Of {level}. In brackets: 95 % interval, by a bootstrap over patients."
    if any(found["few_patients"] for _, found in columns):
        note += f" Fewer than {FEW} patients of a class: do not draw conclusions."
    return Table("Table 3: models", ("", *(heading for heading, _ in columns)), tuple(rows), note)


def asymptomatic(evaluation: Evaluation) -> Table:
    """Table 4: CT against RT-PCR, of patients with COVID-19 and without symptoms."""
    level = evaluation.studies or evaluation.slices
    said = level.scores >= evaluation.info.threshold
    ct: dict[str, bool] = {}
    pcr: dict[str, str] = {}
    for row, group in enumerate(level.groups):
        attributes = evaluation.samples[level.first[row]].attributes
        if level.labels[row] and attributes.get("symptomatic") == "no":
            ct[group] = ct.get(group, False) or bool(said[row])
            pcr.setdefault(group, attributes.get("rt_pcr", UNKNOWN))
    title = "Table 4: patients with COVID-19 and without symptoms"
    if not ct:
        return Table(title, (), (), "No such patient is known in this test.")
    tested = [value for value in pcr.values() if value != UNKNOWN]
    rows = (
        ("CT image", *_outcome(sum(ct.values()), len(ct))),
        ("RT-PCR", *_outcome(tested.count("positive"), len(tested))),
    )
    note = "One positive CT of a patient counts as positive. RT-PCR: of those whose result is known."
    return Table(title, ("method", "positive", "negative", "accuracy"), rows, note)


def _outcome(positive: int, total: int) -> tuple[str, ...]:
    return str(positive), str(total - positive), f"{positive / total:.2f}" if total else "n/a"


def confusions(evaluation: Evaluation, level: Level) -> Table:
    """What was said against what is true."""
    found = figures(scored(evaluation, level), evaluation.info.threshold)["confusion"]
    rows = (
        ("COVID-19", str(found["tp"]), str(found["fn"])),
        ("non-COVID-19", str(found["fp"]), str(found["tn"])),
    )
    title = f"Confusion, {level}"
    return Table(title, ("true", "said positive", "said negative"), rows)


def parts(evaluation: Evaluation, level: Level) -> Table:
    """Figures of subgroups."""
    rows = tuple(
        (
            f"{found.attribute}: {found.value}{' *' if found.figures['few_patients'] else ''}",
            f"{found.figures['n']} ({found.figures['positive']})",
            *_cells(found.figures),
        )
        for found in subgroups(evaluation, level)
    )
    note = f"n (positive). * fewer than {FEW} patients of a class: do not draw conclusions. n/a: not defined."
    if not rows:
        note = "Nothing is known that parts these samples."
    return Table(f"Subgroups, {level}", ("", "n", *NAMES.values()), rows, note)


def _cells(found: Mapping[str, Any]) -> Iterator[str]:
    """Write the six metrics; without a positive slice, IoU and F1 only say that there is none."""
    for key in FIGURES:
        told = found["positive"] or key not in ("iou", "f1")
        yield cell(found[key], found["confidence_intervals"][key]) if told else "n/a"


def compression(prices: Sequence[Price]) -> Table:
    """The price of JPEG."""
    rows = tuple(
        (
            "as it is" if price.quality is None else f"quality {price.quality}",
            f"{price.bytes_per_slice / 1024:.1f}",
            f"{price.bytes_per_slice / prices[0].bytes_per_slice:.0%}",
            f"{price.acc:.3f}",
            "n/a" if np.isnan(price.auc) else f"{price.auc:.3f}",
            f"{price.mean_change:.4f}",
            f"{price.largest_change:.4f}",
            str(price.other_verdicts),
        )
        for price in prices
    )
    headings = ("JPEG", "KiB", "size", "ACC", "AUC", "mean change", "largest change", "other verdicts")
    note = "Mean size of a slice's file; changes of its probability against the slice as it is."
    if not rows:
        note = "There are no slices that were not JPEG before."
    return Table("Price of compression", headings, rows, note)


def localization(found: Localization) -> Table:
    """Where the class maps of infected slices lie."""
    rows = (
        ("mean share of the activation", _share(found.inside, np.mean), _share(found.closed, np.mean)),
        ("median", _share(found.inside, np.median), _share(found.closed, np.median)),
        ("slices with more than half inside", _share(found.inside, _mostly), _share(found.closed, _mostly)),
    )
    chance = "n/a" if np.isnan(found.chance) else f"{found.chance:.1%}"
    note = (
        f"{len(found.inside)} of {found.slices} infected slices show something. The mask is {chance} of "
        "their pictures: the share of a map that knows nothing. Dense lesions are not in it, hence its bays."
    )
    return Table("Class maps and the lung", ("", "in the lung mask", "and its bays and holes"), rows, note)


def _share(values: Scores, of: Callable[[Scores], Any]) -> str:
    return f"{of(values):.1%}" if values.size else "n/a"


def _mostly(values: Scores) -> float:
    return float((values > 0.5).mean())  # noqa: PLR2004 - more than half
