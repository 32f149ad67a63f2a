from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from daemon.clerk.completeness import Evidence, Quiet, Slice, Told, evidence_of, judge, note_of
from daemon.clerk.header import read_header
from lungnode.headers import Orientation, Vector
from tests.spooling import NOON

QUIET = Quiet(normal=timedelta(seconds=30), lacking=timedelta(seconds=120))
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
WHOLE = Evidence(present=148, expected=148, is_volume=True)


def stack(*heights: float, series: str = "1.2", **values: int) -> list[Slice]:
    return [Slice(series, position=(0.0, 0.0, height), orientation=AXIAL, **values) for height in heights]


def judged(evidence: Evidence, seconds: float, *, is_open: bool = False) -> tuple[bool, str]:
    now = NOON + timedelta(seconds=seconds)
    found = judge(evidence, is_open=is_open, changed_at=NOON, now=now, quiet=QUIET)
    return found.is_complete, found.note


def test_a_proven_count_needs_no_quiet_period() -> None:
    assert judged(WHOLE, 0) == (True, "complete: 148 of 148")


def test_an_open_association_outweighs_everything() -> None:
    assert judged(WHOLE, 1_000_000, is_open=True) == (False, "")


def test_without_gaps_the_quiet_period_decides() -> None:
    evidence = Evidence(is_volume=True)

    assert judged(evidence, 29.9) == (False, "")
    assert judged(evidence, 30) == (True, "quiet: no gaps")


def test_a_study_that_waits_knows_until_when() -> None:
    found = judge(Evidence(gaps=1), is_open=False, changed_at=NOON, now=NOON, quiet=QUIET)

    assert found.wait_until == NOON + timedelta(seconds=120)


@pytest.mark.parametrize(
    ("evidence", "note"),
    [
        (Evidence(gaps=3, is_volume=True), "incomplete: 3 gaps"),
        (Evidence(gaps=1, is_volume=True), "incomplete: 1 gap"),
        (Evidence(present=140, expected=148, is_volume=True), "incomplete: 140 of 148"),
        (Evidence(present=140, expected=148, gaps=2, is_volume=True), "incomplete: 140 of 148, 2 gaps"),
        (replace(WHOLE, gaps=1), "complete: 148 of 148, 1 gap"),
    ],
    ids=["gaps", "gap", "count", "both", "proven with a gap"],
)
def test_what_is_missing_lengthens_the_wait_and_is_told(evidence: Evidence, note: str) -> None:
    assert judged(evidence, 119) == (False, "")
    assert judged(evidence, 120) == (True, note)


ALL = Told("PACS", present=148, expected=148)
SOME = Told("PACS", present=100, expected=148)


def test_the_count_of_the_source_needs_no_quiet_period() -> None:
    evidence = Evidence(is_volume=True, told=ALL)

    assert judged(evidence, 0) == (True, "complete: 148 of 148 by query at PACS")
    assert judged(evidence, 1_000_000, is_open=True) == (False, "")


@pytest.mark.parametrize(
    ("evidence", "note"),
    [
        (Evidence(told=SOME, is_volume=True), "incomplete: 100 of 148 by query at PACS"),
        (replace(WHOLE, told=SOME), "incomplete: 100 of 148 by query at PACS"),
        (Evidence(told=ALL, gaps=2), "complete: 148 of 148 by query at PACS, 2 gaps"),
        (
            Evidence(present=140, expected=150, told=SOME, gaps=1),
            "incomplete: 100 of 148 by query at PACS, 140 of 150 by Images in Acquisition, 1 gap",
        ),
        (
            Evidence(present=148, expected=150, told=ALL),
            "complete: 148 of 148 by query at PACS, 148 of 150 by Images in Acquisition",
        ),
    ],
    ids=["more at the source", "more series there", "gaps", "all counts", "acquisition cut off"],
)
def test_what_the_source_knows_lengthens_the_wait_and_is_told(evidence: Evidence, note: str) -> None:
    assert judged(evidence, 119) == (False, "")
    assert judged(evidence, 120) == (True, note)


