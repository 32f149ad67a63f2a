from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import Engine

from db.models import Analysis, AnalysisState, AuditEvent, Disposition, Instance, Study
from db.session import transaction
from db.work import ANALYSES, take_back
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.settings import Rule
from lungnode.shown_maps import MAPS_FILE, read_maps
from tests.bench import NOON, PACS, Bench, OneProbability

NO_VERDICT = ("111245", "DCM")  # Source: PS3.16 Annex D, No algorithms succeeded


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=14, size=128)


@pytest.fixture
def bench(engine: Engine, tmp_path: Path) -> Bench:
    return Bench(engine, tmp_path)


def test_an_analysis_leaves_result_outputs_and_deliveries(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths, priority=1)

    first = bench.analyse()

    row = bench.row(row_id)
    assert {delivery.priority for delivery in row.deliveries} == {1}
    assert (row.state, row.verdict, row.attempts, row.finished_at) == ("done", "positive", 1, NOON)
    assert (row.model, row.model_digest, row.probability) == ("test 1", "ab" * 32, 0.75)
    assert [(d.destination, d.group, d.state) for d in row.deliveries] == [
        ("PACS", "sr", "pending"),
        ("PACS", "sc", "pending"),
    ]
    assert first == [row.deliveries[0].id]
    assert {output.group for output in row.outputs} == {"sr", "sr-comp", "sr-enh", "sc"}
    assert {"wait", "read", "decode", "coverage", "predict", "compose", "write"} <= set(row.phases)
    assert len(row.details["slices"]) == study.last - study.first + 1


