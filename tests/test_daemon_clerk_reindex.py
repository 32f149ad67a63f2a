import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.clerk.reindex import Reindexed, reindex
from db.models import Analysis, Disposition, Instance, Quarantined, StudyState
from tests.databases import new_sqlite
from tests.rejecting import note
from tests.spooling import NOON, STUDY, ClerkNode, ct, slices


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Engine]:
    """Another database without rows."""
    engine = new_sqlite(f"sqlite:///{tmp_path}/empty.sqlite3")
    yield engine
    engine.dispose()


def again(node: ClerkNode, engine: Engine) -> tuple[ClerkNode, Reindexed]:
    """Index the node's files into another database."""
    restored = ClerkNode(engine, node.settings, node.clock)
    return restored, reindex(engine, node.settings, node.clock(), lambda _done, _total: None)


def facts(node: ClerkNode) -> list[tuple[object, ...]]:
    names = [
        column.name
        for column in Instance.__table__.columns
        if column.name not in {"id", "study_id", "association_id", "note"}
    ]
    return sorted(tuple(str(getattr(row, name)) for name in names) for row in node.rows(Instance))


def test_the_index_is_restored_from_the_files_alone(clerk_node: ClerkNode, empty: Engine) -> None:
    clerk_node.receive(*slices(range(1, 9)), ct(1, PixelData=bytes(32)))
    clerk_node.receive(*slices(range(1, 4), "1.2.840.99999.2"), name="a2")
    clerk_node.rounds_after(200)

    restored, result = again(clerk_node, empty)

    assert (result.files, result.added, result.rejected) == (12, 12, ())
    assert facts(restored) == facts(clerk_node)
    study = restored.studies()[STUDY]
    assert (study.patient_id, study.calling_ae_title) == ("4711", "SCANNER")


def test_restored_studies_are_complete_and_not_analysed_again(clerk_node: ClerkNode, empty: Engine) -> None:
    clerk_node.receive(*slices(range(1, 9)))
    (clerk_node.settings.outputs / STUDY / "3").mkdir(parents=True)
    (clerk_node.settings.outputs / STUDY / "3" / "1.2.dcm").touch()

    restored, _ = again(clerk_node, empty)

    assert restored.rounds_after(1000) == []
    study = restored.study()
    assert (study.state, study.revision) == (StudyState.COMPLETE, 3)
    assert study.completeness == "restored from files"


def test_slices_that_come_after_a_restoration_make_the_next_revision(
    clerk_node: ClerkNode, empty: Engine
) -> None:
    clerk_node.receive(*slices(range(1, 9)))
    restored, _ = again(clerk_node, empty)

    restored.receive(ct(9), name="a2")

    assert len(restored.rounds_after(200)) == 1
    assert [row.revision for row in restored.rows(Analysis)] == [2]


def test_a_repeat_changes_nothing(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 9)), ct(1, PixelData=bytes(32)))
    clerk_node.rounds_after(200)
    before = facts(clerk_node), clerk_node.study().revision, [row.note for row in clerk_node.rows(Instance)]

    _, result = again(clerk_node, clerk_node.engine)

    after = facts(clerk_node), clerk_node.study().revision, [row.note for row in clerk_node.rows(Instance)]
    assert (result.added, after) == (0, before)


def test_a_study_that_is_being_received_is_left_to_the_clerk(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 9)))

    again(clerk_node, clerk_node.engine)

    assert clerk_node.study().state == StudyState.RECEIVING
    assert len(clerk_node.rounds_after(200)) == 1


def test_the_instance_that_came_first_stays_the_first(clerk_node: ClerkNode, empty: Engine) -> None:
    clerk_node.receive(ct(1))
    clerk_node.receive(ct(1, PixelData=bytes(32)), name="a2")

    restored, _ = again(clerk_node, empty)

    paths = {row.path: row.disposition for row in restored.rows(Instance)}
    assert paths == {row.path: row.disposition for row in clerk_node.rows(Instance)}
    assert paths[f"{STUDY}/{STUDY}.1.1.dcm"] == Disposition.ARCHIVED


def test_what_was_quarantined_is_known_again(clerk_node: ClerkNode, empty: Engine) -> None:
    sender = clerk_node.sender()
    sender.put(lambda path: path.write_text("no DICOM"))
    sender.release()
    clerk_node.clerk.round()
    (clerk_node.settings.quarantine / "odd.json").write_text(json.dumps(["?"]))

    restored, result = again(clerk_node, empty)

    (row,), (first,) = restored.rows(Quarantined), clerk_node.rows(Quarantined)
    assert (row.path, row.reason, row.received_at) == (first.path, first.reason, NOON)
    assert result.quarantined == 1


def test_a_damaged_file_in_the_archive_is_told_and_stays(clerk_node: ClerkNode, empty: Engine) -> None:
    clerk_node.receive(*slices((1, 2)))
    (clerk_node.settings.archive / STUDY / "9.dcm").write_text("damaged")

    restored, result = again(clerk_node, empty)

    assert [path for path, _ in result.rejected] == [f"{STUDY}/9.dcm"]
    assert (clerk_node.settings.archive / STUDY / "9.dcm").exists()
    assert len(restored.rows(Instance)) == 2


def test_patients_that_later_slices_corrected_and_rejected_slices_are_found_again(
    clerk_node: ClerkNode, empty: Engine
) -> None:
    clerk_node.receive(*slices(range(5, 9)))
    clerk_node.clock.pass_s(60)
    # Of a name that sorts before the others'.
    clerk_node.receive(ct(1, PatientID="4712"), note("113001", [ct(5)]), name="a2")
    wrong = ct(1, "1.2.840.99999.2")
    clerk_node.receive(wrong, note("113037", [wrong], "1.2.840.99999.2"), name="a3")
    clerk_node.rounds_after(200)

    restored, _ = again(clerk_node, empty)

    study, other = (restored.studies()[uid] for uid in (STUDY, "1.2.840.99999.2"))
    assert (study.patient_id, study.state) == ("4712", "complete")
    assert [row.sop_instance_uid for row in study.instances if row.disposition == "withdrawn"] == [
        f"{STUDY}.1.5"
    ]
    assert other.state == "withdrawn"
