"""A node whose archive is an object store is backed up, and restored into an empty store."""

from pathlib import Path

import pytest

from db.backup.objects import Objects
from db.backup.restore import Place, Restored, restore_backup
from db.backup.verify import verify_backup
from db.models import Instance
from db.session import open_engine
from lungnode.errors import UnavailableError
from lungnode.settings import Settings, StoreSettings
from lungnode.store import open_archive, open_outputs
from tests.backing_up import BackedUp, nothing
from tests.spooling import NOON, ClerkNode, slices
from tests.stores import ObjectServer


@pytest.fixture
def node(local_node: ClerkNode, tmp_path: Path, object_server: ObjectServer) -> BackedUp:
    clerk = ClerkNode(local_node.engine, Settings(data=tmp_path / "data", store=object_server.settings()))
    clerk.receive(*slices(range(1, 4)), name="a1")
    object_server.gets.clear()
    return BackedUp(clerk, tmp_path / "backups")


def restored(backup: Path, data: Path, store: StoreSettings) -> tuple[Settings, Restored]:
    """Restore to an empty folder, an empty database and a store."""
    data.mkdir()
    settings = Settings(data=data, store=store)
    engine = open_engine(f"sqlite:///{data / 'lungnode.sqlite3'}")
    stores = {"archive": open_archive(settings), "outputs": open_outputs(settings)}
    place = Place(data, engine, Objects(stores if store.url else {}))
    found = restore_backup(backup, place, NOON, replace=False, progress=nothing)
    engine.dispose()
    return settings, found


def digests(settings: Settings, paths: list[str]) -> list[str]:
    archive = open_archive(settings)
    return [found[1] for path in paths if (found := archive.read_back(path)) is not None]


@pytest.mark.parametrize("into", ["objects", "folder"])
def test_a_node_comes_back_with_every_object(
    node: BackedUp, tmp_path: Path, object_server: ObjectServer, into: str
) -> None:
    rows = node.clerk.rows(Instance)

    backup = node.back_up()
    store = object_server.settings("/new") if into == "objects" else StoreSettings()
    settings, found = restored(backup, tmp_path / "new", store)

    assert list(verify_backup(backup, nothing)) == []
    assert (found.damaged, found.absent, len(rows)) == ([], [], 3)
    assert digests(settings, [row.path for row in rows]) == [row.digest for row in rows]


def test_the_next_backup_reads_new_objects_alone(node: BackedUp, object_server: ObjectServer) -> None:
    first = node.back_up()
    node.clerk.receive(*slices(range(4, 6)), name="a2")
    object_server.gets.clear()

    second = node.back_up()

    assert len(object_server.gets) == 2
    same = [path for path in first.rglob("*.dcm") if path.samefile(second / path.relative_to(first))]
    assert len(same) == 3


def test_a_lost_object_is_named_by_backup_and_restore(
    node: BackedUp, tmp_path: Path, object_server: ObjectServer
) -> None:
    lost = node.clerk.rows(Instance)[0].path
    with object_server.client() as client:
        client.delete_object(Bucket=node.clerk.settings.store.bucket, Key=f"archive/{lost}")

    _, found = restored(node.back_up(), tmp_path / "new", object_server.settings())

    assert found.record.absent == (f"archive/{lost}",)
    assert found.absent == [f"archive/{lost}"]


def test_objects_can_be_left_to_their_store(node: BackedUp, tmp_path: Path) -> None:
    backup = node.back_up(leaves_objects=True)

    _, found = restored(backup, tmp_path / "new", node.clerk.settings.store)

    assert list(backup.rglob("*.dcm")) == []
    assert (found.record.absent, found.absent) == ((), [])


def test_a_store_that_dies_meanwhile_leaves_no_backup(node: BackedUp, object_server: ObjectServer) -> None:
    object_server.is_down = True

    with pytest.raises(UnavailableError, match="object store"):
        node.back_up()
    assert list(node.folder.glob("*/backup.json")) == []