def test_a_count_of_acquisitions_waits_for_the_source_but_not_longer_than_a_quiet_period() -> None:
    evidence = replace(WHOLE, asking_since=NOON + timedelta(seconds=10))

    assert judged(evidence, 39.9) == (False, "")
    assert judged(evidence, 40) == (True, "complete: 148 of 148")


def test_a_note_fits_its_column_whatever_the_peer_is_called() -> None:
    told = Told("P" * 300, present=100_000, expected=100_001)
    evidence = Evidence(present=100_000, expected=100_001, gaps=10_000, told=told)

    assert len(note_of(evidence)) <= 255


def test_a_study_without_a_volume_is_only_quiet() -> None:
    assert note_of(evidence_of(stack(1, 1, 1, 1))) == "quiet: not a volume"
    assert note_of(evidence_of([])) == "quiet: not a volume"


def test_missing_slices_are_counted_whatever_their_order() -> None:
    assert evidence_of(stack(0, 2, 4, 8, 10, 16)).gaps == 1 + 2
    assert evidence_of(stack(16, 4, 0, 10, 2, 8)).gaps == 1 + 2


def test_every_beginning_of_a_study_is_without_gaps() -> None:
    assert [evidence_of(stack(*range(count))).gaps for count in (3, 10, 100)] == [0, 0, 0]


def test_series_are_looked_at_one_by_one() -> None:
    assert evidence_of(stack(0, 2, 4) + stack(1, 6, 11, series="1.3")).gaps == 0


def test_a_localizer_neither_proves_nor_lacks() -> None:
    localizer = stack(0, series="1.9", images_in_acquisition=1)

    assert evidence_of(localizer) == Evidence()
    assert evidence_of(localizer + stack(0, 2, 4, images_in_acquisition=3)).is_proven


def test_two_acquisitions_of_a_series_are_counted_apart() -> None:
    first = stack(0, 2, 4, acquisition_number=1, images_in_acquisition=3)
    second = stack(6, 8, acquisition_number=2, images_in_acquisition=3)

    assert note_of(evidence_of(first + second)) == "incomplete: 5 of 6"
    assert note_of(evidence_of(first)) == "complete: 3 of 3"


def test_a_series_that_tells_no_count_leaves_the_study_unproven() -> None:
    evidence = evidence_of(stack(0, 2, 4, images_in_acquisition=3) + stack(0, 2, 4, series="1.3"))

    assert evidence.expected is None


@pytest.mark.parametrize("told", [2, 0, -1], ids=["fewer than there are", "zero", "negative"])
def test_a_count_that_cannot_be_is_not_believed(told: int) -> None:
    evidence = evidence_of(stack(0, 2, 4, images_in_acquisition=told))

    assert note_of(evidence) == "quiet: no gaps"


@pytest.mark.parametrize(
    ("folder", "note"),
    [
        ("covid-P001", "quiet: no gaps"),
        ("normal-001", "quiet: no gaps"),
        ("edge-cases/gantrytilting-001", "quiet: no gaps"),
        ("edge-cases/notavolume-001", "quiet: not a volume"),
        ("edge-cases/sliceincrement-001", "incomplete: 1 gap"),
        ("edge-cases/sliceincrement-002", "incomplete: 1 gap"),
    ],
)
def test_real_series_get_the_right_note(shared_data: Path, folder: str, note: str) -> None:
    headers = [read_header(path) for path in (shared_data / "dicom" / folder).iterdir()]

    slices = [
        Slice(
            each.series_instance_uid,
            each.acquisition_number,
            each.images_in_acquisition,
            cast("Vector", tuple(each.image_position or ())),
            cast("Orientation", tuple(each.image_orientation or ())),
        )
        for each in headers
    ]
    assert note_of(evidence_of(slices)) == note
