import json
import shutil
import stat
import subprocess
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

import db
from db import models
from db.backup.make import Node, drop_oldest, make_backup
from db.backup.record import (
    DATA,
    RECORD_FILE,
    Record,
    backups_in,
    find_backup,
    name_of,
    read_record,
    sole_backup,
    write_record,
)
from db.backup.restore import RELEASED, Place, restore_backup
from db.backup.sums import SUMS_FILE, Sums, format_line, read_sums
from db.backup.verify import verify_backup
from db.label_policy import Opinion
from db.labels import every_label, set_label
from db.models import (
    Analysis,
    AnalysisState,
    Delivery,
    DeliveryState,
    LabelSource,
    LabelValue,
    Quarantined,
    RegisteredModel,
    Study,
)
from db.session import is_current, open_engine, transaction
from db.work import Work
from lungnode.deidentify.pseudonyms import open_pseudonyms
from lungnode.digest import file_digest
from lungnode.errors import UnavailableError, UnusableError
from tests.backing_up import BackedUp, nothing
from tests.spooling import NOON, ClerkNode, slices

LATER = NOON + timedelta(days=30)


@pytest.fixture
def node(clerk_node: ClerkNode, tmp_path: Path) -> BackedUp:
    """A node with an archived study, and one that waits in the spool, on SQLite and on PostgreSQL."""
    return filled(clerk_node, tmp_path)


@pytest.fixture
def file_node(local_node: ClerkNode, tmp_path: Path) -> BackedUp:
    """The same on SQLite alone, for what has to do with files and not with databases."""
    return filled(local_node, tmp_path)


def filled(clerk: ClerkNode, folder: Path) -> BackedUp:
    clerk.receive(*slices(range(1, 6)), name="a1")
    clerk.sender("a2").send(*slices(range(1, 4), "1.2.3")).release()
    return BackedUp(clerk, folder / "backups")


