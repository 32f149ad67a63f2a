"""Outputs for a corrected patient, and rejection notes for those of the wrong one, at a real PACS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import Engine, delete, select

from db.corrections import Said, correct
from db.models import Delivery, DeliveryState, Output, Study
from db.session import transaction
from db.work import DELIVERIES, Claim, claim
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.phantom.study import Patient
from lungnode.settings import DicomDestination
from tests.bench import NOON, PACS, Bench
from tests.databases import new_sqlite
from tests.orthanc import Orthanc, running_orthanc
from tests.validators import iod_errors, report_text
from worker.courier import deliver_row
from worker.hold import Node
from worker.rejections import ensure_note

NAMES = {"PatientID": "4712", "PatientName": "Müller^Jörg", "PatientBirthDate": "19610203", "PatientSex": "M"}
WHY = "The patient was corrected: PatientBirthDate, PatientID, PatientName, PatientSex."


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(
        tmp_path_factory.mktemp("phantom"), slices=14, size=128, patient=Patient(patient_id="4711")
    )


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    yield Bench(engine, tmp_path)
    engine.dispose()


def say(bench: Bench, attributes: dict[str, str]) -> None:
    """Correct the study as the command line does."""
    with transaction(bench.engine) as session:
        row = session.scalars(select(Study)).one()
        row.revision = max(row.revision, 1)
        correct(session, bench.settings, row, Said(attributes, "test"), bench.now)


def corrected(bench: Bench, study: PhantomStudy, attributes: dict[str, str]) -> int:
    """Analyse a study as it came, correct it, and analyse it again; returns the second analysis."""
    bench.archive(study.paths)
    bench.analyse()
    say(bench, attributes)
    two = bench.archive((), revision=2)
    bench.analyse()
    return two


def test_all_outputs_name_the_corrected_patient_and_are_valid(bench: Bench, study: PhantomStudy) -> None:
    bench.destinations = (PACS.model_copy(update={"outputs": ("sr", "sc", "pm", "kos")}),)
    two = corrected(bench, study, NAMES)

    outputs = bench.row(two).outputs
    assert {output.group for output in outputs} == {"sr", "sr-comp", "sr-enh", "sc", "pm", "kos"}
    for output in outputs:
        path = bench.folder / "outputs" / output.path
        ds = dcmread(path)
        assert {keyword: str(ds[keyword].value) for keyword in NAMES} == NAMES
        assert iod_errors(path) == []
    report = bench.output(two, "sr")
    earlier = bench.output(1, "sr")
    named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == earlier.SOPInstanceUID
    assert earlier.PatientID == "4711"


def test_a_name_that_the_sources_character_set_lacks_is_written_in_unicode(
    bench: Bench, study: PhantomStudy
) -> None:
    bench.destinations = (PACS.model_copy(update={"keep_character_set": True}),)
    two = corrected(bench, study, {"PatientName": "Yamada^Tarou=山田^太郎"})

    report = bench.output(two, "sr+src")
    assert (report.SpecificCharacterSet, str(report.PatientName)) == ("ISO_IR 192", "Yamada^Tarou=山田^太郎")
    assert bench.output(1, "sr+src").SpecificCharacterSet == "ISO_IR 100"


def test_what_else_names_the_wrong_patient_or_order_is_left_out(
    bench: Bench, study: PhantomStudy, tmp_path: Path
) -> None:
    paths = tuple(_named_otherwise(path, tmp_path / "named") for path in study.paths)
    one = bench.archive(paths)
    bench.analyse()
    say(bench, {"PatientID": "4712", "IssuerOfPatientID": "HOSPITAL", "AccessionNumber": "A2"})
    two = bench.archive((), revision=2)
    bench.analyse()

    before, after = bench.output(one, "sr"), bench.output(two, "sr")
    assert (before.OtherPatientIDs, before.IssuerOfPatientID) == ("4711-OLD", "WRONG")
    assert (after.PatientID, after.IssuerOfPatientID, after.AccessionNumber) == ("4712", "HOSPITAL", "A2")
    assert "OtherPatientIDs" not in after
    assert "OtherPatientNames" not in after
    assert "ReferencedRequestSequence" in before
    assert "ReferencedRequestSequence" not in after


def _named_otherwise(path: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    ds, request = dcmread(path), Dataset()
    ds.OtherPatientIDs, ds.OtherPatientNames, ds.IssuerOfPatientID = "4711-OLD", "Other^Name", "WRONG"
    ds.AccessionNumber = "A1"
    request.AccessionNumber, request.RequestedProcedureID = "A1", "R1"
    ds.RequestAttributesSequence = [request]
    ds.save_as(folder / path.name)
    return folder / path.name


def test_a_result_that_is_withdrawn_while_it_is_made_is_kept_and_not_delivered(
    bench: Bench, study: PhantomStudy
) -> None:
    one = bench.archive(study.paths)
    bench.model.before_predict = lambda: say(bench, NAMES)

    assert bench.analyse() == []

    row = bench.row(one)
    assert (row.state, row.verdict, row.withdrawn) == ("done", "positive", WHY)
    assert (bool(row.outputs), row.deliveries) == (True, [])


def test_an_analysis_that_was_withdrawn_before_it_began_is_passed_over(
    bench: Bench, study: PhantomStudy
) -> None:
    one = bench.archive(study.paths)
    say(bench, NAMES)
    two = bench.archive((), revision=2, woken_at=NOON)

    assert bench.analyse() == []

    row = bench.row(one)
    assert (row.state, row.verdict, row.reason, row.outputs) == ("not_applicable", "not_applicable", WHY, [])
    assert bench.row(two).woken_at is None
    bench.analyse()
    assert bench.row(two).state == "done"


def at(orthanc: Orthanc, **changes: object) -> DicomDestination:
    values = {"name": "PACS", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
    return DicomDestination.model_validate({**values, "rejection_notes": True, **changes})


def deliver(bench: Bench) -> None:
    """Do what a delivery worker does until nothing is due."""
    node = Node(bench.engine, bench.settings, lambda: False, lambda: bench.now)
    for _ in range(10):
        with transaction(bench.engine) as session:
            due = list(session.scalars(select(Delivery.id).where(Delivery.state == DeliveryState.PENDING)))
        for row_id in due:
            deliver_row(node, row_id)


def test_the_pacs_gets_a_rejection_note_for_exactly_what_it_has_of_the_wrong_patient(
    engine: Engine, orthanc: Orthanc, tmp_path: Path
) -> None:
    bench = Bench(engine, tmp_path)
    seed = len(bench.engine.dialect.name)  # the PACS keeps what it got with the other database
    own = phantom_study(tmp_path / "s", slices=14, size=128, seed=seed, patient=Patient(patient_id="4711"))
    uid = own.study_instance_uid
    bench.destinations = (at(orthanc),)
    one = bench.archive(own.paths)
    bench.analyse()
    deliver(bench)
    held = {str(ds.SOPInstanceUID) for ds in orthanc.instances(uid)}
    assert len(held) > 3

    say(bench, NAMES)
    deliver(bench)

    (note,) = orthanc.instances(uid, "KO")
    assert (note.PatientID, note.StudyInstanceUID) == ("4711", uid)
    title = note.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113037", "DCM")
    assert referenced(note) == held
    named = [
        item.ReferencedSOPSequence[0] for item in note.ContentSequence if "ReferencedSOPSequence" in item
    ]
    assert {str(item.ReferencedSOPInstanceUID) for item in named} == held
    rows = bench.row(one).deliveries
    assert [(row.group, row.state) for row in rows] == [
        ("sr", "stored"), ("sc", "stored"), ("rn-113037-1", "stored")
    ]  # fmt: skip


def referenced(note: Dataset) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def stored(bench: Bench, study: PhantomStudy) -> int:
    """An analysed study whose results are at the destination, and then withdrawn; returns the note's row."""
    bench.destinations = (PACS.model_copy(update={"rejection_notes": True}),)
    bench.archive(study.paths)
    bench.analyse()
    with transaction(bench.engine) as session:
        for row in session.scalars(select(Delivery)):
            row.state, row.negotiated_at = DeliveryState.STORED, NOON
    say(bench, NAMES)
    with transaction(bench.engine) as session:
        return session.scalars(select(Delivery.id).where(Delivery.group == "rn-113037-1")).one()


