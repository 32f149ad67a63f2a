"""The node as an operator runs it: `lungnode up`, DCMTK's storescu as the scanner, Orthanc as the PACS.

The tests share one node, for its start takes seconds, and run in their order: once on what one machine has by
itself, once on PostgreSQL, Redis and an object store. The slices of one study come by one association each,
with pauses, while all the others run: see `slow_study`.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db.accounts import Grant, add_account, add_token
from db.models import Analysis, AnalysisState, DeliveryState, Role, Study
from db.queries import get_study, list_instances
from db.session import open_engine, transaction
from lungnode.phantom import PhantomStudy, phantom_study
from tests.nodes import children, command, lungnode, stop, variables, wait_for, wait_for_end
from tests.orthanc import Orthanc, free_port, running_orthanc
from tests.platforms import ONE_MACHINE, SERVICES, Platform, platform_named

pytestmark = pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is absent: apt install dcmtk")

SETTINGS = """
[receiver]
host = "127.0.0.1"
port = {receiver}
[clerk]
poll_s = 0.2
quiet_s = 2.0
gap_quiet_s = 60.0
sweep_s = 1.0
ask_after_s = 0.5
[analysis]
lease_s = 15.0
[delivery]
backoff_s = 1.0
backoff_max_s = 2.0
[[destinations]]
name = "ORTHANC"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {orthanc}
query = "study_root"
retrieve = "get"
answers_for = ["ROUTER"]
[[destinations]]
name = "DOWN"
ae_title = "DOWN"
host = "127.0.0.1"
port = {down}
outputs = ["sr"]
[[rules]]
name = "slow scanner"
calling_ae_title = "SLOW"
quiet_s = 20.0
destinations = ["ORTHANC"]
[[rules]]
name = "router"
calling_ae_title = "ROUTER"
quiet_s = 10.0
destinations = ["ORTHANC"]
[[rules]]
name = "unlucky"
calling_ae_title = "UNLUCKY"
destinations = ["ORTHANC", "DOWN"]
[[rules]]
name = "default"
destinations = ["ORTHANC"]
"""
PAUSE_S = 3.0  # between the slices of the slow scanner
SLICES = 16
MANY = 300  # whose analysis takes so long that something can happen to it


@dataclass
class Node:
    """A running node and its PACS."""

    data: Path
    port: int
    process: "subprocess.Popen[bytes]"
    engine: Engine
    orthanc: Orthanc
    down: int  # port of the destination where nobody listens
    platform: Platform

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its programs."""
        return variables(self.platform.settings)

    @property
    def broker(self) -> int:
        """Process ID of its broker."""
        return self.platform.redis.pid if self.platform.redis else self.child("valkey-server")

    def send(self, paths: Sequence[Path], calling: str = "STORESCU") -> None:
        """Send files over one association, as a scanner would."""
        options = ("-xs", "+sd", "+r", "-aet", calling, "-aec", "LUNGNODE", "127.0.0.1", str(self.port))
        command_line = ("storescu", *options, *map(str, paths))
        # Again after a failure, as a scanner does: one of the tests kills the receiver.
        wait_for(lambda: subprocess.run(command_line, check=False, timeout=120, env=_NODELAY).returncode == 0)

    def analyses(self, study_instance_uid: str) -> list[Analysis]:
        """Read the analyses of a study, with outputs and deliveries."""
        with transaction(self.engine) as session:
            chosen = select(Analysis).join(Study).where(Study.study_instance_uid == study_instance_uid)
            rows = list(session.scalars(chosen.order_by(Analysis.revision)))
            for row in rows:
                assert len(row.outputs) + len(row.deliveries) >= 0  # loads them
            return rows

    def delivered(self, study_instance_uid: str, revision: int = 1, to: str = "ORTHANC") -> Analysis:
        """Wait until everything of a revision has arrived, and return it."""

        def look() -> Analysis | None:
            found = [row for row in self.analyses(study_instance_uid) if row.revision == revision]
            states = [d.state for row in found for d in row.deliveries if d.destination == to]
            return found[0] if states and set(states) <= _ARRIVED else None

        return wait_for(look, limit_s=120, what=f"the results of revision {revision}")

    def child(self, words: str) -> int:
        """Return the process ID of one of the node's programs."""
        return wait_for(lambda: next((p for p, c in children(self.process.pid).items() if words in c), None))


