import os
import shutil
from pathlib import Path

import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from sqlalchemy import text

from db.models import Analysis, AssociationStudy, Disposition, Instance, Output, Quarantined, StudyState
from db.session import transaction
from lungnode.settings import Rule
from tests.spooling import NOON, STUDY, ClerkNode, ct, slices, write


def test_an_instance_is_archived_verbatim_and_leaves_the_spool(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender()
    path = sender.put(lambda path: write(ct(), path))
    received = path.read_bytes()
    sender.release()

    clerk_node.clerk.round()

    (row,) = clerk_node.rows(Instance)
    assert (clerk_node.settings.archive / row.path).read_bytes() == received
    assert row.path == f"{STUDY}/{STUDY}.1.1.dcm"
    assert clerk_node.archived() == {row.path: row.digest}
    assert list(clerk_node.settings.spool.iterdir()) == []


def test_a_study_keeps_who_sent_it_and_whose_it_is(clerk_node: ClerkNode) -> None:
    clerk_node.receive(ct(PatientName="Müller^Jürgen=山田^太郎", SpecificCharacterSet="ISO_IR 192"))

    study = clerk_node.study()
    assert (study.calling_ae_title, study.called_ae_title) == ("SCANNER", "LUNGNODE")
    assert study.address == "192.0.2.7"
    assert study.patient_name == "Müller^Jürgen=山田^太郎"
    assert (study.patient_id, study.study_date) == ("4711", "20260305")
    assert (study.state, study.changed_at) == (StudyState.RECEIVING, NOON)


def test_whole_files_of_an_open_association_are_indexed_and_its_folder_stays(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct(1))
    (sender.folder / "00000002.part").write_bytes(b"half")

    clerk_node.clerk.round()

    assert len(clerk_node.rows(Instance)) == 1
    assert sorted(path.name for path in sender.folder.iterdir()) == ["00000002.part", "association.json"]
    sender.lose()
    clerk_node.clerk.round()
    assert not sender.folder.exists()


def test_more_files_than_a_batch_are_indexed_in_one_round(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 421)))

    assert len(clerk_node.rows(Instance)) == 420


def test_the_same_bytes_again_are_one_instance(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices((1, 2)))

    clerk_node.receive(*slices((1, 2)), name="a2")

    rows = clerk_node.rows(Instance)
    assert [row.note for row in rows] == ["Came again with the same bytes."] * 2
    assert len(clerk_node.archived()) == 2
    assert len(clerk_node.rows(AssociationStudy)) == 2


def test_the_same_bytes_twice_in_one_batch_are_one_instance(clerk_node: ClerkNode) -> None:
    clerk_node.receive(ct(), ct(), ct())

    (row,) = clerk_node.rows(Instance)
    assert row.note == "Came again with the same bytes."


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=["implicit", "big endian"]
)
def test_the_same_pixels_in_another_transfer_syntax_are_one_instance(
    clerk_node: ClerkNode, syntax: str
) -> None:
    clerk_node.receive(ct())
    again = ct()
    if syntax == ExplicitVRBigEndian:
        again.PixelData = b"".join(bytes(reversed(ct().PixelData[i : i + 2])) for i in range(0, 32, 2))
    sender = clerk_node.sender("a2")
    sender.put(lambda path: write(again, path, syntax))
    sender.release()

    clerk_node.clerk.round()

    (row,) = clerk_node.rows(Instance)
    assert row.note == f"Came again with the same pixels in {syntax}; that copy was not kept."
    assert row.disposition == Disposition.ARCHIVED


def test_attributes_that_a_pacs_adds_make_no_second_instance(clerk_node: ClerkNode) -> None:
    clerk_node.receive(ct())

    clerk_node.receive(ct(AccessionNumber="A1", PatientName="Doe^Jane^M"), name="a2")

    assert len(clerk_node.rows(Instance)) == 1


def test_other_pixels_are_a_conflict_kept_beside_the_first(
    clerk_node: ClerkNode, caplog: pytest.LogCaptureFixture
) -> None:
    clerk_node.receive(ct())
    first = clerk_node.archived()

    clerk_node.receive(ct(PixelData=bytes(32)), name="a2")

    conflict = clerk_node.rows(Instance)[1]
    assert conflict.disposition == Disposition.CONFLICT
    assert conflict.note == "The pixels of frame 1 differ."
    assert caplog.messages == [
        f"SCANNER sent instance {STUDY}.1.1 again, kept as a conflict: {conflict.note}"
    ]
    assert conflict.path == f"{STUDY}/{STUDY}.1.1.{conflict.digest[:12]}.dcm"
    assert clerk_node.archived() == first | {conflict.path: conflict.digest}


