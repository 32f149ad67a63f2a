"""The report: what its tables say, and that the page needs nothing and nobody."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lungnode.errors import UnavailableError
from tests.evaluated import judged
from tests.toy_model import MeanGray
from trainer.compression import Price
from trainer.evaluate import Evaluation, evaluate
from trainer.report import Extras, render_report, write_report
from trainer.report_tables import asymptomatic, cohort, models, parts, splits
from trainer.samples import Sample, Split
from trainer.subgroups import UNKNOWN

EVIL = "<script>alert(1)</script>$x_1$\"'&"


def sample(number: int, *, positive: bool, split: Split | None = Split.TEST, **attributes: str) -> Sample:
    return Sample("one", Path(f"{number}.png"), positive, f"p{number // 2}", split, attributes=attributes)


def told(evaluation: Evaluation, **attributes: str) -> Evaluation:
    """Give every sample these attributes."""
    return replace(evaluation, samples=tuple(replace(s, attributes=attributes) for s in evaluation.samples))


class Page(HTMLParser):
    """What a page holds; every element that is opened is closed."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element without content."""
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        """See that what ends is what was open."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words of the page."""
        return " ".join(" ".join(self.words).split())


def test_the_cohort_counts_patients_not_slices() -> None:
    samples = [
        sample(0, positive=True, age="40-49", sex="F"),
        sample(1, positive=False, age="40-49", sex="F"),  # the same patient
        sample(2, positive=False, age="50-59", sex="M", rt_pcr="negative"),
        sample(4, positive=False),
    ]

    found = {row[0]: row[1:] for row in cohort(samples).rows}

    assert found["patients"] == ("1 (100.0%)", "2 (100.0%)", "3 (100.0%)")
    assert found["age 40-49"] == ("1 (100.0%)", "0 (0.0%)", "1 (33.3%)")
    assert found["sex male"] == ("0 (0.0%)", "1 (50.0%)", "1 (33.3%)")
    assert found[f"age {UNKNOWN}"] == ("0 (0.0%)", "1 (50.0%)", "1 (33.3%)")
    assert found["RT-PCR negative"] == ("0 (0.0%)", "1 (50.0%)", "1 (33.3%)")


def test_the_splits_count_slices_studies_and_patients() -> None:
    samples = [
        replace(sample(0, positive=True, split=Split.TRAIN), study="1.1"),
        replace(sample(1, positive=True, split=Split.TRAIN), study="1.1"),
        sample(2, positive=False, split=Split.TRAIN),
        sample(4, positive=False),
    ]

    assert splits(samples).rows == (
        ("train", "1 / 0 / 1", "2 / 1 / 1", "3 / 1 / 2"),
        ("test", "1 / 0 / 1", "0 / 0 / 0", "1 / 0 / 1"),
    )


def test_table_3_has_a_column_for_each_model_and_split(tmp_path: Path) -> None:
    evaluation = judged(tmp_path)
    halves = tuple(
        replace(s, split=Split.TRAIN if number % 2 else Split.TEST)
        for number, s in enumerate(evaluation.samples)
    )

    found = models([replace(evaluation, samples=halves)] * 2, ["a", "b"], "slices")

    assert found.headings == ("", "a Tr.", "a Te.", "b Tr.", "b Te.")
    assert [row[0] for row in found.rows] == ["ACC", "SENS", "SPE", "IoU", "F1", "AUC", "n"]
    assert found.rows[-1] == ("n", "10", "10", "10", "10")


def test_table_4_sets_ct_against_rt_pcr_for_patients_without_symptoms(tmp_path: Path) -> None:
    evaluation = judged(tmp_path, studies=True)
    samples = tuple(
        replace(s, attributes={"symptomatic": "no", "rt_pcr": "positive" if number < 5 else "negative"})
        for number, s in enumerate(evaluation.samples)
    )

    found = asymptomatic(replace(evaluation, samples=samples))

    # Ten have COVID-19; the model misses two of them and RT-PCR missed five. The healthy ones do not count.
    assert found.rows == (("CT image", "8", "2", "0.80"), ("RT-PCR", "5", "5", "0.50"))


