import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import event, func, select

from db import confirmations
from db.models import (
    Analysis,
    AssociationRecord,
    AuditEvent,
    CommitmentRequest,
    CommitmentStudy,
    Confirmation,
    ConfirmationMethod,
    Delivery,
    DeliveryState,
    Instance,
    Label,
    Output,
    Study,
)
from db.models import TestSet as FrozenSet
from db.models import TestSetMember as Member
from db.retention import kept_bytes, kept_studies
from db.session import transaction
from lungnode.errors import UnavailableError
from lungnode.settings import DicomDestination, RetentionSettings, Rule
from lungnode.shown_maps import MAPS_FILE
from tests.retaining import (
    MONTH_S,
    KilledError,
    analyse,
    change,
    files,
    keep_for,
    killed_at_file_step,
    settle,
    sweep,
)
from tests.spooling import NOON, STUDY, ClerkNode, ct, slices, write

OTHER = "1.2.840.99999.2"


@pytest.fixture
def node(clerk_node: ClerkNode) -> ClerkNode:
    keep_for(clerk_node, 30)
    settle(clerk_node)
    return clerk_node


def test_without_a_limit_nothing_is_ever_deleted(clerk_node: ClerkNode) -> None:
    settle(clerk_node)

    assert sweep(clerk_node, 100 * MONTH_S) == []
    assert len(files(clerk_node)) == 6


def test_files_go_after_their_time_and_rows_stay(node: ClerkNode) -> None:
    assert sweep(node, 29 * 24 * 3600) == []

    assert sweep(node, MONTH_S) == [STUDY]

    assert files(node) == set()
    study = node.study()
    assert study.files_deleted_at == node.clock()
    assert study.files_deleted_by == "retention: no new instance for 30 days"
    assert {row.deleted_at for row in node.rows(Instance)} == {node.clock()}
    assert {row.deleted_at for row in node.rows(Output)} == {node.clock()}
    assert [(row.verdict, row.state) for row in node.rows(Analysis)] == [("positive", "done")]
    assert [row.state for row in node.rows(Delivery)] == ["stored"]
    told = node.rows(AuditEvent)[-1]
    assert (told.action, told.subject) == ("files deleted", STUDY)
    assert sweep(node) == []


def label(node: ClerkNode, study: str) -> None:
    with transaction(node.engine) as session:
        study_id = session.scalars(select(Study.id).where(Study.study_instance_uid == study)).one()
        session.add(Label(study_id=study_id, value="positive", source="reader", created_at=NOON))


def freeze(node: ClerkNode, study: str) -> None:
    with transaction(node.engine) as session:
        study_id = session.scalars(select(Study.id).where(Study.study_instance_uid == study)).one()
        members = [Member(study_id=study_id, value="positive")]
        session.add(FrozenSet(name="t", digest="", created_at=NOON, members=members))


def open_association(node: ClerkNode, study: str) -> None:
    with transaction(node.engine) as session:
        row = session.get_one(AssociationRecord, f"a{study}")
        row.closed_at, row.lease_until = None, NOON.replace(year=2100)


def having(table: type, **values: str) -> Callable[[ClerkNode, str], None]:
    return lambda node, study: change(node, table, study, **values)


def be_asked(node: ClerkNode, study: str) -> None:
    change(node, Delivery, study, state="stored")
    with transaction(node.engine) as session:
        of_study = select(Delivery.id).join(Analysis).join(Study).where(Study.study_instance_uid == study)
        confirmations.begin(session, session.scalars(of_study).one(), ConfirmationMethod.QUERY, NOON)


def confirm(state: str) -> Callable[[ClerkNode, str], None]:
    def keep(node: ClerkNode, study: str) -> None:
        with transaction(node.engine) as session:
            delivery = select(Delivery).join(Analysis).join(Study).where(Study.study_instance_uid == study)
            row = Confirmation(delivery=session.scalars(delivery).one(), state=state, method="commitment")
            row.due_at = row.created_at = NOON
            session.add(row)

    return keep


