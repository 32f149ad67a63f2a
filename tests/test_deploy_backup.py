"""The disaster: a node is backed up while a scanner sends, is destroyed, and is restored elsewhere."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import gethostname
from threading import Event

import pytest
from sqlalchemy import Engine, select

from db.label_policy import Opinion
from db.labels import set_label
from db.models import Analysis, AnalysisState, AuditEvent, Label, LabelSource, LabelValue
from db.queries import get_study
from db.session import is_current, open_engine, transaction
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.pulse import Pulse
from lungnode.settings import Settings
from tests.command_line import CommandLine
from tests.databases import copied
from tests.faults.invariants import lost
from tests.faults.scanner import send_study
from tests.nodes import children, command, lungnode, variables, wait_for, wait_for_end

Variables = dict[str, str]
SLICES = 16
RESULTS = {AnalysisState.DONE, AnalysisState.NOT_APPLICABLE}
AT_ONCE = 2  # slices an association
QUICK = {
    "LUNGNODE_RECEIVER__HOST": "127.0.0.1",
    "LUNGNODE_CLERK__POLL_S": "0.1",
    "LUNGNODE_CLERK__QUIET_S": "2",
    "LUNGNODE_CLERK__GAP_QUIET_S": "2",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Iterator[tuple[Variables, Variables]]:
    """The variables that name the database of the node that dies, and of the one that is restored."""
    if request.param == "sqlite":
        yield {}, {}
        return
    server: str = request.getfixturevalue("postgresql")
    with copied(server, "template0") as first, copied(server, "template0") as second:
        yield {"LUNGNODE_DATABASE_URL": first}, {"LUNGNODE_DATABASE_URL": second}


@dataclass
class Scanner:
    """Sends studies, a few slices an association."""

    port: int
    acknowledged: dict[str, str] = field(default_factory=dict)  # SOP Instance UID: digest of its data set

    def send(self, study: PhantomStudy, pause_s: float = 0.0) -> None:
        """Send a study; `acknowledged` grows meanwhile."""
        for start in range(0, SLICES, AT_ONCE):
            slices = study.paths[start : start + AT_ONCE]
            sent = send_study(slices, self.port, pause_s=pause_s, limit_s=60)
            self.acknowledged |= sent.acknowledged

    def send_until(self, done: Event, study: PhantomStudy) -> None:
        """Send a study slowly, and once more from its beginning, until something is done."""
        while not done.is_set():
            self.send(study, pause_s=0.2)


def run(data: Path, settings: Variables, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        command(data, *arguments),
        env=variables(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@contextmanager
def database(data: Path, settings: Variables) -> Iterator[Engine]:
    engine = open_engine(settings.get("LUNGNODE_DATABASE_URL") or Settings(data=data).database)
    try:
        yield engine
    finally:
        engine.dispose()


def states(engine: Engine) -> list[str]:
    with transaction(engine) as session:
        return list(session.scalars(select(Analysis.state).order_by(Analysis.id)))


@contextmanager
def destroyed(data: Path, settings: Variables, *arguments: str) -> Iterator[None]:
    """Run a program that gets no chance to end well."""
    with lungnode(data, *arguments, environment=settings) as process:
        yield
        family = children(process.pid)
        process.send_signal(signal.SIGKILL)
    wait_for_end(family)


def live_and_die(data: Path, settings: Variables, backups: Path, studies: Sequence[PhantomStudy]) -> Scanner:
    """Receive studies, back up while the last one comes, and be gone with all data.

    Returns what was acknowledged before the backup began.
    """
    settings = settings | {"LUNGNODE_RECEIVER__PORT": "0"}
    with ExitStack() as stack:
        stack.enter_context(destroyed(data, settings, "receive"))
        wait_for((data / "receiver.json").exists, what="the receiver")
        scanner = Scanner(json.loads((data / "receiver.json").read_text())["port"])
        scanner.send(studies[0])
        # Now, so that it finds the whole study, however slowly that was sent.
        stack.enter_context(destroyed(data, settings, "clerk"))
        engine = stack.enter_context(database(data, settings))
        wait_for(lambda: is_current(engine), limit_s=60, what="the clerk's tables")
        wait_for(lambda: states(engine) == [AnalysisState.QUEUED], limit_s=60, what="the first study")
        with transaction(engine) as session:
            study = get_study(session, studies[0].study_instance_uid)
            set_label(session, study, Opinion(LabelValue.POSITIVE, LabelSource.RT_PCR), study.created_at)
        backed_up = Event()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(scanner.send_until, backed_up, studies[1])
            wait_for(lambda: len(scanner.acknowledged) > SLICES, limit_s=60, what="the second study")
            promised = Scanner(0, dict(scanner.acknowledged))
            try:
                run(data, settings, "backup", str(backups))
            finally:
                backed_up.set()
            sending.result()
    shutil.rmtree(data)
    return promised


def test_what_was_acknowledged_before_a_backup_outlives_the_node_and_is_analysed(
    tmp_path: Path, databases: tuple[Variables, Variables]
) -> None:
    first, second = (QUICK | each for each in databases)
    old, new, backups = tmp_path / "old", tmp_path / "new", tmp_path / "backups"
    old.mkdir()
    studies = [phantom_study(tmp_path / f"{n}", SLICES, lesions=True, seed=n, size=256) for n in (1, 2)]
    promised = live_and_die(old, first, backups, studies)

    told = json.loads(run(new, second, "restore", str(backups), "--json").stdout)

    assert (told["damaged"], told["absent"]) == ([], [])
    second["LUNGNODE_RECEIVER__PORT"] = "0"
    with lungnode(new, "up", environment=second), database(new, second) as engine:
        archive, acknowledged = new / "archive", promised.acknowledged
        wait_for(lambda: not list(lost(engine, archive, acknowledged)), limit_s=60, what="what was promised")
        # What came of the second study is maybe too little for a verdict, which is a result as well.
        wait_for(lambda: len(states(engine)) > 1 and set(states(engine)) <= RESULTS, limit_s=120)
        assert states(engine)[0] == AnalysisState.DONE
        with transaction(engine) as session:
            assert session.scalars(select(Label.value)).all() == ["positive"]
            assert "node restored" in session.scalars(select(AuditEvent.action)).all()


def test_the_command_tells_what_it_did_and_keeps_as_many_as_asked_for(
    tmp_path: Path, command_line: CommandLine
) -> None:
    config = tmp_path / "lungnode.toml"
    config.write_text("[receiver]\nport = 104\n")
    data, backups = tmp_path / "data", tmp_path / "backups"
    command_line.run(data, "db", "upgrade")
    assert command_line.run(data, "backup", backups, "--config", config).returncode == 0
    (older,) = backups.glob("2*")
    older.rename(backups / "20260101T000000Z")

    made = command_line.run(data, "backup", backups, "--config", config, "--keep", "1", "--json").document

    assert made["deleted"] == 1
    assert [path.name for path in backups.glob("2*")] == [Path(made["path"]).name]
    restored = command_line.run(tmp_path / "new", "restore", backups)
    assert f"The settings file of then is {made['path']}/settings.toml." in restored.stdout
    assert Path(made["path"], "settings.toml").read_text() == "[receiver]\nport = 104\n"


def test_nothing_is_restored_under_a_running_program(tmp_path: Path, command_line: CommandLine) -> None:
    data, backups = tmp_path / "data", tmp_path / "backups"
    command_line.run(data, "db", "upgrade")
    command_line.run(data, "backup", backups)
    Pulse(data, "clerk").beat()

    done = command_line.run(data, "restore", backups, "--replace")

    assert done.returncode == 1
    assert f"lungnode: clerk-{gethostname()} runs on {data}: stop it first." in done.stderr


def test_a_damaged_backup_fails_the_command_with_a_sentence(
    tmp_path: Path, command_line: CommandLine
) -> None:
    data, backups = tmp_path / "data", tmp_path / "backups"
    command_line.run(data, "db", "upgrade")
    command_line.run(data, "backup", backups)
    (dump,) = backups.glob("*/database.sqlite3")
    dump.write_bytes(dump.read_bytes()[:-1])

    done = command_line.run(data, "backup", backups, "--verify")

    assert done.returncode == 1
    assert f"The backup {dump.parent} is damaged: database.sqlite3 is damaged." in done.stderr