def test_other_pixels_in_the_same_batch_are_a_conflict_too(clerk_node: ClerkNode) -> None:
    clerk_node.receive(ct(), ct(PixelData=bytes(32)), ct(PixelData=b"\1" * 32))

    dispositions = sorted(row.disposition for row in clerk_node.rows(Instance))
    assert dispositions == [Disposition.ARCHIVED, Disposition.CONFLICT, Disposition.CONFLICT]


def test_a_conflict_sent_again_is_no_second_conflict(clerk_node: ClerkNode) -> None:
    clerk_node.receive(ct(), ct(PixelData=bytes(32)))

    clerk_node.receive(ct(PixelData=bytes(32)), name="a2")

    assert len(clerk_node.rows(Instance)) == 2


def test_undecodable_pixels_are_a_conflict(clerk_node: ClerkNode) -> None:
    clerk_node.receive(ct())

    clerk_node.receive(ct(PixelData=bytes(8)), name="a2")

    conflict = clerk_node.rows(Instance)[1]
    assert conflict.disposition == Disposition.CONFLICT
    assert conflict.note.startswith("The pixels cannot be compared: ")


def test_a_sop_instance_uid_of_another_study_is_a_conflict(clerk_node: ClerkNode) -> None:
    clerk_node.receive(ct())

    clerk_node.receive(ct(StudyInstanceUID="1.2.840.99999.2"), name="a2")

    conflict = clerk_node.rows(Instance)[1]
    assert conflict.note == "The SOP Instance UID is taken by an instance of another study."
    assert conflict.path.startswith("1.2.840.99999.2/")


def test_bytes_that_the_archive_lost_are_restored_when_they_come_again(clerk_node: ClerkNode) -> None:
    clerk_node.receive(ct())
    before = clerk_node.archived()
    shutil.rmtree(clerk_node.settings.archive)

    clerk_node.receive(ct(), name="a2")

    assert clerk_node.archived() == before


def test_our_own_results_that_come_back_wake_nothing(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 5)))
    clerk_node.rounds_after(200)
    report = ct(90, SOPClassUID=Comprehensive3DSRStorage, Manufacturer="Lungnode", PixelData=None)

    clerk_node.receive(report, name="a2")

    assert clerk_node.rounds_after(200) == []
    assert clerk_node.rows(Instance)[-1].disposition == Disposition.OWN_OUTPUT
    assert clerk_node.study().revision == 1


@pytest.mark.parametrize("known", ["sop_instance_uid", "series_instance_uid"])
def test_our_own_results_are_known_by_their_uids(clerk_node: ClerkNode, known: str) -> None:
    clerk_node.receive(*slices(range(1, 5)))
    (analysis_id,) = clerk_node.rounds_after(200)
    uids = {"sop_instance_uid": "1.2.3", "series_instance_uid": "1.2.4"} | {known: "1.2.99"}
    with transaction(clerk_node.engine) as session:
        row = Output(
            group="sc", sop_class_uid="1", path="p", size=1, digest="d", analysis_id=analysis_id, **uids
        )
        session.add(row)

    came = ct(
        90, SOPClassUID=SecondaryCaptureImageStorage, SOPInstanceUID="1.2.99", SeriesInstanceUID="1.2.99"
    )
    clerk_node.receive(came, name="a2")

    assert clerk_node.rows(Instance)[-1].disposition == Disposition.OWN_OUTPUT


def test_a_result_of_ours_whose_study_is_unknown_is_nothing_to_analyse(clerk_node: ClerkNode) -> None:
    clerk_node.receive(
        ct(90, SOPClassUID=SecondaryCaptureImageStorage, Manufacturer="Lungnode"),
    )

    assert clerk_node.rounds_after(200) == []
    assert (clerk_node.study().state, clerk_node.study().revision) == (StudyState.COMPLETE, 0)

    clerk_node.receive(*slices(range(1, 5)), name="a2")
    assert len(clerk_node.rounds_after(200)) == 1


def test_the_first_rule_that_an_instance_meets_is_recorded(clerk_node: ClerkNode) -> None:
    rules = (
        Rule(name="head", tags={"StudyDescription": "*head*"}),
        Rule(name="thorax", calling_ae_title="SCAN*", tags={"StudyDescription": "*thorax*"}),
        Rule(name="rest"),
    )
    clerk_node.restart(rules=rules)

    clerk_node.receive(ct())

    assert clerk_node.study().rule == "thorax"