def make_first_tables(engine: Engine) -> None:
    """Make the tables of the first revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def wrong(backup: Path) -> list[str]:
    return list(verify_backup(backup, nothing))


def test_what_was_archived_and_what_waits_comes_back_and_goes_on(node: BackedUp, tmp_path: Path) -> None:
    with node.restored(node.back_up(), tmp_path / "new") as (restored, found):
        assert (found.damaged, found.absent) == ([], [])
        assert restored.archived() == node.clerk.archived()
        restored.clerk.round()
        assert {uid: len(study.instances) for uid, study in restored.studies().items()} == {
            "1.2.840.99999.1": 5,
            "1.2.3": 3,
        }


def test_the_list_of_digests_is_one_that_sha256sum_checks(file_node: BackedUp) -> None:
    backup = file_node.back_up()

    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS_FILE],
        cwd=backup,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr
    assert len(checked.stdout.splitlines()) == len(files(backup)) - len({SUMS_FILE, RECORD_FILE})


@pytest.mark.parametrize("name", ["plain.dcm", "back\\slash", "line\nfeed", "both\\n\n", "umläut", "a  b"])
def test_a_name_is_written_as_sha256sum_writes_it_and_read_back(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    theirs = subprocess.run(["sha256sum", name], cwd=tmp_path, capture_output=True, check=True).stdout

    ours = format_line(name, theirs.decode().lstrip("\\")[:64])

    assert ours.encode() == theirs
    (tmp_path / SUMS_FILE).write_bytes(theirs)
    assert [path for path, _ in read_sums(tmp_path / SUMS_FILE)] == [name]


@pytest.mark.parametrize("line", ["", "abc  x\n", f"{'0' * 64}  ../x\n", f"{'0' * 64}  /etc/x\n", "0" * 64])
def test_a_list_that_is_damaged_or_leads_out_of_the_backup_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / SUMS_FILE).write_text(f"{line}\n")

    with pytest.raises(UnusableError, match="is damaged"):
        list(read_sums(tmp_path / SUMS_FILE))


def test_a_second_backup_copies_only_what_is_new(file_node: BackedUp) -> None:
    first = file_node.back_up()
    file_node.clerk.clerk.round()
    second = file_node.back_up()

    shared = {
        p
        for p in files(first / DATA) & files(second / DATA)
        if (first / DATA / p).samefile(second / DATA / p)
    }
    assert shared == {path for path in files(first / DATA) if path.startswith("archive/")}
    assert len(files(second / DATA)) == 5 + 3
    assert wrong(first) == wrong(second) == []


def test_a_file_that_changed_is_copied_anew_and_the_older_backup_keeps_what_it_had(
    file_node: BackedUp,
) -> None:
    (file_node.data / "runs").mkdir()
    (file_node.data / "runs/history.csv").write_text("1\n")
    first = file_node.back_up()
    (file_node.data / "runs/history.csv").write_text("1\n2\n")
    second = file_node.back_up()

    assert (first / DATA / "runs/history.csv").read_text() == "1\n"
    assert (second / DATA / "runs/history.csv").read_text() == "1\n2\n"


def test_what_comes_while_a_backup_runs_is_whole_in_it_or_not_at_all(node: BackedUp, tmp_path: Path) -> None:
    def receive_more(done: int) -> None:
        if done <= 8:  # while archive and spool are copied
            node.clerk.receive(*slices(range(3), f"1.2.4.{done}"), name=f"b{done}")

    backup = node.back_up(receive_more)

    assert read_record(backup).absent == ()
    with node.restored(backup, tmp_path / "new") as (restored, found):
        assert found.absent == []
        for study in restored.studies().values():
            for instance in study.instances:
                assert restored.archived()[instance.path] == instance.digest
        restored.clerk.round()
        assert {"1.2.840.99999.1", "1.2.3", "1.2.4.1"} <= set(restored.studies())


def test_what_the_clerk_moves_behind_the_dump_is_not_lost(node: BackedUp, tmp_path: Path) -> None:
    def work(done: int) -> None:
        if done == 1:
            node.clerk.receive(*slices(range(3), "1.2.4"), name="b")  # is copied behind the dump
            node.clerk.sender("c").send(*slices(range(3), "1.2.5")).release()
        elif any(node.folder.glob("*.part/database.*")):
            node.clerk.clerk.round()

    backup = node.back_up(work)

    with node.restored(backup, tmp_path / "new") as (restored, _):
        restored.clerk.round()
        assert (
            set(restored.studies())
            == set(node.clerk.studies())
            == {"1.2.840.99999.1", "1.2.3", "1.2.4", "1.2.5"}
        )


def test_what_is_deleted_while_a_backup_runs_is_not_in_it(node: BackedUp) -> None:
    def delete_the_first(done: int) -> None:
        if done == 5:
            with transaction(node.clerk.engine) as session:
                for table in ("instances", "studies"):
                    session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names of ours
            shutil.rmtree(node.clerk.settings.archive / "1.2.840.99999.1")

    backup = node.back_up(delete_the_first)

    assert not [path for path in files(backup / DATA) if path.startswith("archive/")]
    assert (read_record(backup).absent, wrong(backup)) == ((), [])


def test_files_that_the_node_has_lost_or_changed_are_named(file_node: BackedUp) -> None:
    folder = file_node.clerk.settings.archive / "1.2.840.99999.1"
    lost, changed = sorted(folder.iterdir())[:2]
    lost.unlink()
    changed.write_bytes(b"something else")

    record = read_record(file_node.back_up())

    assert record.absent == (f"archive/1.2.840.99999.1/{lost.name}",)
    assert record.changed == (f"archive/1.2.840.99999.1/{changed.name}",)


def test_labels_test_sets_models_secrets_and_quarantine_come_back(node: BackedUp, tmp_path: Path) -> None:
    engine, data = node.clerk.engine, node.data
    pseudonym = open_pseudonyms(data).uid("1.2.3")
    (data / "models/ours-1").mkdir(parents=True)
    (data / "models/ours-1/weights").write_bytes(b"weights")
    node.clerk.sender("a9").put(lambda path: path.write_bytes(b"no DICOM"))
    node.clerk.clerk.round()
    with transaction(engine) as session:
        study = session.query(Study).filter_by(study_instance_uid="1.2.840.99999.1").one()
        set_label(session, study, Opinion(LabelValue.POSITIVE, LabelSource.RT_PCR), NOON)
        frozen = models.TestSet(name="2026", digest="cd" * 32, created_at=NOON)
        frozen.members.append(models.TestSetMember(study_id=study.id, value="positive"))
        session.add(frozen)
        session.add(
            RegisteredModel(name="ours", version="1", digest="ab" * 32, path="ours-1", created_at=NOON)
        )

    with node.restored(node.back_up(), tmp_path / "new") as (restored, found):
        assert found.absent == []
        with transaction(restored.engine) as session:
            assert [(uid, opinion.value) for uid, opinion in every_label(session)] == [
                ("1.2.840.99999.1", "positive")
            ]
            (test_set,) = session.query(models.TestSet)
            assert (test_set.digest, len(test_set.members)) == ("cd" * 32, 1)
        assert [row.path for row in restored.rows(RegisteredModel)] == ["ours-1"]
        assert [
            (restored.settings.quarantine / row.path).read_bytes() for row in restored.rows(Quarantined)
        ] == [b"no DICOM"]
        assert (restored.settings.models / "ours-1/weights").read_bytes() == b"weights"
        assert stat.S_IMODE((restored.settings.data / "deidentification/secret").stat().st_mode) == 0o600
        assert open_pseudonyms(restored.settings.data).uid("1.2.3") == pseudonym


def test_only_its_owner_can_enter_a_backup(file_node: BackedUp) -> None:
    assert stat.S_IMODE(file_node.back_up().stat().st_mode) == 0o700


def test_what_is_made_again_or_means_nothing_later_is_left_out(file_node: BackedUp) -> None:
    for name in (
        "cache/studies/x",
        "outputs/staging/1-a/x.dcm",
        "outputs/.trash/1.2.3.ab/1/x.dcm",
        "health/clerk",
        "replaced-2026/x",
        "lock",
        "x.part",
    ):
        (file_node.data / name).parent.mkdir(parents=True, exist_ok=True)
        (file_node.data / name).touch()

    kept = {path.partition("/")[0] for path in files(file_node.back_up() / DATA)}

    assert kept == {"archive", "spool"}


def test_work_that_was_under_way_begins_again_without_costing_an_attempt(
    node: BackedUp, tmp_path: Path
) -> None:
    taken = {"attempts": 2, "lease_owner": "gone", "lease_until": LATER + timedelta(days=1), "due_at": NOON}
    with transaction(node.clerk.engine) as session:
        study = session.query(Study).one()
        analysis = Analysis(study=study, revision=1, state=AnalysisState.RUNNING, created_at=NOON, **taken)
        session.add(analysis)
        session.flush()
        delivery = {"destination": "PACS", "group": "sr", "state": DeliveryState.SENDING, "created_at": NOON}
        session.add(Delivery(analysis_id=analysis.id, **delivery, **taken))

    with node.restored(node.back_up(), tmp_path / "new") as (restored, found):
        assert found.released == 2
        (analysed,), (delivered,) = restored.rows(Analysis), restored.rows(Delivery)
        assert (analysed.state, analysed.attempts, analysed.lease_owner) == ("queued", 1, "")
        assert (delivered.state, delivered.attempts, delivered.lease_owner) == ("pending", 1, "")


def test_every_kind_of_work_begins_again() -> None:
    modules = [import_module(f"db.{found.name}") for found in iter_modules(db.__path__)]
    kinds = [value for module in modules for value in vars(module).values() if isinstance(value, Work)]

    assert {id(work) for work in kinds} == {id(work) for work in RELEASED}


def test_an_upload_that_is_kept_comes_back_and_another_one_does_not(
    file_node: BackedUp, tmp_path: Path
) -> None:
    with transaction(file_node.clerk.engine) as session:
        account = models.Account(name="reader", role="reader", created_at=NOON)
        session.add(account)
        session.flush()
        for key, expires_at in (("kept", None), ("short", LATER)):
            facts = {"name": "a.png", "files": 1, "size": 1, "due_at": NOON, "created_at": NOON}
            session.add(models.Upload(key=key, account_id=account.id, expires_at=expires_at, **facts))
            (file_node.data / "uploads" / key / "heatmaps").mkdir(parents=True)
            (file_node.data / "uploads" / key / "heatmaps/1.png").write_bytes(b"x")

    with file_node.restored(file_node.back_up(), tmp_path / "new") as (restored, _):
        found = files(restored.settings.uploads)

    assert found == {"kept/heatmaps/1.png"}


def test_a_damaged_or_missing_file_is_named_and_all_others_are_restored(
    file_node: BackedUp, tmp_path: Path
) -> None:
    backup = file_node.back_up()
    damaged, missing, *_ = sorted((backup / DATA / "archive").rglob("*.dcm"))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.unlink()  # the node has the same file
    damaged.write_bytes(content)
    missing.unlink()
    told = [
        f"{damaged.relative_to(backup)} is damaged.",
        f"{missing.relative_to(backup)} is missing.",
    ]

    assert wrong(backup) == told
    with file_node.restored(backup, tmp_path / "new") as (restored, found):
        assert found.damaged == told
        assert len(found.absent) == 2
        assert len(restored.archived()) == 3


def test_a_damaged_dump_or_list_is_found(node: BackedUp) -> None:
    backup = node.back_up()
    record = read_record(backup)
    (backup / record.database).write_bytes(b"nothing")
    (backup / SUMS_FILE).write_text("".join((backup / SUMS_FILE).read_text().splitlines(keepends=True)[1:]))

    found = wrong(backup)

    assert found[:2] == [f"{SUMS_FILE} is damaged.", f"{record.database} is damaged."]
    assert found[2].startswith(f"{record.database} cannot be restored: ")


def test_a_database_that_is_damaged_is_refused_before_anything_is_touched(node: BackedUp) -> None:
    backup = node.back_up()
    (backup / read_record(backup).database).write_bytes(b"nothing")

    with pytest.raises(UnusableError, match=r"cannot be restored .*lungnode studies reindex"):
        restore_backup(backup, Place(node.data, node.clerk.engine), LATER, replace=True, progress=nothing)

    assert len(node.clerk.archived()) == 5


def test_a_backup_of_an_older_version_is_brought_to_this_one(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/old.sqlite3")
    make_first_tables(engine)
    backup = tmp_path / "backups/20260101T000000Z"
    with sole_backup(backup.parent):
        backup.mkdir()
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO test_sets (name, digest, created_at) VALUES ('2026', :digest, :now)"),
            {"digest": "ab" * 32, "now": NOON},
        )
    engine.dispose()
    dump = (tmp_path / "old.sqlite3").rename(backup / "database.sqlite3")
    (backup / SUMS_FILE).write_text(format_line("database.sqlite3", file_digest(dump)))
    (backup / DATA).mkdir()
    facts = {"made_at": NOON, "database": "database.sqlite3", "revision": "0001", "files": 0, "bytes": 0}
    sums = file_digest(backup / SUMS_FILE)
    write_record(Record.model_validate(facts | {"sums_sha256": sums, "absent": (), "changed": ()}), backup)
    (tmp_path / "new").mkdir()
    restored = open_engine(f"sqlite:///{tmp_path}/new/lungnode.sqlite3")

    restore_backup(backup, Place(tmp_path / "new", restored), LATER, replace=False, progress=nothing)

    assert is_current(restored)
    with transaction(restored) as session:
        assert [row.name for row in session.query(models.TestSet)] == ["2026"]
    restored.dispose()


def test_a_place_that_is_not_empty_is_refused_and_put_aside_on_demand(node: BackedUp, tmp_path: Path) -> None:
    backup, data = node.back_up(), tmp_path / "new"
    with node.restored(backup, data) as (restored, _):
        place = Place(data, restored.engine)
        (data / "archive/mine").touch()
        with pytest.raises(UnusableError, match=r"is not empty \(it has archive\).*--replace"):
            restore_backup(backup, place, LATER, replace=False, progress=nothing)

        restore_backup(backup, place, LATER, replace=True, progress=nothing)

        assert (data / f"replaced-{name_of(LATER)}/archive/mine").exists()
        assert not (data / "archive/mine").exists()
        assert len(restored.studies()) == 1


def test_a_database_with_tables_is_refused(node: BackedUp, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(UnusableError, match="has tables"):
        restore_backup(
            node.back_up(), Place(tmp_path / "new", node.clerk.engine), LATER, replace=False, progress=nothing
        )


def test_a_backup_of_a_newer_version_is_refused(file_node: BackedUp, tmp_path: Path) -> None:
    backup = file_node.back_up()
    record = json.loads((backup / RECORD_FILE).read_text())
    (backup / RECORD_FILE).write_text(json.dumps(record | {"revision": "9999", "lungnode": "9.0"}))

    with (
        pytest.raises(UnusableError, match=r"Lungnode 9\.0, which is newer"),
        file_node.restored(backup, tmp_path / "new"),
    ):
        pass


def test_a_backup_that_was_cut_short_is_none_and_is_cleared_away(file_node: BackedUp) -> None:
    def fail(done: int) -> None:
        if done == 3:
            raise OSError(28, "No space left on device", "x")

    with pytest.raises(UnavailableError, match="No space left on device"):
        file_node.back_up(fail)
    assert len(list(file_node.folder.glob("*.part"))) == 1
    with pytest.raises(UnusableError, match="is no backup and holds none"):
        find_backup(file_node.folder)

    backup = file_node.back_up()

    assert {path.name for path in file_node.folder.iterdir()} == {backup.name, "lock"}


def test_the_oldest_go_and_what_they_shared_stays(file_node: BackedUp) -> None:
    for _ in range(3):
        file_node.back_up()

    assert drop_oldest(file_node.folder, keep=1) == 2
    assert list(backups_in(file_node.folder)) == [file_node.made[-1]]
    assert wrong(file_node.made[-1]) == []


def test_two_backups_at_once_are_refused(file_node: BackedUp) -> None:
    with sole_backup(file_node.folder), pytest.raises(UnavailableError, match="Another backup is being made"):
        file_node.back_up()


def test_a_folder_of_backups_within_the_data_folder_is_refused(file_node: BackedUp) -> None:
    inside = Node(file_node.data, file_node.clerk.engine, None)

    with pytest.raises(UnusableError, match="lies in the data folder"):
        make_backup(inside, file_node.data / "backups", NOON, nothing)


def test_another_disk_gets_copies(file_node: BackedUp, other_disk: Path) -> None:
    file_node.folder = other_disk

    backup = file_node.back_up()

    assert all(path.stat().st_nlink == 1 for path in backup.rglob("*") if path.is_file())
    assert wrong(backup) == []


def test_a_backup_of_the_other_kind_of_database_is_refused(node: BackedUp, tmp_path: Path) -> None:
    other = "sqlite" if node.clerk.engine.dialect.name == "postgresql" else "postgresql"
    engine = open_engine(f"{other}:///{tmp_path}/x" if other == "sqlite" else "postgresql://127.0.0.1:1/x")

    with pytest.raises(UnusableError, match=f"names one of {other}: restore to the same kind"):
        restore_backup(node.back_up(), Place(tmp_path, engine), LATER, replace=False, progress=nothing)


def test_without_its_client_a_postgresql_database_is_not_backed_up(
    postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnusableError, match="pg_dump is not installed"):
        make_backup(
            Node(tmp_path / "data", open_engine(postgresql), None), tmp_path / "backups", NOON, nothing
        )


def test_the_digests_of_a_backup_in_the_making_are_not_kept_in_memory(tmp_path: Path) -> None:
    sums = Sums(tmp_path / "working", [("data/archive/a", "0" * 64)])
    sums.add("data/archive/a", "1" * 64)
    sums.add("data/archive0", "2" * 64)
    sums.add("data/archive/b", "3" * 64)
    sums.name("data/archive/b")

    assert (sums.before("data/archive/a"), sums.digest("data/archive/a")) == ("0" * 64, "1" * 64)
    assert sums.unnamed("data/archive") == ["data/archive/a"]
    sums.close()
    assert not (tmp_path / "working").exists()