def ask_for_commitment(node: ClerkNode, study: str) -> None:
    with transaction(node.engine) as session:
        request = CommitmentRequest(
            transaction_uid=f"{study}.3", digest="", source="a/1", association_id="a", calling_ae_title="CT",
            called_ae_title="L", address="", instances=[], state="verified", due_at=NOON, requested_at=NOON,
        )  # fmt: skip
        session.add(request)
        session.flush()
        session.add(CommitmentStudy(request_id=request.id, study_instance_uid=study))


KEEPERS: Final = (
    (be_asked, "a destination is asked whether it keeps its results"),
    (having(Study, state="receiving"), "it is still being received"),
    (open_association, "it is still being received"),
    (having(Study, hold="case 7"), "it is on hold"),
    (having(Analysis, state="queued"), "its analysis is not finished"),
    (having(Analysis, state="running"), "its analysis is not finished"),
    (having(Analysis, state="failed"), "its analysis is not finished"),
    (having(Analysis, state="quarantined"), "its analysis is quarantined"),
    (having(Delivery, state="pending"), "its results are on their way"),
    (having(Delivery, state="sending"), "its results are on their way"),
    (having(Delivery, state="refused"), "a destination did not take its results"),
    (having(Delivery, state="dead"), "a destination did not take its results"),
    (confirm("pending"), "a destination is asked whether it keeps its results"),
    (confirm("awaiting"), "a destination is asked whether it keeps its results"),
    (confirm("unconfirmed"), "a destination did not confirm its results"),
    (ask_for_commitment, "a commitment request about it is not answered"),
    (label, "it is labelled"),
    (freeze, "it is in a frozen test set"),
)


def test_what_is_unfinished_or_wanted_is_never_touched(clerk_node: ClerkNode) -> None:
    keep_for(clerk_node, 30, max_bytes=0)
    pacs = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104, confirm="commitment")
    clerk_node.restart(destinations=(pacs,))
    studies = [f"{STUDY}.{100 + number}" for number in range(len(KEEPERS))]
    for study in studies:
        settle(clerk_node, study, count=1)
    for study, (keep, _) in zip(studies, KEEPERS, strict=True):
        keep(clerk_node, study)
    before = files(clerk_node)

    assert sweep(clerk_node, 100 * MONTH_S) == []

    assert files(clerk_node) == before
    with transaction(clerk_node.engine) as session:
        kept = kept_studies(session, clerk_node.settings, clerk_node.clock(), limit=100)
    assert [(each.study_instance_uid, each.reasons) for each in kept] == [
        (study, (reason,)) for study, (_, reason) in zip(studies, KEEPERS, strict=True)
    ]


@pytest.mark.parametrize(
    ("table", "state"), [(Analysis, "quarantined"), (Delivery, "refused"), (Delivery, "dead")]
)
def test_what_nobody_mends_may_be_given_up_by_a_setting(node: ClerkNode, table: type, state: str) -> None:
    keep_for(node, 30, unsettled_days=90)
    change(node, table, state=state)

    assert sweep(node, 2 * MONTH_S) == []
    assert sweep(node, MONTH_S) == [STUDY]


def test_a_dead_delivery_that_a_later_revision_made_good_keeps_nothing(node: ClerkNode) -> None:
    change(node, Delivery, state=DeliveryState.DEAD)
    node.receive(ct(4), name="late")
    node.rounds_after(200)
    analyse(node)

    assert sweep(node) == [STUDY]


def test_a_rule_has_its_own_time_and_0_is_for_ever(clerk_node: ClerkNode) -> None:
    rules = (
        Rule(name="short", tags={"PatientID": "SHORT"}, retention_days=5),
        Rule(name="ever", tags={"PatientID": "EVER"}, retention_days=0),
    )
    clerk_node.restart(rules=rules, retention=RetentionSettings(days=30, max_bytes=0, least_days=20))
    for study, patient in ((STUDY, "SHORT"), (OTHER, "EVER"), ("1.2.840.99999.3", "OTHER")):
        clerk_node.receive(*slices(range(1, 4), study, PatientID=patient), name=f"b{study}")
    clerk_node.rounds_after(200)
    for study in clerk_node.studies():
        analyse(clerk_node, study)

    assert sweep(clerk_node, 6 * 24 * 3600) == [STUDY]
    assert sweep(clerk_node, 15 * 24 * 3600) == ["1.2.840.99999.3"]  # for want of room
    assert sweep(clerk_node, 100 * MONTH_S) == []


