"""The composition of an analysis, with a model whose answer is known and slices that are phantoms."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from pydicom import dcmread

from lungnode.errors import UnusableError
from lungnode.loading import read_grays
from lungnode.model_folder import Decision
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.pixels import Gray
from lungnode.series import SliceHeader, slice_headers
from lungnode.stack import Reader
from tests.ct_images import enhanced
from tests.toy_model import MeanGray
from worker.analysis import analyse
from worker.conduct import Conduct
from worker.result import StudyFinding, Verdict

SLICES = 24


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=SLICES, size=128)


@pytest.fixture(scope="module")
def headers(study: PhantomStudy) -> list[SliceHeader]:
    return [header for path in study.paths for header in slice_headers(dcmread(path), path)]


def run(
    headers: Sequence[SliceHeader],
    read: Reader = read_grays,
    model: MeanGray | None = None,
    proceed: Callable[[str, int, int], None] = lambda *_: None,
) -> StudyFinding:
    ticks = count()
    finding, _ = analyse(headers, read, model or MeanGray(), Conduct(lambda: float(next(ticks)), proceed))
    return finding


def failing(numbers: set[int]) -> Reader:
    """Read all slices but these, counted from the top."""

    def read(slices: Sequence[SliceHeader]) -> Iterator[Gray | UnusableError]:
        for number, gray in enumerate(read_grays(slices)):
            yield UnusableError(f"slice {number} is damaged") if number in numbers else gray

    return read


def negative() -> MeanGray:
    model = MeanGray()
    model.decision = Decision(threshold=1.0)
    return model


def test_every_slice_that_shows_lung_is_predicted_from_top_to_bottom(
    study: PhantomStudy, headers: list[SliceHeader]
) -> None:
    finding = run(headers)

    assert len(finding.slices) == study.last - study.first + 1
    assert [s.position_mm for s in finding.slices] == sorted(
        (s.position_mm for s in finding.slices), reverse=True
    )
    assert finding.series_instance_uid == study.series_instance_uid


def test_the_order_of_the_files_changes_nothing(headers: list[SliceHeader]) -> None:
    shuffled = [headers[index] for index in np.random.default_rng(0).permutation(len(headers))]

    assert [s.sop_instance_uid for s in run(shuffled).slices] == [
        s.sop_instance_uid for s in run(headers).slices
    ]
    assert run(shuffled).probability == run(headers).probability


def test_slices_go_through_the_model_in_its_batches(headers: list[SliceHeader]) -> None:
    model = MeanGray(batch=5)

    finding = run(headers, model=model)

    assert sum(model.batches) == len(finding.slices)
    assert set(model.batches[:-1]) == {5}


def test_frames_of_an_enhanced_ct_are_slices_like_others(
    study: PhantomStudy, headers: list[SliceHeader], tmp_path: Path
) -> None:
    path = tmp_path / "enhanced.dcm"
    enhanced([dcmread(each) for each in study.paths]).save_as(path, enforce_file_format=True)

    finding = run(slice_headers(dcmread(path, stop_before_pixels=True), path))

    single = run(headers)
    assert finding.probability == single.probability
    assert [s.probability for s in finding.slices] == [s.probability for s in single.slices]
    assert {s.frame for s in finding.slices} == set(range(study.first + 1, study.last + 2))


def test_a_model_that_finds_nothing_in_a_whole_lung_says_negative(headers: list[SliceHeader]) -> None:
    finding = run(headers, model=negative())

    assert (finding.verdict, finding.reason) == (Verdict.NEGATIVE, "")


def test_slices_that_cannot_be_decoded_are_noted_and_the_rest_is_analysed(
    headers: list[SliceHeader], study: PhantomStudy
) -> None:
    finding = run(headers, failing({study.first + 3}))

    assert len(finding.slices) == study.last - study.first
    assert any(
        f"1 of {SLICES} slices could not be decoded; the first: slice {study.first + 3} is damaged" in note
        for note in finding.choice
    )


def test_nothing_found_in_half_a_lung_is_undetermined(
    headers: list[SliceHeader], study: PhantomStudy
) -> None:
    finding = run(headers, failing(set(range(study.first + 3, study.first + 9))), negative())

    assert finding.verdict is Verdict.UNDETERMINED
    assert "6 slices of the lung" in finding.reason


def test_a_study_of_which_nothing_can_be_decoded_is_an_error_with_the_reason(
    headers: list[SliceHeader],
) -> None:
    finding = run(headers, failing(set(range(SLICES))))

    assert (finding.verdict, finding.probability, finding.slices) == (Verdict.ERROR, None, ())
    assert finding.reason == f"None of {SLICES} slices could be decoded; the first: slice 0 is damaged"


def test_a_study_without_ct_slices_is_not_applicable(headers: list[SliceHeader]) -> None:
    finding = run([replace(header, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")) for header in headers])

    assert finding.verdict is Verdict.NOT_APPLICABLE
    assert f"{SLICES} of {SLICES} images left out: a localizer" in finding.reason


def test_a_study_whose_pixels_show_no_lung_is_not_applicable_whatever_its_headers_say(
    headers: list[SliceHeader],
) -> None:
    model = MeanGray()

    finding = run(headers, lambda slices: iter([np.full((128, 128), 200, np.uint8)] * len(slices)), model)

    assert (finding.verdict, model.batches) == (Verdict.NOT_APPLICABLE, [])
    assert finding.reason == "No lung is seen on any slice."


def test_an_analysis_can_be_stopped_between_two_batches(headers: list[SliceHeader]) -> None:
    class Stopped(Exception):  # noqa: N818 - nothing is wrong
        pass

    model = MeanGray()

    def stop(phase: str, done: int, _total: int) -> None:
        if phase == "predict" and done >= 2 * model.batch:
            raise Stopped

    with pytest.raises(Stopped):
        run(headers, model=model, proceed=stop)
    assert model.batches == [4, 4]


def test_every_phase_is_timed(headers: list[SliceHeader]) -> None:
    ticks = count()

    _, seconds = analyse(headers, read_grays, MeanGray(), Conduct(lambda: float(next(ticks))))

    assert seconds == {"choose": 1, "decode": 1, "coverage": 1, "predict": 1}


def test_a_picked_slice_is_judged_without_its_study(headers: list[SliceHeader], study: PhantomStudy) -> None:
    middle = headers[(study.first + study.last) // 2]

    finding, _ = analyse([middle], read_grays, negative(), Conduct(lambda: 0.0), picked=True)

    assert (finding.verdict, len(finding.slices)) == (Verdict.NEGATIVE, 1)
    assert finding.probability == pytest.approx(finding.slices[0].probability, abs=1e-6)


def test_a_picked_slice_without_lung_has_a_probability_beside_its_verdict(headers: list[SliceHeader]) -> None:
    blank: Reader = lambda slices: iter([np.full((128, 128), 200, np.uint8)] * len(slices))  # noqa: E731
    head = replace(headers[0], body_part="HEAD")

    finding, _ = analyse([head], blank, MeanGray(), Conduct(lambda: 0.0), picked=True)

    assert (finding.verdict, finding.reason) == (Verdict.NOT_APPLICABLE, "No lung is seen on any slice.")
    assert finding.probability is not None


def test_slices_predicted_while_others_are_decoded_change_nothing(tmp_path: Path) -> None:
    long = phantom_study(tmp_path, slices=70, size=128)  # so many that some are looked at first
    headers = [header for path in long.paths for header in slice_headers(dcmread(path), path)]
    predicted = Event()
    model = MeanGray(batch=5)

    def hold_back_the_last(slices: Sequence[SliceHeader]) -> Iterator[Gray | UnusableError]:
        for number, gray in enumerate(read_grays(slices)):
            if number == len(slices) - 1:
                assert predicted.wait(60)
            yield gray

    def note(phase: str, _done: int, _total: int) -> None:
        if phase == "predict":
            predicted.set()

    finding = run(headers, hold_back_the_last, model, note)

    assert set(model.batches[:-1]) == {5}
    assert len(finding.slices) == long.last - long.first + 1
    for found in finding.slices:
        header = next(h for h in headers if h.sop_instance_uid == found.sop_instance_uid)
        (alone,) = analyse([header], read_grays, MeanGray(), Conduct(lambda: 0.0), picked=True)[0].slices
        assert found.probability == alone.probability


def test_at_most_so_many_slices_are_looked_at_and_the_reader_is_told(
    headers: list[SliceHeader], study: PhantomStudy
) -> None:
    asked: list[int] = []

    def counting(slices: Sequence[SliceHeader]) -> Iterator[Gray | UnusableError]:
        asked.append(len(slices))
        return read_grays(slices)

    few, _ = analyse(headers, counting, negative(), Conduct(lambda: 0.0, at_most=12))

    assert asked == [12]  # every second one
    assert len(few.slices) == pytest.approx((study.last - study.first + 1) / 2, abs=1)
    assert few.verdict is Verdict.NEGATIVE  # what was left out is not missing
    assert f"12 of {SLICES} slices, evenly spread, were looked at." in few.choice


def test_a_gap_is_seen_in_a_sample_as_well(headers: list[SliceHeader], study: PhantomStudy) -> None:
    holed = [h for number, h in enumerate(headers) if not study.first + 2 <= number < study.first + 11]

    few, _ = analyse(holed, read_grays, negative(), Conduct(lambda: 0.0, at_most=10))

    assert few.verdict is Verdict.UNDETERMINED
