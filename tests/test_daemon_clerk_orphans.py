"""Rows and files that do not agree are found, and how to mend it is right."""

import json
from pathlib import Path

import pytest

from daemon.clerk.orphans import find_orphans
from daemon.clerk.reindex import reindex
from db.models import Instance
from lungnode.settings import Settings
from tests.command_line import CommandLine
from tests.databases import new_sqlite
from tests.retaining import MONTH_S, keep_for, settle, sweep
from tests.spooling import STUDY, ClerkNode, ct, slices, write

OTHER = "1.2.840.99999.2"


@pytest.fixture
def node(clerk_node: ClerkNode) -> ClerkNode:
    settle(clerk_node)
    return clerk_node


def found(node: ClerkNode, *, digests: bool = False) -> list[tuple[str, str]]:
    said = find_orphans(node.engine, node.settings, digests=digests, progress=lambda _: None)
    return [(each.trouble, str(Path(each.place).relative_to(node.settings.data))) for each in said]


def test_a_node_at_rest_agrees_with_itself(node: ClerkNode) -> None:
    settle(node, OTHER)

    assert found(node) == []


def test_what_retention_deleted_is_not_missed(node: ClerkNode) -> None:
    keep_for(node, 30)
    sweep(node, MONTH_S)

    assert found(node, digests=False) == []


def test_a_lost_file_is_missing_until_the_same_bytes_come_again(node: ClerkNode) -> None:
    path = f"archive/{STUDY}/{STUDY}.1.2.dcm"
    (node.settings.data / path).unlink()

    assert found(node) == [("missing", path)]
    node.receive(*slices((1, 2, 3)), name="again")
    assert found(node) == []


@pytest.mark.parametrize(("content", "digests"), [(b"short", False), (None, True)], ids=["size", "digest"])
def test_a_changed_file_is_found(node: ClerkNode, content: bytes | None, *, digests: bool) -> None:
    path = node.settings.archive / STUDY / f"{STUDY}.1.2.dcm"
    before = path.read_bytes()
    path.unlink()  # its bytes may be shared with the spool
    path.write_bytes(content or bytes([before[0] ^ 1]) + before[1:])

    assert found(node, digests=digests)[0] == ("changed", f"archive/{STUDY}/{STUDY}.1.2.dcm")


def test_files_that_no_row_names_are_unknown_until_they_are_indexed(node: ClerkNode) -> None:
    for study in (STUDY, OTHER):
        folder = node.settings.archive / study
        folder.mkdir(exist_ok=True)
        write(ct(9, study), folder / f"{study}.1.9.dcm")

    unknown = [("unknown", f"archive/{study}/{study}.1.9.dcm") for study in (STUDY, OTHER)]
    assert found(node) == unknown
    reindex(node.engine, node.settings, node.clock(), lambda _done, _total: None)
    assert found(node) == []


def test_deleted_files_that_a_restore_brought_back_are_unknown_and_can_be_taken_in_again(
    node: ClerkNode,
) -> None:
    kept = {path: (node.settings.archive / path).read_bytes() for path in node.archived()}
    keep_for(node, 30)
    sweep(node, MONTH_S)
    for path, content in kept.items():
        (node.settings.archive / path).parent.mkdir(exist_ok=True)
        (node.settings.archive / path).write_bytes(content)

    assert [trouble for trouble, _ in found(node)] == ["unknown"] * 3
    reindex(node.engine, node.settings, node.clock(), lambda _done, _total: None)
    assert found(node) == []
    assert {row.deleted_at for row in node.rows(Instance)} == {None}


def test_results_without_rows_and_quarantined_files_without_either_are_found(node: ClerkNode) -> None:
    sender = node.sender("bad")
    sender.put(lambda path: path.write_text("no DICOM"))
    sender.release()
    node.clerk.round()
    (node.settings.quarantine / "bad-00000001.dcm").unlink()
    for path in (
        node.settings.quarantine / "stray.dcm",
        node.settings.outputs / STUDY / "2/1.2.dcm",
        node.settings.outputs / OTHER / "1/1.3.dcm",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")

    assert sorted(found(node)) == [
        ("missing", "quarantine/bad-00000001.dcm"),
        ("unknown", f"outputs/{STUDY}/2/1.2.dcm"),
        ("unknown", f"outputs/{OTHER}/1/1.3.dcm"),
        ("unknown", "quarantine/stray.dcm"),
    ]


def test_the_command_prints_what_is_wrong_and_fails_or_says_that_all_is_well(
    command_line: CommandLine, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path / "data")
    engine = new_sqlite(settings.database)
    node = ClerkNode(engine, settings)
    settle(node)
    good = command_line.run(settings.data, "studies", "check")
    path = settings.archive / STUDY / f"{STUDY}.1.1.dcm"
    path.unlink()

    bad = command_line.run(settings.data, "studies", "check", "--json")

    assert (good.returncode, good.stdout) == (0, "Rows and files agree.\n")
    assert bad.returncode == 1
    (finding,) = json.loads(bad.stdout)["findings"]
    assert (finding["trouble"], finding["path"]) == ("missing", str(path))
    engine.dispose()
