"""A clerk whose archive is an object store: what was acknowledged is there once, whatever dies meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.clerk.index import Indexer
from daemon.clerk.orphans import find_orphans
from daemon.clerk.plan import Received
from daemon.clerk.reindex import reindex
from daemon.clerk.retention import Retention
from daemon.clerk.spool import scan
from db.erasure import delete_study
from db.models import CommitmentRequest, Instance
from db.queries import get_study
from db.session import transaction
from lungnode.cli._erasure import erase
from lungnode.errors import UnavailableError
from lungnode.settings import Settings
from lungnode.store import open_archive
from tests.databases import new_sqlite
from tests.retaining import MONTH_S, keep_for, settle, sweep
from tests.spooling import NOON, STUDY, ClerkNode, ct, slices
from tests.stores import ObjectServer

COUNT = 4
OTHER = "1.2.840.99999.2"


@pytest.fixture
def node(sqlite: Engine, tmp_path: Path, object_server: ObjectServer) -> ClerkNode:
    return ClerkNode(sqlite, Settings(data=tmp_path / "data", store=object_server.settings()))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Engine]:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    yield engine
    engine.dispose()


def stored(node: ClerkNode) -> dict[str, str]:
    """Path and digest of every object of the archive."""
    archive = open_archive(node.settings)
    paths = [path for study in archive.studies() for path in archive.sizes(study)]
    return {path: found[1] for path in paths if (found := archive.read_back(path)) is not None}


def named(node: ClerkNode) -> dict[str, str]:
    """What the rows say of it."""
    return {row.path: row.digest for row in node.rows(Instance) if row.deleted_at is None}


def spooled(node: ClerkNode) -> list[Path]:
    return sorted(node.settings.spool.rglob("*.dcm"))


def trouble(node: ClerkNode, *, digests: bool = False) -> list[str]:
    found = find_orphans(node.engine, node.settings, digests=digests, progress=lambda _: None)
    return [each.trouble for each in found]


def damage(node: ClerkNode, server: ObjectServer, content: bytes | None) -> None:
    """Let the store lose an object, or have other bytes in it."""
    key = f"archive/{min(named(node))}"
    with server.client() as client:
        if content is None:
            client.delete_object(Bucket=node.settings.store.bucket, Key=key)
        else:
            client.put_object(Bucket=node.settings.store.bucket, Key=key, Body=content)


def test_instances_are_in_the_store_bit_for_bit_and_the_spool_is_empty(node: ClerkNode) -> None:
    sender = node.sender()
    sender.send(*slices(range(1, COUNT + 1)))
    sent = sorted(sha256(path.read_bytes()).hexdigest() for path in spooled(node))
    sender.release()

    node.clerk.round()

    assert (sorted(stored(node).values()), spooled(node)) == (sent, [])
    assert stored(node) == named(node)
    assert trouble(node, digests=True) == []


@pytest.mark.parametrize("puts", range(COUNT))
def test_a_store_that_dies_while_files_are_moved_costs_nothing_and_doubles_nothing(
    node: ClerkNode, object_server: ObjectServer, puts: int
) -> None:
    node.sender().send(*slices(range(1, COUNT + 1))).release()
    object_server.dies_after_puts = puts

    with pytest.raises(UnavailableError, match="object store"):
        node.clerk.round()

    assert (len(spooled(node)), node.rows(Instance)) == (COUNT, [])
    object_server.revive()
    node.clerk.round()
    assert len(stored(node)) == COUNT == len(object_server.puts)  # what had arrived was not sent again
    assert (stored(node), spooled(node), trouble(node)) == (named(node), [], [])


def test_other_bytes_of_the_same_uid_are_a_conflict_beside_the_first(node: ClerkNode) -> None:
    node.receive(ct(1))
    node.receive(ct(1, PixelData=bytes(32)), name="a2")
    node.receive(ct(1), name="a3")

    dispositions = sorted(row.disposition for row in node.rows(Instance))
    assert dispositions == ["archived", "conflict"]
    assert stored(node) == named(node)


def test_a_lost_object_is_missed_and_put_back_by_the_same_bytes(
    node: ClerkNode, object_server: ObjectServer
) -> None:
    node.receive(*slices(range(1, COUNT + 1)))
    damage(node, object_server, None)

    assert trouble(node) == ["missing"]
    node.receive(*slices(range(1, COUNT + 1)), name="again")
    assert trouble(node, digests=True) == []


def test_a_damaged_object_is_found_by_its_digest_and_never_committed(
    node: ClerkNode, object_server: ObjectServer
) -> None:
    node.receive(*slices(range(1, COUNT + 1)))
    size = node.rows(Instance)[0].size
    damage(node, object_server, b"x" * size)

    sender = node.sender("scu")
    sender.ask(*slices(range(1, COUNT + 1)))
    sender.release()
    node.clerk.round()
    node.desk().round()

    (request,) = node.rows(CommitmentRequest)
    failed = sorted(each["failure_reason"] for each in request.instances)
    assert failed == ["", "", "", "0x0110"]
    assert (trouble(node), trouble(node, digests=True)) == ([], ["changed"])


def test_a_request_for_commitment_waits_for_a_store_that_is_away(
    node: ClerkNode, object_server: ObjectServer
) -> None:
    node.receive(ct(1))
    sender = node.sender("scu")
    sender.ask(ct(1))
    sender.release()
    node.clerk.round()
    object_server.is_down = True

    with pytest.raises(UnavailableError, match="object store"):
        node.desk().round()

    object_server.is_down = False
    node.clock.pass_s(600)
    node.desk().round()
    (request,) = node.rows(CommitmentRequest)
    assert [each["failure_reason"] for each in request.instances] == [""]


def test_retention_deletes_objects_and_copies(node: ClerkNode) -> None:
    keep_for(node, 30)
    settle(node)

    assert sweep(node, MONTH_S) == [STUDY]

    assert stored(node) == {}
    assert open_archive(node.settings).trash() == []
    assert list((node.settings.cache / "archive").rglob("*.dcm")) == []
    node.receive(*slices(range(1, 4)), name="again")
    assert stored(node) == named(node) != {}


def test_what_a_killed_deletion_did_not_commit_stays(node: ClerkNode) -> None:
    node.receive(*slices(range(1, COUNT + 1)))
    open_archive(node.settings).throw_away(STUDY)  # and the program was killed

    Retention(node.engine, node.settings).finish()

    assert open_archive(node.settings).trash() == []
    assert (stored(node), len(named(node))) == (named(node), COUNT)


def test_an_instance_that_comes_again_while_its_study_is_deleted_waits_until_that_is_done(
    node: ClerkNode,
) -> None:
    node.receive(ct(1))
    archive = open_archive(node.settings)
    archive.throw_away(STUDY)
    with transaction(node.engine) as session:
        delete_study(session, get_study(session, STUDY), node.clock())
    node.sender("again").send(ct(1)).release()
    waiting = [Received(path, each) for each in scan(node.settings.spool, NOON) for path in each.files()]

    Indexer(node.engine, node.settings).index(waiting, node.clock())

    assert (node.rows(Instance), len(spooled(node))) == ([], 1)
    with ThreadPoolExecutor(1) as pool:
        indexing = pool.submit(node.clerk.round)
        Retention(node.engine, node.settings).finish()
        indexing.result(timeout=30)
    assert (stored(node), len(named(node)), spooled(node)) == (named(node), 1, [])


def test_a_study_that_is_deleted_for_good_leaves_no_object_and_no_copy(node: ClerkNode) -> None:
    settle(node)
    settle(node, OTHER)

    erase(node.settings, node.engine, STUDY, node.clock(), force=False)

    assert set(node.studies()) == {OTHER}
    assert (stored(node), len(named(node))) == (named(node), 3)
    assert [path.name for path in (node.settings.cache / "archive").glob("[0-9]*")] == [OTHER]


def test_the_index_is_restored_from_the_objects_alone(node: ClerkNode, empty: Engine) -> None:
    node.receive(*slices(range(1, COUNT + 1)))
    node.clock.pass_s(10)
    node.receive(ct(1, PixelData=bytes(32)), name="a2")
    elsewhere = node.settings.model_copy(update={"data": node.settings.data / "elsewhere"})
    restored = ClerkNode(empty, elsewhere, node.clock)

    said = reindex(empty, elsewhere, node.clock(), lambda _done, _total: None)

    assert (said.files, said.added, said.rejected) == (COUNT + 1, COUNT + 1, ())
    assert facts(restored) == facts(node)


def facts(node: ClerkNode) -> set[tuple[str, str, str, str]]:
    return {(row.path, row.digest, row.disposition, str(row.received_at)) for row in node.rows(Instance)}