def test_beyond_a_size_the_oldest_go_but_not_within_the_least_time(clerk_node: ClerkNode) -> None:
    settle(clerk_node)
    settle(clerk_node, OTHER)
    with transaction(clerk_node.engine) as session:
        total = kept_bytes(session)
    keep_for(clerk_node, None, max_bytes=total - 1)

    assert sweep(clerk_node, 0) == []
    assert sweep(clerk_node, 2 * 24 * 3600) == [STUDY]
    assert sweep(clerk_node, 100 * MONTH_S) == []
    with transaction(clerk_node.engine) as session:
        assert kept_bytes(session) == total // 2


def test_a_file_that_the_index_lacks_keeps_its_study(
    node: ClerkNode, caplog: pytest.LogCaptureFixture
) -> None:
    write(ct(9), node.settings.archive / STUDY / f"{STUDY}.1.9.dcm")

    assert sweep(node) == []
    assert "1 of them are not indexed" in caplog.text


def test_a_study_that_is_sent_again_is_there_again_and_its_result_stands(node: ClerkNode) -> None:
    before = node.archived()
    sweep(node)

    node.receive(*slices(range(1, 4)), name="again")
    node.rounds_after(200)

    assert node.archived() == before
    study = node.study()
    assert (study.state, study.revision, study.files_deleted_at) == ("complete", 1, None)
    assert len(node.rows(Analysis)) == 1
    assert sweep(node, 24 * 3600) == []  # its time begins anew
    assert sweep(node) == [STUDY]


def test_a_study_that_comes_again_in_other_bytes_takes_the_place_of_the_deleted_one(node: ClerkNode) -> None:
    sweep(node)

    node.receive(*slices(range(1, 4), StudyDescription="changed on its way"), name="again")

    instances = node.rows(Instance)
    assert {row.disposition for row in instances} == {"archived"}
    assert {row.path: row.digest for row in instances} == node.archived()
    assert "after its file was deleted" in instances[0].note


def test_a_late_slice_of_a_deleted_study_is_kept_and_not_analysed_alone(node: ClerkNode) -> None:
    sweep(node)

    node.receive(ct(4), name="late")
    assert node.rounds_after(200) == []

    study = node.study()
    assert (study.state, study.revision) == ("complete", 2)
    assert study.completeness.endswith("not analysed: the files of 3 of 4 slices were deleted")
    node.receive(*slices(range(1, 4)), name="again")
    assert len(node.rounds_after(200)) == 1
    assert node.study().revision == 3


def kill_at_commit(node: ClerkNode, number: int) -> Callable[[], None]:
    passed = Counter[str]()

    def die(_connection: object) -> None:
        passed["commit"] += 1
        if passed["commit"] == number:
            raise KilledError

    event.listen(node.engine, "commit", die)
    return lambda: event.remove(node.engine, "commit", die)


def missing(node: ClerkNode) -> set[str]:
    """Files that rows say are there, and are not."""
    return named(node) - files(node)


def unnamed(node: ClerkNode) -> set[str]:
    """Files that no row says are there, the caches apart."""
    return {path for path in files(node) - named(node) if not path.startswith("cache/")}


def named(node: ClerkNode) -> set[str]:
    """Files that rows say are there; class maps are there with their report."""
    archived = {f"archive/{row.path}" for row in node.rows(Instance) if row.deleted_at is None}
    composed = {Path("outputs") / row.path for row in node.rows(Output) if row.deleted_at is None}
    return archived | {str(path) for each in composed for path in (each, each.parent / MAPS_FILE)}