MALFORMED = {
    "text": (lambda path: path.write_text("hello"), "cannot be parsed as DICOM"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be parsed as DICOM"),
    "empty SOP UID": (
        lambda path: write(ct(SOPInstanceUID=""), path),
        "SOPInstanceUID (0008,0018) is empty.",
    ),
    "no study UID": (
        lambda path: write(ct(StudyInstanceUID=None), path),
        "StudyInstanceUID (0020,000D) is missing.",
    ),
    "path in UID": (
        lambda path: write(ct(SeriesInstanceUID="../../etc"), path),
        "SeriesInstanceUID (0020,000E) is no UID after PS3.5 9.1: '../../etc'.",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_cannot_be_indexed_is_kept_with_a_reason(clerk_node: ClerkNode, case: str) -> None:
    make, reason = MALFORMED[case]
    sender = clerk_node.sender().send(ct(1))
    received = sender.put(make).read_bytes()
    sender.send(ct(2)).release()

    clerk_node.clerk.round()

    (row,) = clerk_node.rows(Quarantined)
    assert reason in row.reason
    assert (row.path, row.association_id, row.calling_ae_title) == ("a1-00000002.dcm", "a1", "SCANNER")
    assert (clerk_node.settings.quarantine / row.path).read_bytes() == received
    assert reason.split("'")[0] in (clerk_node.settings.quarantine / "a1-00000002.json").read_text()
    assert len(clerk_node.rows(Instance)) == 2
    assert list(clerk_node.settings.spool.iterdir()) == []


def test_a_damaged_association_file_leaves_the_sender_to_the_file_meta_group(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct())
    (sender.folder / "association.json").write_text("{")
    sender.lose()

    clerk_node.clerk.round()

    assert clerk_node.study().calling_ae_title == "SCANNER"
    assert not sender.folder.exists()


def test_a_folder_without_an_association_file_is_indexed_and_removed(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct())
    (sender.folder / "association.json").unlink()
    sender.lose()
    os.utime(sender.folder, (NOON.timestamp(), NOON.timestamp()))

    clerk_node.rounds_after(10)

    assert len(clerk_node.rows(Instance)) == 1
    assert not sender.folder.exists()


def test_values_that_no_column_can_hold_quarantine_nothing(clerk_node: ClerkNode) -> None:
    odd = ct(PatientName="A" * 400, PatientID="x\0y", ImagePositionPatient=None)
    odd.add_new("AcquisitionNumber", "DS", "99999999999")

    clerk_node.receive(odd)

    (row,) = clerk_node.rows(Instance)
    assert (row.acquisition_number, row.image_position) == (None, None)
    assert clerk_node.study().patient_name == "A" * 255


def test_an_archive_that_cannot_be_written_loses_nothing(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(*slices((1, 2)))
    sender.release()
    clerk_node.settings.archive.write_text("in the way")

    with pytest.raises(Exception, match=r"The folder .*archive cannot be used: Not a directory"):
        clerk_node.clerk.round()

    assert len(list(sender.folder.glob("*.dcm"))) == 2
    clerk_node.settings.archive.unlink()
    clerk_node.clerk.round()
    assert len(clerk_node.rows(Instance)) == 2


def test_an_archive_on_another_file_system_gets_copies(clerk_node: ClerkNode, other_disk: Path) -> None:
    clerk_node.settings.data.mkdir()
    clerk_node.settings.archive.symlink_to(other_disk)

    clerk_node.receive(*slices((1, 2)))

    rows = clerk_node.rows(Instance)
    assert clerk_node.archived() == {row.path: row.digest for row in rows}
    assert [row.received_at for row in rows] == [NOON, NOON]


def test_no_analysis_is_queued_before_its_time(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 5)))

    assert clerk_node.rows(Analysis) == []


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_one_instance_that_the_database_refuses_does_not_stop_the_others(clerk_node: ClerkNode) -> None:
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN
            IF NEW.instance_number = 3 THEN RAISE EXCEPTION USING ERRCODE = '22003'; END IF; RETURN NEW;
        END $$ LANGUAGE plpgsql;
        CREATE TRIGGER refuse BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION refuse()
    """
    with transaction(clerk_node.engine) as session:
        for statement in refuse.split("plpgsql;"):
            session.execute(text(statement if "TRIGGER refuse" in statement else f"{statement}plpgsql"))

    clerk_node.receive(*slices(range(1, 6)))

    (row,) = clerk_node.rows(Quarantined)
    assert row.reason == "The database refuses it (NumericValueOutOfRange)."
    assert len(clerk_node.rows(Instance)) == 4


def test_no_patient_reaches_the_log(clerk_node: ClerkNode, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = {"PatientName": "Geheim^Gerda", "PatientID": "G-0815", "StudyDescription": "Geheimsache"}
    damaged = ct(2, SOPInstanceUID="", **secret)

    clerk_node.receive(ct(1, **secret), damaged, ct(1, PixelData=bytes(32), **secret))
    clerk_node.rounds_after(200)

    assert len(caplog.messages) >= 3
    assert not any("eheim" in message or "0815" in message for message in caplog.messages)