def test_table_4_says_so_when_nobody_is_known_to_have_no_symptoms(tmp_path: Path) -> None:
    found = asymptomatic(told(judged(tmp_path), symptomatic="yes"))

    assert not found.rows
    assert "No such patient" in found.note


def test_a_subgroup_shows_only_what_is_defined(tmp_path: Path) -> None:
    evaluation = judged(tmp_path)
    samples = tuple(replace(s, source="sick" if s.positive else "clear") for s in evaluation.samples)

    rows = {row[0]: row for row in parts(replace(evaluation, samples=samples), "slices").rows}

    _, n, acc, sens, spe, iou, f1, auc = rows["source: clear"]
    assert (n, spe[:5], acc[:5]) == ("10 (0)", "1.000", "1.000")
    assert (sens, iou, f1, auc) == ("n/a",) * 4
    assert rows["source: sick"][3].startswith("0.800")


def test_a_report_has_every_table_and_figure_and_reaches_for_nothing(tmp_path: Path) -> None:
    evaluation = judged(tmp_path, studies=True)
    prices = {evaluation.info.digest: [Price(None, 2048.0, 0.9, 0.9, 0.0, 0.0, 0)]}

    extras = Extras(prices=prices, now=datetime(2026, 1, 2, tzinfo=UTC))
    write_report([evaluation], tmp_path / "out/report.html", extras)

    text = (tmp_path / "out/report.html").read_text()
    page = Page(text)
    assert not page.open
    for number in (1, 2, 3, 4):
        assert f"Table {number}:" in page.text
    for number in (5, 6, 7):
        assert f"Figure {number}:" in page.text
    for title in ("Confusion, studies", "Reliability", "Subgroups, slices", "Price of compression"):
        assert title in page.text
    assert "Research use only. Not for diagnostic use." in page.text
    assert evaluation.digest in page.text
    assert "2026-01-02" in page.text
    assert "script" not in page.tags
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert not re.search(r"url\((?!#)|@import", text)


def test_every_drawing_is_well_formed_and_takes_the_pages_colours(tmp_path: Path) -> None:
    drawings = re.findall(r"<svg.*?</svg>", render_report([judged(tmp_path)], Extras()), re.DOTALL)

    assert len(drawings) == 4  # without lungs there is nothing to say of class maps
    for drawing in drawings:
        ElementTree.fromstring(drawing)  # noqa: S314 - our own
        assert "var(--ink)" in drawing
        assert "#0102" not in drawing


def test_what_others_wrote_is_shown_and_never_run(tmp_path: Path) -> None:
    evaluation = judged(tmp_path)
    named = replace(
        evaluation,
        info=replace(evaluation.info, name=EVIL),
        test_set=EVIL,
        samples=tuple(
            replace(s, source=EVIL, attributes={"manufacturer": EVIL}) if s.positive else s
            for s in evaluation.samples
        ),
    )

    text = render_report([named], Extras(notes=(EVIL,)))

    assert "<script" not in text
    assert "script" not in Page(text).tags
    assert Page(text).text.count(EVIL) >= 5


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first = judged(tmp_path)
    second = replace(first, info=replace(first.info, version="2"))

    page = Page(render_report([first, second], Extras()))

    assert "mean gray 1 Te." in page.text
    assert "mean gray 2 Te." in page.text


def test_the_same_evaluation_has_the_same_report(tmp_path: Path) -> None:
    evaluation = judged(tmp_path)

    assert render_report([evaluation], Extras()) == render_report([evaluation], Extras())


def test_one_class_and_a_single_slice_still_make_a_report(tmp_path: Path) -> None:
    evaluation = judged(tmp_path)
    alone = evaluate(_toy(evaluation), evaluation.samples[:1])

    page = Page(render_report([alone], Extras()))

    assert "Figure 5" in page.text
    assert "Figure 6" not in page.text  # an ROC curve needs both classes


def _toy(evaluation: Evaluation) -> MeanGray:
    return MeanGray(evaluation.info.recipe, evaluation.info.decision)


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    evaluation = judged(tmp_path)
    (tmp_path / "report.html").mkdir()

    with pytest.raises(UnavailableError, match=r"report\.html cannot be written"):
        write_report([evaluation], tmp_path / "report.html")

    assert not [path for path in tmp_path.iterdir() if "part" in path.name]