@pytest.mark.parametrize("step", range(1, 17))
def test_killed_at_any_change_of_names_the_next_sweep_ends_it(local_node: ClerkNode, step: int) -> None:
    node = local_node
    keep_for(node, 30)
    settle(node)
    node.clock.pass_s(MONTH_S)
    with killed_at_file_step(step):
        sweep(node, 0)

    keep_for(node, None)  # whatever was not decided must not be decided now
    sweep(node, 0)
    assert (missing(node), unnamed(node)) == (set(), set())
    keep_for(node, 30)
    sweep(node, 0)
    assert files(node) == set()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_killed_at_any_commit_the_next_sweep_ends_it(node: ClerkNode, number: int) -> None:
    revive = kill_at_commit(node, number)
    try:
        sweep(node)
    except KilledError:
        pass
    finally:
        revive()

    keep_for(node, None)
    sweep(node, 0)
    assert (missing(node), unnamed(node)) == (set(), set())
    keep_for(node, 30)
    sweep(node, 0)
    assert files(node) == set()


def test_an_instance_that_comes_again_while_its_study_is_deleted_is_put_there_again(node: ClerkNode) -> None:
    if node.engine.dialect.name == "sqlite":
        pytest.skip("a transaction of SQLite holds the lock from its begin on")
    node.clock.pass_s(MONTH_S)
    sender = node.sender("again").send(ct(1))
    begun = Counter[str]()

    def delete_in_between(_connection: object) -> None:
        begun["transactions"] += 1
        # Of the clerk: it mirrored the association, looked up what it knows, and begins to write the rows.
        if begun["transactions"] == 3:
            assert sweep(node, 0) == [STUDY]

    event.listen(node.engine, "begin", delete_in_between)
    node.clerk.round()
    event.remove(node.engine, "begin", delete_in_between)

    assert missing(node) == set()
    there = [row.sop_instance_uid for row in node.rows(Instance) if row.deleted_at is None]
    assert there == [f"{STUDY}.1.1"]
    sender.lose()


def clerk(node: ClerkNode, url: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "LUNGNODE_DATABASE_URL": url,
        "LUNGNODE_RETENTION__DAYS": "1",
        "LUNGNODE_RETENTION__SWEEP_S": "0.05",
    }
    command = [sys.executable, "-m", "lungnode", "clerk", "--data", str(node.settings.data)]
    with (node.settings.data / "log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stderr=log)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.005)


def left(node: ClerkNode) -> int:
    query = select(func.count()).where(Study.files_deleted_at.is_(None))
    with transaction(node.engine) as session:
        return int(session.scalar(query) or 0)


def test_two_clerks_that_are_killed_while_they_delete_leave_nothing_undetected(
    clerk_node: ClerkNode,
) -> None:
    url = clerk_node.engine.url.render_as_string(hide_password=False)
    count, kept = 50, f"{STUDY}.1007"
    for number in range(count):
        clerk_node.sender(f"a{number}").send(*slices(range(1, 4), f"{STUDY}.{1000 + number}")).release()
    clerk_node.clerk.round()
    clerk_node.rounds_after(200)
    for study in clerk_node.studies():
        analyse(clerk_node, study)
    label(clerk_node, kept)

    clerks = [clerk(clerk_node, url) for _ in range(2)]
    wait_for(lambda: left(clerk_node) <= count - 10, "deletions")
    for each in clerks:
        each.send_signal(signal.SIGKILL)
        each.wait()
    log = clerk_node.settings.data / "log"
    before = log.read_bytes().count(b"the clerk is ready")
    last = clerk(clerk_node, url)
    wait_for(lambda: log.read_bytes().count(b"the clerk is ready") > before, "the last clerk")
    wait_for(lambda: left(clerk_node) == 1 and not unnamed(clerk_node), "the end")
    last.terminate()

    assert last.wait(timeout=20) == 0
    assert missing(clerk_node) == set()
    assert {Path(path).parts[1] for path in files(clerk_node) if path.startswith("archive/")} == {kept}
    assert len(clerk_node.rows(Analysis)) == count
    assert b"Traceback" not in log.read_bytes()


def test_a_folder_that_cannot_be_moved_keeps_rows_and_files(node: ClerkNode) -> None:
    (node.settings.outputs / ".trash").write_text("in the way")

    with pytest.raises(UnavailableError, match="cannot be used"):
        sweep(node)
    (node.settings.outputs / ".trash").unlink()
    keep_for(node, None)
    sweep(node, 0)

    assert missing(node) == set()
    assert node.study().files_deleted_at is None
