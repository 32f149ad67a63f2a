"""Text that would do harm if it were taken for more than text: through clerk, database, analysis, report."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from sqlalchemy import text

from db.models import Analysis, Disposition
from lungnode.phantom import PhantomStudy, phantom_study
from tests.bench import Bench
from tests.spooling import ClerkNode, write
from tests.validators import iod_errors, report_text

SQL: Final = "'; DROP TABLE studies; --"
MARKUP: Final = "<script>alert(1)</script>"
TERMINAL: Final = "\x1b]0;owned\x07\x1b[2J\x9b31m"
PATH: Final = "../../../../etc/passwd"
# Attributes that end in rows, reports, heatmaps, folders or pages. Source: PS3.3 C.7.
FREE_TEXT: Final = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientComments", "AccessionNumber", "StudyID"),
    *("StudyDescription", "SeriesDescription", "ReferringPhysicianName", "InstitutionName", "StationName"),
    *("ProtocolName", "ManufacturerModelName", "OperatorsName", "RequestedProcedureDescription"),
)
CODED: Final = ("PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "PatientAge", "BodyPartExamined")
NO_UIDS: Final = (PATH, "/etc/passwd", "..", ".", "1.2/../3", "1.2\n.3", "", "1" * 65, "1.\xb2")
LENGTHS: Final = {"SH": 16, "LO": 64, "PN": 64, "LT": 1_000}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=14, size=128)


def poisoned(path: Path, poisons: Mapping[str, str]) -> Dataset:
    """A slice with these values in its attributes, cut to what each may hold."""
    ds = dcmread(path)
    with disable_value_validation():
        for keyword, poison in poisons.items():
            ds.pop(keyword, None)  # an element keeps the validation it was made with
            setattr(ds, keyword, poison[: LENGTHS.get(dictionary_VR(keyword), 64)])
    return ds


def analysed(node: ClerkNode, phantom: PhantomStudy, poisons: Mapping[str, str]) -> Analysis:
    """Let clerk and worker take the poisoned study."""
    node.receive(*(poisoned(path, poisons) for path in phantom.paths))
    assert node.rounds_after(200)
    bench = Bench(node.engine, node.settings.data, now=node.clock())
    bench.analyse()
    return bench.row(node.study().analyses[0].id)


def test_free_text_is_text_from_the_wire_to_the_report(clerk_node: ClerkNode, phantom: PhantomStudy) -> None:
    poisons = dict(zip(FREE_TEXT, cycle((SQL, MARKUP, PATH)), strict=False))

    row = analysed(clerk_node, phantom, poisons)

    study = clerk_node.study()
    assert (row.state, row.verdict) == ("done", "positive")
    assert study.patient_name == poisons["PatientName"]
    assert study.patient_id == poisons["PatientID"]
    assert study.study_description == poisons["StudyDescription"]
    assert {instance.disposition for instance in study.instances} == {Disposition.ARCHIVED}
    (report,) = [clerk_node.settings.outputs / each.path for each in row.outputs if each.group == "sr"]
    assert iod_errors(report) == []
    assert all(poison in report_text(report) for poison in (SQL, MARKUP))
    with clerk_node.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM studies")) == 1


@pytest.mark.filterwarnings("ignore")  # pydicom warns of such values
def test_harmful_values_where_codes_and_dates_belong_stop_nobody(
    clerk_node: ClerkNode, phantom: PhantomStudy
) -> None:
    poisons = dict(zip(CODED, cycle((SQL, MARKUP, PATH, TERMINAL)), strict=False))

    row = analysed(clerk_node, phantom, poisons)

    assert row.state == "done"
    assert {output.group for output in row.outputs} >= {"sr", "sc"}


def test_nothing_that_moves_a_terminal_s_cursor_reaches_a_row(
    clerk_node: ClerkNode, phantom: PhantomStudy
) -> None:
    clerk_node.receive(poisoned(phantom.paths[0], dict.fromkeys(FREE_TEXT, TERMINAL)))

    study = clerk_node.study()
    assert {study.patient_name, study.patient_id, study.study_description} == {"]0;owned[2J31m"}


@pytest.mark.filterwarnings("ignore")  # as above
def test_a_uid_that_is_none_never_names_a_file(clerk_node: ClerkNode, phantom: PhantomStudy) -> None:
    sender = clerk_node.sender()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        for uid in NO_UIDS:
            ds = poisoned(phantom.paths[0], {keyword: uid})
            sender.put(lambda path, ds=ds: write(ds, path))  # type: ignore[misc]
    sender.release()

    clerk_node.clerk.round()

    data = clerk_node.settings.data
    assert len(list(clerk_node.settings.quarantine.glob("*.dcm"))) == 3 * len(NO_UIDS)
    assert not clerk_node.studies()
    assert {path.relative_to(data).parts[0] for path in data.rglob("*.dcm")} == {"quarantine"}
    assert not list(data.parent.glob("*.dcm"))