def held(bench: Bench, row_id: int) -> Claim:
    mine = Claim(DELIVERIES, row_id, "test")
    with transaction(bench.engine) as session:
        assert claim(session, mine, bench.now, 60)
    return mine


def test_a_rejection_note_is_valid_and_composed_with_the_same_bytes_again(
    bench: Bench, study: PhantomStudy
) -> None:
    row_id = stored(bench, study)
    node, mine = Node(bench.engine, bench.settings, lambda: False, lambda: bench.now), held(bench, row_id)

    assert ensure_note(node, mine, "rn-113037-1")
    assert not ensure_note(node, mine, "rn-113037-1")  # it is there
    (output,) = (output for output in bench.row(1).outputs if output.group.startswith("rn"))
    path = bench.folder / "outputs" / output.path
    content = path.read_bytes()
    assert iod_errors(path) == []
    assert "Rejected for Patient Safety Reasons" in report_text(path)

    path.unlink()
    with transaction(bench.engine) as session:
        session.execute(delete(Output).where(Output.id == output.id))
    assert ensure_note(node, mine, "rn-113037-1")
    assert path.read_bytes() == content


def test_results_whose_files_are_deleted_cannot_be_rejected_and_the_row_says_so(
    bench: Bench, study: PhantomStudy
) -> None:
    row_id = stored(bench, study)
    with transaction(bench.engine) as session:
        for output in session.scalars(select(Output)):
            (bench.folder / "outputs" / output.path).unlink()
            output.deleted_at = NOON

    deliver(bench)

    with transaction(bench.engine) as session:
        row = session.get_one(Delivery, row_id)
        assert row.state == "refused"
        assert row.reason.startswith("The files of the rejected results are deleted")
        assert row.advice == "Have the destination reject the results itself."


