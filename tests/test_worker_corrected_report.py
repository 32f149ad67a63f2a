"""Corrected reports: what a reader says stands in a report of its own, above what the algorithm found."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from pydicom import dcmread
from pydicom.dataset import Dataset

from db.feedback import Said, correct_report, give_feedback
from db.models import Agreement, LabelValue, Study, StudyState
from db.session import transaction
from lungnode.narrative import describe
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.settings import FhirDestination, Hl7Destination
from tests.bench import PACS, Bench
from tests.databases import new_sqlite
from tests.findings import as_bytes, context, ct_study, finding
from tests.test_worker_messages_diagnostic_report import bundle, resources
from tests.test_worker_messages_oru import fields, message
from tests.test_worker_report import values
from tests.validators import iod_errors
from worker.outputs.compose import compose
from worker.result import Reading, Verdict

EHR = FhirDestination(name="ehr", kind="fhir", url="https://fhir.example.org/r4")
RIS = Hl7Destination(name="ris", kind="hl7", host="127.0.0.1", port=2575)
EVERYTHING = PACS.model_copy(update={"outputs": ("sr", "sc", "pm", "kos")})
PRESENT, ABSENT, UNDETERMINED = "52101004", "272519000", "121059"


def report(
    said: Verdict = Verdict.NEGATIVE, *, of: int = 2, group: str = "sr", remark: str = "Alte Narben, größer"
) -> Dataset:
    """The report of revision 2; a reader corrected that of revision `of`."""
    study = ct_study()
    told = context(revision=2, reading=Reading("dr.x", said, remark, of))
    (made,) = compose(finding(study, Verdict.POSITIVE), told, study.sources, study.gray, {group})
    return dcmread(io.BytesIO(as_bytes(made.dataset)))


@pytest.mark.parametrize(
    ("said", "code", "sentence"),
    [
        (Verdict.NEGATIVE, ABSENT, "No signs of COVID-19 pneumonia seen by reader dr.x."),
        (Verdict.POSITIVE, PRESENT, "Signs of COVID-19 pneumonia seen by reader dr.x."),
        (Verdict.UNDETERMINED, UNDETERMINED, "Presence of COVID-19 pneumonia undetermined by reader dr.x."),
    ],
)
def test_a_reader_s_words_stand_beside_the_algorithm_s_with_the_reader_as_observer(
    said: Verdict, code: str, sentence: str
) -> None:
    made = report(said)

    assert made.SeriesDescription == "Lungnode report, corrected"
    assert values(made, "121052") == [PRESENT, code]
    assert values(made, "122157") == ["0.8125"]
    text = describe(made)
    assert "Person Observer Name: dr.x" in text
    assert f"Conclusion: Corrected: {sentence} Signs of COVID-19 pneumonia found by the algorithm." in text
    assert (made.VerificationFlag, made.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_a_remark_is_spelled_in_letters_that_every_destination_has() -> None:
    assert values(report(), "121106")[0] == "Remark of reader dr.x: Alte Narben, grosser"
    assert values(report(remark=""), "121106")[0].startswith("Completeness")


@pytest.mark.parametrize("group", ["sr", "sr-comp", "sr-enh", "sr+src"])
def test_a_corrected_report_is_valid_in_each_class(tmp_path: Path, group: str) -> None:
    path = tmp_path / "report.dcm"
    report(group=group).save_as(path)

    assert iod_errors(path) == []


def test_a_later_analysis_reports_the_algorithm_and_says_that_it_was_corrected_before() -> None:
    made = report(of=1)

    assert (made.SeriesDescription, values(made, "121052")) == ("Lungnode report", [PRESENT])
    assert values(made, "121077") == ["Signs of COVID-19 pneumonia found by the algorithm."]
    assert values(made, "121106")[0] == (
        "Report of revision 1, corrected: No signs of COVID-19 pneumonia seen by reader dr.x."
    )


def test_a_fhir_server_gets_the_reader_s_finding_under_the_same_identifier() -> None:
    made, before = report(), report(of=1)

    assert Bundle.model_validate(bundle(made)).type == "transaction"
    found = resources(made)
    assert found["Observation"]["valueCodeableConcept"]["coding"][0]["code"] == ABSENT
    assert found["Observation"]["performer"] == [{"display": "dr.x"}]
    assert found["DiagnosticReport"]["resultsInterpreter"] == [{"display": "dr.x"}]
    assert "conclusionCode" not in found["DiagnosticReport"]
    assert found["DiagnosticReport"]["conclusion"].startswith("Corrected: No signs of COVID-19 pneumonia")
    assert found["Observation"]["identifier"] == resources(before)["Observation"]["identifier"]
    assert "performer" not in resources(before)["Observation"]


def test_a_ris_gets_the_reader_s_finding_with_the_reader_as_its_observer() -> None:
    text = message(report())

    assert parse_message(text, validation_level=VALIDATION_LEVEL.STRICT).validate()
    (row,) = [obx for obx in fields(text, "OBX") if obx[3].startswith("840539006")]
    assert (row[5].partition("^")[0], row[16]) == (ABSENT, "dr.x")
    others = [obx for obx in fields(text, "OBX") if obx is not row and not obx[3].startswith("840539006")]
    assert others
    assert all("dr.x" not in obx[16:] for obx in others)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=14, size=128)


@pytest.fixture
def bench(tmp_path: Path, phantom: PhantomStudy) -> Iterator[Bench]:
    """A node that has analysed revision 1 and may be asked to correct its report."""
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    made = Bench(engine, tmp_path, destinations=(EVERYTHING, EHR, RIS))
    made.archive(phantom.paths)
    made.analyse()
    with transaction(engine) as session:
        study = session.query(Study).one()
        study.revision, study.state = 1, StudyState.COMPLETE
    yield made
    engine.dispose()


def correct(bench: Bench, **said: Any) -> int:
    """Say what reader dr.x says of the last result and ask for a corrected report; returns its analysis."""
    told = {"agreement": Agreement.DISAGREE, "value": LabelValue.NEGATIVE, "remark": "Old scars."} | said
    with transaction(bench.engine) as session:
        study = session.query(Study).one()
        give_feedback(session, study, Said("dr.x", **told), bench.now)
        return correct_report(session, study, "dr.x", bench.now).id


def test_a_corrected_report_alone_is_sent_and_names_the_one_before(bench: Bench) -> None:
    two = correct(bench)

    first = bench.analyse()

    row = bench.row(two)
    assert (row.revision, row.state, row.verdict) == (2, "done", "positive")
    assert {output.group for output in row.outputs} == {"sr", "sr-comp", "sr-enh"}
    sent = {delivery.destination: delivery.group for delivery in row.deliveries}
    assert sent == {"PACS": "sr", "ehr": "fhir", "ris": "hl7"}
    assert first == [delivery.id for delivery in row.deliveries]
    made = bench.output(two, "sr")
    assert values(made, "121052") == [PRESENT, ABSENT]
    named = made.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == bench.output(1, "sr").SOPInstanceUID
    assert iod_errors(bench.folder / "outputs" / row.outputs[0].path) == []


def test_who_corrects_a_corrected_report_is_heard_last(bench: Bench) -> None:
    correct(bench)
    bench.analyse()
    three = correct(bench, agreement=Agreement.UNCERTAIN, value=None)

    bench.analyse()

    assert values(bench.output(three, "sr"), "121052") == [PRESENT, UNDETERMINED]


def test_what_was_withdrawn_is_not_repeated(bench: Bench) -> None:
    two = correct(bench)
    bench.analyse()
    with transaction(bench.engine) as session:
        study = session.query(Study).one()
        for analysis in study.analyses:
            analysis.withdrawn = "The patient was corrected."
    three = bench.archive((), revision=3)

    bench.analyse()

    assert bench.row(two).reading["reader"] == "dr.x"
    assert "dr.x" not in describe(bench.output(three, "sr"))