_ARRIVED = {DeliveryState.STORED, DeliveryState.COMMITTED}
_NODELAY = os.environ | {"TCP_NODELAY": "1"}


@pytest.fixture(scope="module", params=[ONE_MACHINE, SERVICES])
def platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    if request.param == SERVICES and shutil.which("redis-server") is None:
        pytest.skip("Redis is absent: apt install redis-server")
    get = request.getfixturevalue
    with platform_named(
        request.param, lambda: get("postgresql"), lambda: get("object_server_process")
    ) as platform:
        yield platform


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, platform: Platform) -> Iterator[Orthanc]:  # noqa: ARG001 - empty on each
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, platform: Platform, orthanc: Orthanc) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    data, port, down = folder / "data", free_port(), free_port()
    data.mkdir()
    (folder / "lungnode.toml").write_text(
        SETTINGS.format(receiver=port, orthanc=orthanc.dicom_port, down=down)
    )
    options = ("up", "--config", str(folder / "lungnode.toml"))
    environment = platform.settings | {"LUNGNODE_WEB__ENABLED": "true"}
    with lungnode(data, *options, environment=environment, log=folder / "log") as process:
        wait_for((data / "receiver.json").exists, what="the receiver")
        engine = open_engine(platform.database_of(data))
        yield Node(data, port, process, engine, orthanc, down, platform)
        engine.dispose()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PhantomStudy]:
    """Draws phantoms, another patient for each seed."""

    def draw(seed: int, slices: int = SLICES) -> PhantomStudy:
        return phantom_study(tmp_path_factory.mktemp("phantom"), slices, seed=seed, size=256)

    return draw


@pytest.fixture(scope="module", autouse=True)
def slow_study(
    node: Node, phantom: Callable[[int], PhantomStudy]
) -> Iterator[tuple[PhantomStudy, Future[None]]]:
    """A study that comes one association an image, with pauses, while the other tests run."""
    study = phantom(100)

    def send() -> None:
        for path in study.paths:
            node.send([path], calling="SLOW")
            sleep(PAUSE_S)  # the pause is what is tested

    with ThreadPoolExecutor(1) as pool:
        yield study, pool.submit(send)


@pytest.mark.parametrize("name", ["covid-P001", "normal-001"])
def test_a_real_study_comes_back_as_report_and_heatmaps_of_the_same_study(
    node: Node, shared_data: Path, name: str, tmp_path: Path
) -> None:
    paths = sorted((shared_data / "dicom" / name).rglob("*.dcm"))
    study = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)

    node.send(paths)
    row = node.delivered(study)

    assert (row.state, row.attempts) == (AnalysisState.DONE, 1)
    reports, captures = node.orthanc.instances(study, "SR"), node.orthanc.instances(study, "OT")
    assert (len(reports), len(captures)) == (1, 21)
    reports[0].save_as(tmp_path / "report.dcm", enforce_file_format=True)
    dump = subprocess.run(
        ("dsrdump", str(tmp_path / "report.dcm")), capture_output=True, text=True, check=True
    )
    assert "Comprehensive 3D SR" in dump.stdout
    assert "E:" not in dump.stderr


def test_what_was_sent_is_read_back_over_dicomweb_as_it_was_received(
    node: Node, phantom: Callable[[int], PhantomStudy]
) -> None:
    study = phantom(9)
    node.send(study.paths)
    node.delivered(study.study_instance_uid)
    token = granted(node.engine)
    wait_for((node.data / "web.json").is_file, what="the web")
    port = json.loads((node.data / "web.json").read_text())["port"]
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/dicom; transfer-syntax=*"}

    with transaction(node.engine) as session:
        rows = {row.sop_instance_uid: row for row in list_instances(session, _study(session, study))}
    assert len(rows) == SLICES
    for path in study.paths:
        sent = dcmread(path)
        row = rows[str(sent.SOPInstanceUID)]
        series = f"studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}"
        at = f"http://127.0.0.1:{port}/dicomweb/{series}/instances/{sent.SOPInstanceUID}"
        came = httpx.get(at, headers=headers, timeout=30).content
        assert sha256(came).hexdigest() == row.digest
        assert dcmread(BytesIO(came)).PixelData == sent.PixelData