def test_a_delivery_whose_result_was_withdrawn_is_ended_and_a_note_about_nothing_as_well(
    bench: Bench, study: PhantomStudy
) -> None:
    bench.destinations = (PACS.model_copy(update={"rejection_notes": True, "port": 1}),)
    bench.archive(study.paths)
    bench.analyse()
    with transaction(bench.engine) as session:  # under way, and lost before its first byte
        session.get_one(Delivery, 1).state = DeliveryState.SENDING
    say(bench, NAMES)
    with transaction(bench.engine) as session:
        session.get_one(Delivery, 1).state = DeliveryState.PENDING

    deliver(bench)

    rows = bench.row(1).deliveries
    assert [(row.group, row.state, row.attempts) for row in rows] == [
        ("sr", "withdrawn", 0), ("sc", "withdrawn", 0), ("rn-113037-1", "withdrawn", 0)
    ]  # fmt: skip
    assert [row.reason for row in rows] == [WHY, WHY, "Nothing of the rejected results has arrived there."]


def test_refused_instances_are_not_named_by_the_note(bench: Bench, study: PhantomStudy) -> None:
    row_id = stored(bench, study)
    with transaction(bench.engine) as session:
        captures = list(session.scalars(select(Output.sop_instance_uid).where(Output.group == "sc")))
        row = session.scalars(select(Delivery).where(Delivery.group == "sc")).one()
        row.instances = [{"sop_instance_uid": uid, "meaning": "refused"} for uid in captures[1:]]
    node = Node(bench.engine, bench.settings, lambda: False, lambda: bench.now)
    ensure_note(node, held(bench, row_id), "rn-113037-1")

    note = bench.output(1, "rn-113037-1")
    report = bench.output(1, "sr").SOPInstanceUID
    assert referenced(note) == {str(report), captures[0]}
    assert str(note.PatientID) == "4711"
    assert bench.row(1).withdrawn == WHY
