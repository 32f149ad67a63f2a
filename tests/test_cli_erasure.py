"""`studies delete` leaves nothing of a study behind, killed or not."""

import fcntl
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event, func, select, text

from db.erasure import KEPT, UID_COLUMN, belonging, pending_erasures
from db.models import (
    Analysis,
    AuditEvent,
    Base,
    CommitmentRequest,
    CommitmentStudy,
    Correction,
    Label,
    Quarantined,
    ShadowResult,
    Study,
    Withdrawal,
)
from db.queries import get_study
from db.session import transaction
from lungnode.cli._erasure import erase
from lungnode.deidentify.linkage import Linkage
from lungnode.deidentify.pseudonyms import open_pseudonyms
from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import Settings
from tests.command_line import CommandLine, Result
from tests.databases import new_sqlite
from tests.retaining import KilledError, change, files, killed_at_file_step, settle, sweep
from tests.spooling import NOON, STUDY, ClerkNode, ct, slices
from trainer.blocks import BlockStore
from trainer.cache import VERSION, CachedSlice, CachedStudy
from trainer.manifest import write_manifest
from trainer.samples import Sample

OTHER = "1.2.840.99999.2"
SLICES = {study: sha256(study.encode()).hexdigest() for study in (STUDY, OTHER)}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClerkNode]:
    """A node with traces of two studies everywhere."""
    settings = Settings(data=tmp_path / "data")
    engine = new_sqlite(settings.database)
    node = ClerkNode(engine, settings)
    for study in (STUDY, OTHER):
        settle(node, study)
        _leave_traces(node, study)
    store = BlockStore(settings.cache / "features/abc")
    keys = [f"{SLICES[study][:40]}-0" for study in (STUDY, OTHER)]
    store.add(keys, [np.array([[1.0, 2.0], [3.0, 4.0]], np.float16)])
    _train(node)
    yield node
    engine.dispose()


def _leave_traces(node: ClerkNode, study: str) -> None:
    sender = node.sender(f"q{study}")
    sender.put(lambda path: path.write_bytes(b"damaged " + study.encode() + b"\0" + bytes(100)))
    sender.release()
    node.clerk.round()
    cached = CachedSlice(name="0001.jpg", size=6, sha256=SLICES[study])
    kept = {"slices": (cached,), "attributes": {}, "received": 1, "received_slices": 1, "stored_pixels": 1}
    document = CachedStudy(version=VERSION, source="", **kept)
    (node.settings.cache / "studies" / study / "r1_jpeg/done.json").write_text(document.model_dump_json())
    pseudonyms = open_pseudonyms(node.settings.data)
    uids = {study: pseudonyms.uid(study)}
    Linkage(study, "4711", pseudonyms.person("4711"), uids).write(node.settings.data)
    with transaction(node.engine) as session:
        row = get_study(session, study)
        row.labels.append(Label(value="positive", source="reader", created_at=NOON))
        said = {"attributes": {"PatientID": "4712"}, "replaced": {"PatientID": "4711"}}
        row.corrections.append(Correction(revision=2, at=NOON, source="x", **said))
        named = {"study_instance_uid": study, "sop_instance_uid": f"{study}.1.1", "note_uid": "1.2.9"}
        session.add(Withdrawal(**named, code="113001", received_at=NOON))
        shadow = {"model": "m", "model_digest": "d", "verdict": "negative", "threshold": 0.5, "seconds": 1}
        session.add(ShadowResult(analysis_id=row.analyses[0].id, created_at=NOON, **shadow))


def _train(node: ClerkNode) -> None:
    runs = node.settings.data / "runs"
    for run, studies in (("both-1", (STUDY, OTHER)), ("other-1", (OTHER,))):
        samples = [
            Sample(
                "archive", node.settings.data / f"{study}.jpg", True, "p", study=study, digest=SLICES[study]
            )
            for study in studies
        ]
        (runs / run / "state").mkdir(parents=True)
        write_manifest(samples, runs / run / "samples.csv")


@pytest.fixture
def lungnode(command_line: CommandLine, node: ClerkNode) -> Callable[..., Result]:
    return partial(command_line.run, node.settings.data)