def _study(session: Session, study: PhantomStudy) -> Study:
    return get_study(session, study.study_instance_uid)


def granted(engine: Engine) -> str:
    """Make an account that may read studies, and return its token."""
    now = datetime.now(UTC)
    with transaction(engine) as session:
        account = add_account(session, "viewer", Role.VIEWER, "", now)
        return add_token(session, account, Grant("test", ("view",), now + timedelta(days=1)), now)[0]


def test_a_study_sent_three_times_at_once_and_again_is_analysed_once(
    node: Node, phantom: Callable[[int], PhantomStudy]
) -> None:
    study = phantom(1)
    orders = (study.paths, study.paths[::-1], study.paths[1::2] + study.paths[::2])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(node.send, orders))
    first = node.delivered(study.study_instance_uid)
    node.send(study.paths)
    # Another study, sent later and done, shows that the clerk has judged the repetition.
    after = phantom(2)
    node.send(after.paths)
    node.delivered(after.study_instance_uid)

    (row,) = node.analyses(study.study_instance_uid)
    assert (row.id, row.attempts) == (first.id, 1)
    arrived = {str(each.SOPInstanceUID) for each in node.orthanc.instances(study.study_instance_uid)}
    sent = {output.sop_instance_uid for output in row.outputs if output.group in ("sr", "sc")}
    assert arrived == sent


def test_late_slices_make_a_second_report_that_names_the_first(
    node: Node, phantom: Callable[[int], PhantomStudy]
) -> None:
    study = phantom(3)
    node.send(study.paths[:-3])
    node.delivered(study.study_instance_uid)

    node.send(study.paths[-3:])
    node.delivered(study.study_instance_uid, revision=2)

    reports = node.orthanc.instances(study.study_instance_uid, "SR")
    first, second = sorted(reports, key=lambda report: "PredecessorDocumentsSequence" in report)
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [each.ReferencedSOPInstanceUID for each in named] == [first.SOPInstanceUID]
    assert "PredecessorDocumentsSequence" not in first


def test_a_study_whose_sender_stops_half_way_is_fetched_from_the_pacs_and_analysed_once(
    node: Node, phantom: Callable[[int], PhantomStudy]
) -> None:
    study = phantom(8)
    node.orthanc.keep(*study.paths)

    node.send(study.paths[:9], calling="ROUTER")
    row = node.delivered(study.study_instance_uid)

    assert row.completeness == f"complete: {SLICES} of {SLICES} by query at ORTHANC"
    assert [each.revision for each in node.analyses(study.study_instance_uid)] == [1]
    with transaction(node.engine) as session:
        received = list_instances(session, get_study(session, study.study_instance_uid))
    assert len(received) == SLICES
    (report,) = node.orthanc.instances(study.study_instance_uid, "SR")
    assert row.completeness in report.to_json()


def test_a_destination_that_is_down_holds_up_nobody_and_gets_its_report_when_it_is_back(
    node: Node, phantom: Callable[[int], PhantomStudy]
) -> None:
    study = phantom(4)
    node.send(study.paths, calling="UNLUCKY")
    node.delivered(study.study_instance_uid)

    waiting = wait_for(lambda: _tried(node, study.study_instance_uid), what="an attempt")
    assert waiting["state"] == DeliveryState.PENDING
    assert "cannot be reached" in waiting["reason"]
    options = ("storescp", "--fork", "-od", str(node.data), "-aet", "DOWN", str(node.down))
    with subprocess.Popen(options) as storescp:
        try:
            node.delivered(study.study_instance_uid, to="DOWN")
        finally:
            storescp.kill()


def _tried(node: Node, study_instance_uid: str) -> dict[str, Any] | None:
    done = subprocess.run(
        command(node.data, "deliveries", "list", "--json"),
        env=node.variables,
        capture_output=True,
        check=True,
    )
    for each in json.loads(done.stdout)["deliveries"]:
        wanted = (each["study_instance_uid"], each["destination"]) == (study_instance_uid, "DOWN")
        if wanted and each["reason"] and each["state"] != DeliveryState.SENDING:
            return dict(each)
    return None