def test_a_study_that_was_analysed_is_one_event_of_the_audit_trail(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    bench.analyse()
    bench.analyse()  # a second message finds nothing to do

    with transaction(bench.engine) as session:
        (event,) = session.query(AuditEvent)
    assert (event.action, event.subject, event.at) == ("study analysed", study.study_instance_uid, NOON)
    assert event.details == {"analysis": row_id, "revision": 1, "model": "test 1"}
    assert event.actor == "lungnode worker --queue analysis"


def test_every_committed_file_is_there_and_nothing_else_is(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    bench.analyse()

    outputs = bench.row(row_id).outputs
    for output in outputs:
        content = (bench.folder / "outputs" / output.path).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (output.size, output.digest)
    maps = f"{study.study_instance_uid}/1/{MAPS_FILE}"
    assert bench.files() == {output.path for output in outputs} | {maps}


def test_what_the_heatmaps_show_of_every_slice_is_kept_for_viewers(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    bench.analyse()

    shown = read_maps(bench.folder / "outputs" / study.study_instance_uid / "1" / MAPS_FILE)

    assert shown is not None
    count = len(bench.row(row_id).details["slices"])
    # The model of the bench has activation 1 everywhere, and is told that 1 is the scale's end.
    assert (shown.levels.shape, shown.levels.min(), len(shown.boxes)) == ((count, 2, 2), 255, count)
    assert all(0 <= box.top < box.bottom <= 128 for box in shown.boxes)


def test_a_few_numbers_say_what_the_model_was_given(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    bench.analyse()

    row = bench.row(row_id)
    told = row.input_statistics
    assert told["slices"] == len(row.details["slices"])
    positions = [float(dcmread(path).ImagePositionPatient[2]) for path in study.paths]
    assert told["spacing_mm"] == pytest.approx(positions[0] - positions[1], abs=0.001)
    assert 0 < told["gray_mean"] < 255
    assert 0 < told["gray_sd"] < 128


def test_a_message_that_comes_twice_changes_nothing(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    bench.analyse()
    before = bench.row(row_id)

    assert bench.analyse() == []

    after = bench.row(row_id)
    assert (after.attempts, len(after.deliveries)) == (1, 2)
    assert [o.digest for o in after.outputs] == [o.digest for o in before.outputs]


def test_a_run_that_lost_its_row_leaves_the_other_runs_files_alone(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    other = Bench(bench.engine, bench.folder, OneProbability(0.875))

    def fall_silent_and_be_replaced() -> None:
        bench.model.before_predict = lambda: None
        other.now = NOON + timedelta(hours=1)
        with transaction(bench.engine) as session:
            assert take_back(session, ANALYSES, other.now, max_attempts=2) == [row_id]
        other.analyse()

    bench.model.before_predict = fall_silent_and_be_replaced
    first = bench.analyse()

    row = bench.row(row_id)
    assert (first, row.probability, row.attempts, len(row.deliveries)) == ([], 0.875, 2, 2)
    maps = f"{study.study_instance_uid}/1/{MAPS_FILE}"
    assert bench.files() == {output.path for output in row.outputs} | {maps}
    for output in row.outputs:
        assert sha256((bench.folder / "outputs" / output.path).read_bytes()).hexdigest() == output.digest


def test_a_worker_that_is_stopped_puts_the_study_back_between_two_batches(
    bench: Bench, study: PhantomStudy
) -> None:
    row_id = bench.archive(study.paths)

    def ask_to_stop() -> None:
        bench.stopping = True

    bench.model.before_predict = ask_to_stop
    assert bench.analyse() == []

    row = bench.row(row_id)
    assert (row.state, row.attempts, row.lease_owner, row.outputs) == (AnalysisState.QUEUED, 0, "", [])
    assert bench.files() == set()


def test_a_failure_is_kept_with_its_traceback_and_tried_again(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    bench.model.error = RuntimeError("out of memory")
    bench.analyse()

    row = bench.row(row_id)
    assert (row.state, row.attempts) == (AnalysisState.FAILED, 1)
    assert row.reason == "Attempt 1 failed: RuntimeError, out of memory"
    assert row.error.startswith("Traceback")
    assert "raise self.error" in row.error

    bench.model.error, bench.now = None, row.due_at
    bench.analyse()
    assert (bench.row(row_id).state, bench.row(row_id).attempts) == (AnalysisState.DONE, 2)


def test_after_the_last_attempt_the_study_is_quarantined_and_reported_as_without_verdict(
    bench: Bench, study: PhantomStudy
) -> None:
    row_id = bench.archive(study.paths)
    bench.model.error = RuntimeError("out of memory")
    for _ in range(3):
        first = bench.analyse()
        bench.now = bench.row(row_id).due_at

    row = bench.row(row_id)
    report = bench.output(row_id, "sr")
    assert (row.state, row.verdict, row.probability) == (AnalysisState.QUARANTINED, "error", None)
    assert row.reason == "The analysis was given up after 2 attempts."
    assert "out of memory" in row.error
    assert [(d.id, d.group) for d in row.deliveries] == [(first[0], "sr")]
    assert NO_VERDICT in codes_of(report)
    assert evidence_of(report) == {dcmread(path).SOPInstanceUID for path in study.paths}


def test_a_study_that_kills_its_workers_is_reported_and_quarantined(
    bench: Bench, study: PhantomStudy
) -> None:
    row_id = bench.archive(study.paths, attempts=2)  # as the clerk leaves what two workers died of

    bench.analyse()

    assert bench.row(row_id).state == AnalysisState.QUARANTINED
    assert NO_VERDICT in codes_of(bench.output(row_id, "sr"))


def test_slices_without_pixels_are_reported_as_without_verdict_at_once(
    bench: Bench, study: PhantomStudy, tmp_path: Path
) -> None:
    row_id = bench.archive(tuple(damaged(path, tmp_path / "damaged") for path in study.paths))

    bench.analyse()

    row = bench.row(row_id)
    assert (row.state, row.verdict, row.attempts) == (AnalysisState.QUARANTINED, "error", 1)
    assert NO_VERDICT in codes_of(bench.output(row_id, "sr"))


def damaged(path: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    ds = dcmread(path)
    ds.PixelData = ds.PixelData[:100]
    ds.save_as(folder / path.name)
    return folder / path.name


@pytest.mark.parametrize("asked", [True, False])
def test_a_study_that_is_no_chest_is_told_only_to_who_asks(
    bench: Bench, study: PhantomStudy, asked: bool
) -> None:
    bench.destinations = (PACS.model_copy(update={"not_applicable": asked}),)
    row_id = bench.archive(study.paths[:3])  # too few slices

    bench.analyse()

    row = bench.row(row_id)
    assert (row.state, row.verdict) == (AnalysisState.NOT_APPLICABLE, "not_applicable")
    assert row.reason
    assert [d.group for d in row.deliveries] == (["sr"] if asked else [])
    assert bool(row.outputs) is asked


def test_a_study_without_images_is_not_applicable(bench: Bench, study: PhantomStudy, tmp_path: Path) -> None:
    bench.destinations = (PACS.model_copy(update={"not_applicable": True}),)
    ds = dcmread(study.paths[0])
    del ds.Rows
    ds.save_as(tmp_path / "document.dcm")
    row_id = bench.archive((tmp_path / "document.dcm",))

    bench.analyse()

    assert (bench.row(row_id).state, bench.row(row_id).outputs) == (AnalysisState.NOT_APPLICABLE, [])


def test_conflicting_instances_and_later_slices_are_left_out(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    with transaction(bench.engine) as session:
        first, second, *_ = session.query(Instance).order_by(Instance.id)
        first.disposition, second.revision = Disposition.CONFLICT, 2

    bench.analyse()

    assert evidence_of(bench.output(row_id, "sr")) <= {
        dcmread(path).SOPInstanceUID for path in study.paths[2:]
    }


def test_a_second_revision_names_the_report_of_the_first_in_its_own_class(
    bench: Bench, study: PhantomStudy
) -> None:
    one = bench.archive(study.paths[:12])
    bench.analyse()
    two = bench.archive(study.paths[12:], revision=2)
    bench.analyse()

    for group in ("sr", "sr-comp", "sr-enh"):
        earlier = bench.output(one, group)
        named = bench.output(two, group).PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
        assert named.SeriesInstanceUID == earlier.SeriesInstanceUID
        assert [
            (i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in named.ReferencedSOPSequence
        ] == [(earlier.SOPClassUID, earlier.SOPInstanceUID)]
    assert "PredecessorDocumentsSequence" not in bench.output(one, "sr")
    assert len({output.series_instance_uid for row in (one, two) for output in bench.row(row).outputs}) == 8


def test_a_second_revision_waits_for_the_first_and_is_woken_by_its_end(
    bench: Bench, study: PhantomStudy
) -> None:
    one = bench.archive(study.paths[:12], state=AnalysisState.FAILED, due_at=NOON + timedelta(seconds=5))
    two = bench.archive(study.paths[12:], revision=2, woken_at=NOON)

    assert bench.analyse() == []
    assert bench.row(two).state == AnalysisState.QUEUED
    bench.now = bench.row(one).due_at
    bench.analyse()

    assert (bench.row(one).state, bench.row(two).woken_at) == (AnalysisState.DONE, None)


def test_each_destination_gets_what_it_is_set_to_in_its_order(bench: Bench, study: PhantomStudy) -> None:
    bench.destinations = (
        PACS,
        PACS.model_copy(update={"name": "REPORTS", "outputs": ("sr",), "keep_character_set": True}),
        PACS.model_copy(update={"name": "RESEARCH", "outputs": ("pm", "sc", "sr"), "multi_frame": True}),
        PACS.model_copy(update={"name": "ELSEWHERE"}),
    )
    bench.rules = (Rule(name="ours", destinations=("PACS", "REPORTS", "RESEARCH")),)
    row_id = bench.archive(study.paths)
    with transaction(bench.engine) as session:
        session.query(Study).one().rule = "ours"

    first = bench.analyse()

    rows = bench.row(row_id).deliveries
    assert [(row.destination, row.group) for row in rows] == [
        ("PACS", "sr"),
        ("PACS", "sc"),
        ("REPORTS", "sr+src"),
        ("RESEARCH", "pm"),
        ("RESEARCH", "sc-multi"),
        ("RESEARCH", "sr"),
    ]
    assert first == [rows[0].id, rows[2].id, rows[3].id]


def test_without_a_destination_the_outputs_are_kept_all_the_same(bench: Bench, study: PhantomStudy) -> None:
    bench.destinations = ()
    row_id = bench.archive(study.paths)

    assert bench.analyse() == []
    assert {output.group for output in bench.row(row_id).outputs} >= {"sr", "sc"}


def test_what_a_killed_run_left_is_cleared_by_the_next(bench: Bench, study: PhantomStudy) -> None:
    row_id = bench.archive(study.paths)
    leftover = bench.folder / "outputs/staging" / f"{row_id}-dead" / "1.2.3.dcm"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")

    bench.analyse()

    assert not leftover.exists()


def test_the_most_urgent_study_is_analysed_first_whatever_the_message_says(
    bench: Bench, study: PhantomStudy
) -> None:
    bench.archive(study.paths)
    with transaction(bench.engine) as session:
        other = Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON)
        session.add(Analysis(study=other, revision=1, created_at=NOON, due_at=NOON, priority=0))

    bench.analyse()

    with transaction(bench.engine) as session:
        states = {row.priority: row.state for row in session.query(Analysis)}
    assert states == {0: AnalysisState.NOT_APPLICABLE, 5: AnalysisState.QUEUED}


def codes_of(report: Dataset) -> set[tuple[str, str]]:
    """All coded values in the content tree."""
    found = set()
    for item in report.get("ContentSequence", []):
        for code in item.get("ConceptCodeSequence", []):
            found.add((str(code.CodeValue), str(code.CodingSchemeDesignator)))
        found |= codes_of(item)
    return found


def evidence_of(report: Dataset) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