def traces(node: ClerkNode, study: str) -> list[str]:
    """Files and rows in which a study's UID stands, but for the audit trail and the lists of runs."""
    word = study.encode()
    data = node.settings.data
    found = [str(path.relative_to(data)) for path in data.rglob("*") if study in path.parts]
    for path in data.rglob("*"):
        is_database = path.name.startswith("lungnode.sqlite3")
        if (
            path.is_file()
            and not is_database
            and "runs" not in path.parts
            and word + b"." in path.read_bytes()
        ):
            found.append(str(path.relative_to(data)))
    skipped = ("audit_events", "associations")  # the trail stays; these associations are named after studies
    with node.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            rows = connection.execute(table.select()) if table.name not in skipped else ()
            found += [f"table {table.name}" for row in rows if any(study in str(value) for value in row)]
    return found


def test_nothing_of_a_deleted_study_is_left_and_the_other_one_is_whole(
    node: ClerkNode, lungnode: Callable[..., Result]
) -> None:
    assert len(set(traces(node, STUDY))) > 15
    before = [entry.replace(OTHER, "") for entry in traces(node, OTHER)]

    result = lungnode("studies", "delete", STUDY, "--yes")

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"Study {STUDY} is deleted.\nIt was trained with in both-1:")
    assert traces(node, STUDY) == []
    assert [entry.replace(OTHER, "") for entry in traces(node, OTHER)] == before
    (row,) = node.rows(Quarantined)
    assert row.path.startswith(f"q{OTHER}")
    (array,) = (node.settings.cache / "features").glob("abc/*.npy")
    assert np.load(array).tolist() == [[0.0, 0.0], [3.0, 4.0]]
    told = node.rows(AuditEvent)[-1]
    assert (told.action, told.subject) == ("study deleted", STUDY)
    assert told.details == {"labels": 1, "test_sets": [], "trained_in": ["both-1"]}


def test_the_database_file_keeps_no_copy_of_what_was_deleted(node: ClerkNode) -> None:
    change(node, Study, study_description="ZZTRACE")
    erase(node.settings, node.engine, STUDY, NOON, force=False)

    assert not any(b"ZZTRACE" in path.read_bytes() for path in node.settings.data.glob("lungnode.sqlite3*"))


def test_every_table_that_names_a_study_or_refers_to_one_is_emptied() -> None:
    reached = {table.name for table, _ in belonging(Study(study_instance_uid="1.2"))}

    named = {table.name for table in Base.metadata.sorted_tables if UID_COLUMN in table.c}
    assert named - KEPT <= reached
    assert {"instances", "outputs", "deliveries", "shadow_results", "test_set_members"} <= reached
    assert not reached & {"models", "test_sets", "associations", "accounts", "commitment_requests"}


def die_at_commit(node: ClerkNode, number: int) -> Callable[[], None]:
    passed = Counter[str]()

    def die(_connection: object) -> None:
        passed["commit"] += 1
        if passed["commit"] == number:
            raise KilledError

    event.listen(node.engine, "commit", die)
    return lambda: event.remove(node.engine, "commit", die)


@pytest.mark.parametrize("number", range(1, 5))
def test_killed_at_any_commit_the_same_command_ends_it(node: ClerkNode, number: int) -> None:
    revive = die_at_commit(node, number)
    with pytest.raises(KilledError):
        erase(node.settings, node.engine, STUDY, NOON, force=False)
    revive()

    sweep(node, 0)  # of the clerk, which puts back what was not committed
    erase(node.settings, node.engine, STUDY, NOON, force=False)

    assert traces(node, STUDY) == []
    assert [event.subject for event in node.rows(AuditEvent) if event.action == "study deleted"] == [STUDY]


@pytest.mark.parametrize("step", range(1, 22))
def test_killed_at_any_change_of_names_the_same_command_ends_it(node: ClerkNode, step: int) -> None:
    with killed_at_file_step(step):
        erase(node.settings, node.engine, STUDY, NOON, force=False)

    with transaction(node.engine) as session:
        is_left = bool(pending_erasures(session)) or bool(
            session.scalar(select(func.count()).where(Study.study_instance_uid == STUDY))
        )
    if is_left:
        erase(node.settings, node.engine, STUDY, NOON, force=False)

    assert traces(node, STUDY) == []
    assert "archive/" + OTHER in {str(Path(path).parent) for path in files(node)}