def test_receiver_clerk_and_broker_are_killed_and_nothing_is_lost(
    node: Node, phantom: Callable[[int], PhantomStudy]
) -> None:
    study = phantom(5)
    killed = {words: node.child(words) for words in ("lungnode receive", "lungnode clerk")}
    broker = node.broker

    node.send(study.paths)
    for pid in (*killed.values(), broker):
        os.kill(pid, signal.SIGKILL)
    if node.platform.redis:
        node.platform.redis.start_again()
    node.delivered(study.study_instance_uid)

    assert node.broker != broker
    assert all(node.child(words) != pid for words, pid in killed.items())


def test_the_worker_loads_the_model_in_its_child_alone_and_the_receiver_nowhere(node: Node) -> None:
    worker = node.child("--queue analysis")
    (model_process,) = wait_for(lambda: children(worker), what="the worker's child")

    wait_for(lambda: _has_loaded_a_runtime(model_process), limit_s=60, what="the model")
    for words in ("--queue analysis", "--queue delivery", "lungnode receive", "lungnode clerk"):
        assert not _has_loaded_a_runtime(node.child(words)), words


def _has_loaded_a_runtime(pid: int) -> bool:
    libraries = Path(f"/proc/{pid}/maps").read_text()
    return "libtensorflow" in libraries or "libopenvino" in libraries


def test_an_analysis_whose_process_is_killed_is_done_by_the_next(
    node: Node, phantom: Callable[..., PhantomStudy]
) -> None:
    study = phantom(6, MANY)
    node.send(study.paths)
    wait_for(lambda: _is_running(node, study.study_instance_uid), limit_s=60, what="the analysis to start")

    (model_process,) = children(node.child("--queue analysis"))
    os.kill(model_process, signal.SIGKILL)

    assert node.delivered(study.study_instance_uid).attempts == 2


def _is_running(node: Node, study_instance_uid: str) -> bool:
    return any(row.state == AnalysisState.RUNNING for row in node.analyses(study_instance_uid))


def test_one_association_an_image_with_pauses_is_one_study(
    node: Node, slow_study: tuple[PhantomStudy, Future[None]]
) -> None:
    study, sending = slow_study
    sending.result(timeout=120)
    row = node.delivered(study.study_instance_uid)

    assert (row.revision, len(node.analyses(study.study_instance_uid))) == (1, 1)
    assert row.verdict in ("positive", "negative")


def test_no_result_lands_in_a_study_that_was_not_sent(node: Node) -> None:
    with transaction(node.engine) as session:
        sent = set(session.scalars(select(Study.study_instance_uid)))

    assert node.orthanc.studies() == sent


def test_no_patient_reaches_the_log(node: Node) -> None:
    log = (node.data.parent / "log").read_text()
    with transaction(node.engine) as session:
        patients = session.execute(select(Study.patient_name, Study.patient_id)).all()

    assert [word for patient in patients for word in patient if word and word in log] == []
    assert len(patients) >= 7


def test_a_second_node_on_the_same_folder_is_refused_with_a_sentence(node: Node) -> None:
    done = subprocess.run(
        command(node.data, "up"), env=node.variables, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert done.stderr == (
        f"lungnode: Another node runs on {node.data} (process {node.process.pid}): stop it first, "
        "or name another folder with --data.\n"
    )


def test_check_finds_a_running_node_in_order_but_for_the_destination_that_is_down(node: Node) -> None:
    config = str(node.data.parent / "lungnode.toml")
    done = subprocess.run(
        command(node.data, "check", "--json", "--config", config),
        env=node.variables,
        capture_output=True,
        check=False,
    )

    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (1, False)
    assert [each["name"] for each in found["checks"] if each["status"] == "wrong"] == ["destination DOWN"]


def test_sigterm_stops_everything_and_puts_the_running_analysis_back(
    node: Node, phantom: Callable[..., PhantomStudy]
) -> None:
    study = phantom(7, MANY)
    node.send(study.paths)
    wait_for(lambda: _is_running(node, study.study_instance_uid), limit_s=60, what="the analysis to start")
    family = _descendants(node.process.pid)

    assert stop(node.process) == 0

    wait_for_end(family)
    (row,) = node.analyses(study.study_instance_uid)
    assert (row.state, row.attempts) == (AnalysisState.QUEUED, 0)


def _descendants(pid: int) -> list[int]:
    found = list(children(pid))
    return found + [below for child in found for below in _descendants(child)]
