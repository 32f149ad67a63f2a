"""Folder and object store keep what they took, give back what is whole, and say what is wrong."""

import os
import pickle
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from lungnode.errors import UnavailableError
from lungnode.settings import Settings, StoreSettings
from lungnode.store import Arrival, Store, StoreAwayError, StoredFile, fetched, open_archive, open_outputs
from lungnode.store.copies import SPARED_S, Copies
from tests.stores import ObjectServer

STUDY = "1.2.3"


@pytest.fixture
def objects(object_server: ObjectServer, tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", store=object_server.settings("/node"))


@pytest.fixture(params=["folder", "objects"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "folder":
        return Settings(data=tmp_path / "data")
    found: Settings = request.getfixturevalue("objects")
    return found


def arrival(folder: Path, name: str, content: bytes, study: str = STUDY) -> Arrival:
    source = folder / f"{name}.received"
    source.unlink(missing_ok=True)  # an archived file may be a link to it
    source.write_bytes(content)
    os.utime(source, (1_700_000_000, 1_700_000_000))
    return Arrival(source, study, name, f"{name}.dcm", sha256(content).hexdigest())


def stored(path: str, content: bytes) -> StoredFile:
    return StoredFile(path, len(content), sha256(content).hexdigest())


def kept(store: Store, folder: Path, content: bytes = b"an image", name: str = "1.9") -> StoredFile:
    (path,) = store.keep([arrival(folder, name, content)])
    return stored(path, content)


def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """The same store as a host with another data folder sees it."""
    return settings.model_copy(update={"data": tmp_path / "elsewhere"})


def test_what_was_kept_is_there_bit_for_bit_with_its_time(settings: Settings, tmp_path: Path) -> None:
    archive = open_archive(settings)
    file = kept(archive, tmp_path)

    (path,) = archive.fetch([file])
    assert (path.read_bytes(), path.stat().st_mtime) == (b"an image", 1_700_000_000)
    assert archive.read_back(file.path) == (file.size, file.digest)
    assert (list(archive.studies()), archive.sizes(STUDY)) == ([STUDY], {file.path: 8})
    assert archive.present([file.path, f"{STUDY}/other.dcm"]) == {file.path}


def test_a_repeat_finds_the_first_ones_work_and_other_bytes_do_not_take_its_place(
    settings: Settings, tmp_path: Path
) -> None:
    archive = open_archive(settings)
    first, again = (kept(archive, tmp_path) for _ in range(2))
    other = kept(archive, tmp_path, b"another image of the same UID")

    assert (again, len(archive.sizes(STUDY))) == (first, 2)
    assert [path.read_bytes() for path in archive.fetch([first, other])] == [
        b"an image",
        b"another image of the same UID",
    ]


def test_a_study_leaves_in_one_step_and_what_rows_name_stays(settings: Settings, tmp_path: Path) -> None:
    archive = open_archive(settings)
    gone, named = (kept(archive, tmp_path, name.encode(), name) for name in ("1.1", "1.2"))

    assert archive.throw_away(STUDY) is not None
    assert archive.present([gone.path, named.path]) == set()
    (trash,) = archive.trash()
    assert (trash.name, set(trash.paths())) == (STUDY, {gone.path, named.path})
    trash.put_back(named.path)
    assert trash.empty()

    assert archive.present([gone.path, named.path]) == {named.path}
    assert (archive.trash(), archive.throw_away("1.2.4")) == ([], None)


def test_a_composed_file_is_in_place_when_its_transaction_ends(settings: Settings) -> None:
    outputs = open_outputs(settings)
    staged = outputs.root / "staging" / "1"
    staged.mkdir(parents=True)
    (staged / "report").write_bytes(b"a report")
    path = outputs.path_for(f"{STUDY}/1", "1.9", sha256(b"a report").hexdigest())

    outputs.prepare({path: staged / "report"})
    outputs.place({path: staged / "report"})

    (found,) = outputs.fetch([stored(path, b"a report")])
    assert found.read_bytes() == b"a report"


def test_a_store_that_works_passes_the_probe_and_keeps_nothing_of_it(settings: Settings) -> None:
    archive = open_archive(settings)

    archive.probe()

    assert list(archive.studies()) == []


def test_another_host_gets_a_checked_copy_once(
    object_server: ObjectServer, objects: Settings, tmp_path: Path
) -> None:
    file = kept(open_archive(objects), tmp_path)
    archive = open_archive(elsewhere(objects, tmp_path))

    copies = [archive.fetch([file])[0] for _ in range(2)]

    assert [(copy.read_bytes(), copy.stat().st_mtime) for copy in copies] == [(b"an image", 1.7e9)] * 2
    assert len(object_server.gets) == 1


def test_the_host_that_received_a_file_need_not_fetch_it(
    object_server: ObjectServer, objects: Settings, tmp_path: Path
) -> None:
    archive = open_archive(objects)
    file = kept(archive, tmp_path)

    assert archive.fetch([file])[0].samefile(tmp_path / "1.9.received")
    assert object_server.gets == []


def test_a_damaged_object_is_never_given_out(objects: Settings, tmp_path: Path) -> None:
    whole = kept(open_archive(objects), tmp_path, b"whole", "1.8")
    damaged = StoredFile(whole.path, whole.size, sha256(b"other").hexdigest())
    archive = open_archive(elsewhere(objects, tmp_path))

    with pytest.raises(
        UnavailableError, match=r"is not what was received: its digest is another one\."
    ) as met:
        archive.fetch([damaged])
    assert not isinstance(met.value, StoreAwayError)
    assert list((tmp_path / "elsewhere").rglob("*.dcm")) == []
    again = open_archive(elsewhere(objects, tmp_path))
    found = list(fetched(again, [whole, StoredFile(f"{STUDY}/gone.dcm")]))
    assert [isinstance(each, Path) and each.exists() for each in found] == [True, False]


def test_what_arrives_as_something_else_is_refused(
    object_server: ObjectServer, objects: Settings, tmp_path: Path
) -> None:
    object_server.garbles = True

    with pytest.raises(StoreAwayError, match="cannot be used"):
        kept(open_archive(objects), tmp_path)
    assert open_archive(objects).sizes(STUDY) == {}


def test_a_large_file_is_sent_in_parts_and_read_back(objects: Settings, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 17

    file = kept(open_archive(objects), tmp_path, content)

    assert open_archive(objects).read_back(file.path) == (file.size, file.digest)


@pytest.mark.parametrize("fault", ["down", "unreachable", "no such bucket"])
def test_a_store_that_is_away_is_told_from_a_file_that_is_gone(
    object_server: ObjectServer, objects: Settings, fault: str
) -> None:
    away = {"unreachable": {"endpoint": "http://127.0.0.1:1"}, "no such bucket": {"url": "s3://nobody"}}
    store = objects.store.model_copy(update=away.get(fault, {}))
    archive = open_archive(objects.model_copy(update={"store": store}))
    object_server.is_down = fault == "down"
    lost = StoredFile(f"{STUDY}/lost.dcm", 1, "ab")

    for ask in (archive.check, archive.probe, archive.trash, lambda: archive.fetch([lost])):
        with pytest.raises(StoreAwayError, match=r"^The object store s3://.* cannot be used: .*\.$"):
            ask()
    object_server.is_down = False
    assert not open_archive(objects).fetch([lost])[0].exists()


def test_a_folder_that_is_away_is_told_from_a_file_that_is_gone(tmp_path: Path) -> None:
    archive = open_archive(Settings(data=tmp_path))

    with pytest.raises(StoreAwayError, match="is not there"):
        archive.check()
    with pytest.raises(StoreAwayError, match="is not there"):
        archive.read_back("1/2.dcm")
    archive.root.mkdir()
    assert archive.read_back("1/2.dcm") is None


def test_copies_that_were_not_used_lately_make_room_for_others(tmp_path: Path) -> None:
    copies = Copies(tmp_path, "archive", limit=1000)
    for number in range(5):
        with copies.written(f"{STUDY}/{number}.dcm", 0) as file:
            file.write(b"x" * 300)
    now = (tmp_path / "archive" / STUDY / "4.dcm").stat().st_atime
    for number, hours in enumerate((5, 2, 3, 0.5, 0.1)):
        path = tmp_path / "archive" / STUDY / f"{number}.dcm"
        os.utime(path, (now - timedelta(hours=hours).total_seconds(), 0))

    copies.sweep(now)

    assert {path.stem for path in (tmp_path / "archive" / STUDY).iterdir()} == {"1", "3", "4"}
    copies.sweep(now + SPARED_S * 23.7)
    assert list(tmp_path.rglob("*.dcm")) == [tmp_path / "archive" / STUDY / "4.dcm"]


def test_a_use_is_noted_so_that_a_copy_stays(tmp_path: Path) -> None:
    copies = Copies(tmp_path, "archive", limit=1000)
    with copies.written(f"{STUDY}/1.dcm", 5_000_000_000) as file:
        file.write(b"x")
    path = tmp_path / "archive" / STUDY / "1.dcm"
    os.utime(path, (0, 5))

    assert copies.has(StoredFile(f"{STUDY}/1.dcm", 1))

    assert path.stat().st_atime > SPARED_S
    assert path.stat().st_mtime == 5
    assert not copies.has(StoredFile(f"{STUDY}/1.dcm", 2))


def test_another_process_opens_the_same_store(objects: Settings, tmp_path: Path) -> None:
    archive = open_archive(objects)
    file = kept(archive, tmp_path)

    opened = pickle.loads(pickle.dumps(archive))  # noqa: S301 - our own

    assert opened.fetch([file])[0].read_bytes() == b"an image"


@pytest.mark.parametrize("url", ["http://bucket", "s3://", "bucket", "s3://bucket?x=1"])
def test_a_store_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a store is s3://bucket/prefix"):
        StoreSettings(url=url)