def test_a_study_that_is_sent_again_afterwards_is_a_new_one(node: ClerkNode) -> None:
    erase(node.settings, node.engine, STUDY, NOON, force=False)

    node.receive(*slices((1, 2)), name="again")

    study = node.studies()[STUDY]
    assert (study.revision, len(study.instances), study.state) == (0, 2, "receiving")


@pytest.mark.parametrize("state", ["analysed", "delivered", "received", "spooled", "trained with"])
def test_a_study_that_is_worked_on_is_refused_and_stays_whole(node: ClerkNode, state: str) -> None:
    refused = partial(erase, node.settings, node.engine, STUDY, node.clock(), force=True)
    lock = (node.settings.data / "runs/both-1/state/lock").open("w")
    match state:
        case "analysed":
            change(node, Analysis, state="running")
        case "delivered":
            with transaction(node.engine) as session:
                session.execute(text("UPDATE deliveries SET state = 'sending'"))
        case "received":
            with transaction(node.engine) as session:
                later = {"later": NOON + timedelta(days=1), "id": f"a{STUDY}"}
                statement = "UPDATE associations SET closed_at = NULL, lease_until = :later WHERE id = :id"
                session.execute(text(statement), later)
        case "spooled":
            node.sender("more").send(ct(9)).lose()
        case _:
            fcntl.flock(lock, fcntl.LOCK_EX)
    before = traces(node, STUDY)

    with pytest.raises(
        UnusableError, match=f"Study {STUDY} is being {'received' if state == 'spooled' else ''}"
    ):
        refused()

    lock.close()
    assert traces(node, STUDY) == before


def test_scanners_requests_about_a_study_forget_its_instances(node: ClerkNode) -> None:
    with transaction(node.engine) as session:
        for number, studies in enumerate([(STUDY,), (STUDY, OTHER)], 1):
            asked = [{"sop_class_uid": "1.2", "sop_instance_uid": f"{uid}.1.1"} for uid in studies]
            request = CommitmentRequest(
                id=number, transaction_uid=f"1.{number}", digest=str(number), source=str(number),
                association_id="a", calling_ae_title="CT", called_ae_title="L", address="", instances=asked,
                due_at=NOON, requested_at=NOON,
            )  # fmt: skip
            session.add(request)
            session.flush()
            session.add_all(CommitmentStudy(request_id=number, study_instance_uid=uid) for uid in studies)

    erase(node.settings, node.engine, STUDY, NOON, force=False)

    (request,) = node.rows(CommitmentRequest)
    assert [each["sop_instance_uid"] for each in request.instances] == [f"{OTHER}.1.1"]


def test_an_unknown_study_is_one_sentence(lungnode: Callable[..., Result]) -> None:
    result = lungnode("studies", "delete", "1.2.9", "--yes")

    assert (result.returncode, result.stderr) == (1, "lungnode: There is no study 1.2.9.\n")


def test_a_quarantined_file_of_a_longer_uid_stays(node: ClerkNode) -> None:
    sender = node.sender("longer")
    sender.put(lambda path: path.write_text(f"damaged {STUDY}5 {STUDY}.5"))
    sender.release()
    node.clerk.round()

    erase(node.settings, node.engine, STUDY, NOON, force=False)

    kept = {row.path for row in node.rows(Quarantined)}
    assert kept == {f"q{OTHER}-00000001.dcm", "longer-00000001.dcm"}
    described = json.loads((node.settings.quarantine / "longer-00000001.json").read_text())
    assert described["path"] == "longer-00000001.dcm"


def test_deleting_a_study_loads_nothing_that_trains() -> None:
    program = "import sys, lungnode.cli._erasure; sys.exit('tensorflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_a_file_that_cannot_be_deleted_is_told_and_the_same_command_goes_on(node: ClerkNode) -> None:
    held = node.settings.archive / STUDY / "held"
    held.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(held)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("only root can mount")

    with pytest.raises(UnavailableError, match="its files cannot be deleted"):
        erase(node.settings, node.engine, STUDY, NOON, force=False)

    (moved,) = node.settings.archive.glob(f".trash/{STUDY}.*/held")
    subprocess.run(["umount", str(moved)], check=True)
    erase(node.settings, node.engine, STUDY, NOON, force=False)
    assert traces(node, STUDY) == []
