"""Nothing that a node writes at debug level names a patient, but what is kept of patients on purpose."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import JPEGLosslessSV1, generate_uid
from sqlalchemy import Engine, select

from db.models import Analysis, AnalysisState, DeliveryState, Quarantined, Study
from db.session import open_engine, transaction
from lungnode.phantom import phantom_study
from tests.command_line import CommandLine
from tests.couriers import ALL, CLASSES, Pacs, pacs
from tests.dicom_wire import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, Instance, Peer
from tests.leaks import COMMENT, MARKS, TYPED, forms_of, leaks, mark
from tests.nodes import children, command, stop, variables, wait_for
from tests.orthanc import Orthanc, free_port, running_orthanc

pytestmark = pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is absent: apt install dcmtk")

_SETTINGS: Final = """
log_level = "debug"
[receiver]
host = "127.0.0.1"
port = {receiver}
[clerk]
poll_s = 0.1
quiet_s = 1.5
gap_quiet_s = 1.5
sweep_s = 0.5
[analysis]
heatmaps = 2
max_attempts = 2
summary_identification = true
[delivery]
backoff_s = 0.2
backoff_max_s = 0.5
[web]
port = 0
[audit]
patients = "none"
[[peers]]
name = "ORTHANC"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {orthanc}
query = "study_root"
retrieve = "get"
[[destinations]]
name = "GRUMPY"
ae_title = "PACS"
host = "127.0.0.1"
port = {grumpy}
timeout_s = 5.0
[[destinations]]
name = "REFUSES"
ae_title = "PACS"
host = "127.0.0.1"
port = {refuses}
timeout_s = 5.0
"""
_ENDED: Final = (DeliveryState.STORED, DeliveryState.COMMITTED, DeliveryState.REFUSED, DeliveryState.DEAD)
_WORKED_OFF: Final = (AnalysisState.DONE, AnalysisState.NOT_APPLICABLE, AnalysisState.QUARANTINED)


@dataclass
class Marked:
    """A node at debug level in a folder that holds everything it may write to."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    port: int
    engine: Engine
    orthanc: Orthanc
    commands: CommandLine
    answers: list[str] = field(default_factory=list)  # what commands told their operator, who may know

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def send(self, *paths: Path) -> None:
        """Send files as a scanner."""
        options = ("-xs", "+sd", "+r", "-aet", "MARKED", "-aec", "LUNGNODE", "127.0.0.1", str(self.port))
        subprocess.run(("storescu", *options, *map(str, paths)), check=True, timeout=60, env=_NODELAY)

    def run(self, *arguments: str, answer: str = "") -> str:
        """Run a command; what it logs is searched, what it answers on standard output is the operator's."""
        done = self.commands.run(self.data, *arguments, answer=answer)
        said = done.stderr
        for argument in arguments:  # an error may repeat what the operator asked for
            said = said.replace(argument, "…")
        with (self.folder / "commands.log").open("a") as log:
            log.write(f"{arguments[:2]} ended with {done.returncode}\n{said}")
        self.answers.append(done.stdout)
        return done.stdout

    def wait_for_study(self, uid: str) -> Analysis:
        """Wait until a study is analysed and its deliveries have ended."""

        def look() -> Analysis | None:
            with transaction(self.engine) as session:
                chosen = select(Analysis).join(Study).where(Study.study_instance_uid == uid)
                row = session.scalar(chosen.order_by(Analysis.revision.desc()).limit(1))
                done = row and row.state in _WORKED_OFF and all(d.state in _ENDED for d in row.deliveries)
                return row if done else None

        return wait_for(look, limit_s=90, what=f"the end of study {uid}")


_NODELAY: Final = os.environ | {"TCP_NODELAY": "1"}


def _own(folder: Path) -> dict[str, str]:
    """Variables that keep whatever a program writes in the folder that is searched."""
    own = {"TMPDIR": folder / "tmp", "HOME": folder / "home", "LUNGNODE_CONFIG": folder / "lungnode.toml"}
    return {name: str(value) for name, value in own.items()}


def _answer(status: int) -> Dataset:
    ds = Dataset()
    ds.Status, ds.ErrorComment = status, f"{COMMENT} {MARKS['PatientID']}"
    return ds


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marked]:
    # Short, for it has to hold a Unix socket: the folder of the socket is searched as well.
    folder = tmp_path_factory.mktemp("m")
    outside = tmp_path_factory.mktemp("outside")
    for name in ("data", "tmp", "home", "here"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        orthanc = stack.enter_context(running_orthanc(outside))
        classes: dict[str, tuple[str, ...]] = {str(uid): ALL for uid in CLASSES.values()}
        grumpy: Pacs = stack.enter_context(
            pacs(classes, "", *(_answer(status) for status in (0xC001, 0xA700, 0xB007)))
        )
        refuses: Pacs = stack.enter_context(pacs(classes, "", *[_answer(0xA900)] * 200))
        port = free_port()
        ports = {"orthanc": orthanc.dicom_port, "grumpy": grumpy.port, "refuses": refuses.port}
        (folder / "lungnode.toml").write_text(_SETTINGS.format(receiver=port, **ports))
        log = stack.enter_context((folder / "node.log").open("wb"))
        process = subprocess.Popen(
            command(folder / "data", "up"),
            env=variables(_own(folder) | {"LUNGNODE_WEB__ENABLED": "true"}),
            cwd=folder / "here",
            stdout=log,
            stderr=log,
        )
        stack.callback(lambda: process.poll() is None and stop(process))
        wait_for((folder / "data/receiver.json").is_file, limit_s=60, what="the receiver")
        engine = open_engine(f"sqlite:///{folder / 'data/lungnode.sqlite3'}")
        stack.callback(engine.dispose)
        commands = CommandLine(**_own(folder))
        stack.callback(commands.close)
        yield Marked(folder, process, port, engine, orthanc, commands)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A chest CT in which everything is marked."""
    paths = phantom_study(tmp_path_factory.mktemp("chest"), slices=14, size=128).paths
    for path in paths:
        mark(dcmread(path)).save_as(path)
    return list(paths)


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def altered(paths: list[Path], folder: Path, **values: Any) -> list[Path]:
    """Copies with other values, as another study unless that is given."""
    folder.mkdir()
    study_uid = values.setdefault("StudyInstanceUID", generate_uid())
    made = []
    for number, path in enumerate(paths):
        ds = dcmread(path)
        with disable_value_validation():
            for keyword, value in values.items():
                ds.pop(keyword, None)
                if value is not None:
                    setattr(ds, keyword, value)
            if study_uid:
                ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            made.append(folder / f"{number}.dcm")
            ds.save_as(made[-1])
    return made


def receive_and_deliver(node: Marked, study: list[Path], _tmp: Path) -> None:
    """The main path, to a PACS that complains first and to one that refuses; all of it twice."""
    node.send(*study)
    row = node.wait_for_study(uid_of(study[0]))
    assert row.state == AnalysisState.DONE
    said = str([(d.state, d.reason, d.instances) for d in row.deliveries])
    assert COMMENT in said  # the rows have it
    node.send(*study)


def conflicts(node: Marked, study: list[Path], tmp: Path) -> None:
    """The same instances compressed, then with other pixels."""
    compressed = tmp / "compressed.dcm"
    subprocess.run(("dcmcjpeg", str(study[0]), str(compressed)), check=True, env=os.environ)
    assert dcmread(compressed).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    node.send(compressed)
    ds = dcmread(study[1])
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(tmp / "conflict.dcm")
    node.send(tmp / "conflict.dcm")


def nonsense(node: Marked, study: list[Path], tmp: Path) -> None:
    """Values that are none, studies without a UID, data sets that end within a name, and bytes."""
    node.send(*altered(study[:2], tmp / "no-uid", StudyInstanceUID=None))
    odd = altered(study[:2], tmp / "odd", SeriesInstanceUID=generate_uid(), Rows=None)
    for path in odd:
        _write_names_for_numbers(path)
    node.send(*odd)
    with Peer(node.port):
        pass  # a port probe
    whole = study[0].read_bytes()
    for data_set in (whole[400:900], whole[400:420], MARKS["PatientName"].encode() * 50):
        instance = Instance(CT_IMAGE_STORAGE, generate_uid(), EXPLICIT_VR_LITTLE_ENDIAN, data_set)
        with Peer(node.port) as peer:
            peer.associate()
            assert peer.store(instance) == 0
            peer.release()

    def set_aside() -> bool:
        with transaction(node.engine) as session:
            return len(list(session.scalars(select(Quarantined)))) >= 4

    wait_for(set_aside, what="the quarantine")


def _write_names_for_numbers(path: Path) -> None:
    ds = dcmread(path)
    for tag in (0x00200013, 0x00200032):  # Instance Number, Image Position (Patient)
        ds.add_new(tag, "LO", MARKS["PatientID"])
    ds.save_as(path)
    content = path.read_bytes()
    for head, vr in ((b"\x20\0\x13\0", b"IS"), (b"\x20\0\x32\0", b"DS")):
        content = content.replace(head + b"LO", head + vr)
    path.write_bytes(content)


def unusable_studies(node: Marked, study: list[Path], tmp: Path) -> None:
    """Pixels that cannot be decoded, and a study that is no chest CT."""
    broken = altered(study, tmp / "broken", SeriesInstanceUID=generate_uid())
    head = altered(study, tmp / "head", SeriesInstanceUID=generate_uid())
    for path in (*broken, *head):
        ds = dcmread(path)
        ds.PixelData = ds.PixelData[:1000] if path in broken else bytes(len(ds.PixelData))
        ds.save_as(path)
    node.send(*broken, *head)
    assert node.wait_for_study(uid_of(broken[0])).state != AnalysisState.DONE
    assert node.wait_for_study(uid_of(head[0])).state == AnalysisState.NOT_APPLICABLE


def pull(node: Marked, study: list[Path], tmp: Path) -> None:
    """Questions that name a patient, with answers that do."""
    kept = altered(study, tmp / "kept", SeriesInstanceUID=generate_uid())
    node.orthanc.keep(*kept)
    node.run("pull", "--from", "ORTHANC", "--patient", MARKS["PatientID"], "--all")
    node.run("pull", "--from", "ORTHANC", "--accession", f"{MARKS['AccessionNumber']}X")
    node.wait_for_study(uid_of(kept[0]))


def browse(node: Marked, study: list[Path], _tmp: Path) -> None:
    """Forms and addresses with what a reader types."""
    node.run("users", "add", "reader", "--role", "admin", answer="correct horse battery\n" * 2)
    file = node.data / "web.json"
    wait_for(file.is_file, what="the web")
    address = json.loads(file.read_text())
    with httpx.Client(base_url=f"http://127.0.0.1:{address['port']}", timeout=60) as client:
        client.post("/sign-in", data={"name": TYPED, "password": MARKS["PatientID"]})
        client.post("/sign-in", data={"name": "reader", "password": "correct horse battery"})
        for path in (
            "/",
            f"/?patient={MARKS['PatientID']}&search={MARKS['PatientName']}",
            f"/studies/{uid_of(study[0])}",
            f"/studies/{MARKS['PatientID']}",
            f"/{TYPED}",
            "/operations",
            "/audit",
            "/metrics",
        ):
            client.get(path)
        client.get("/", headers={"User-Agent": TYPED, "Referer": f"http://{TYPED}/"})
        client.post(f"/studies/{MARKS['PatientID']}", json={"name": TYPED})


def use_labels(node: Marked, study: list[Path], tmp: Path) -> None:
    """A spreadsheet with patients that are known and one that is not."""
    known, unknown = MARKS["PatientID"], TYPED
    (tmp / "labels.csv").write_text(f"patient_id,label,source,studies\n{known},positive,rt-pcr,all\n")
    (tmp / "wrong.csv").write_text(f"patient_id,label,source\n{unknown},maybe,{known}\n")
    node.run("labels", "import", str(tmp / "labels.csv"))
    node.run("labels", "import", str(tmp / "wrong.csv"), "--json")
    node.run("labels", "set", uid_of(study[0]), "negative", "--source", "reader", "--reader", "Dr. Who")
    node.run("labels", "export", str(tmp / "exported.csv"))
    node.run("labels", "list")


def export_and_look(node: Marked, study: list[Path], tmp: Path) -> None:
    """What leaves, with and without names; lists; a check; an analysis again."""
    uid = uid_of(study[0])
    node.run("studies", "export", uid, str(tmp / "received"), "--results")
    node.run("studies", "export", uid, str(tmp / "clean"), "--deidentified", "--json")
    node.run("studies", "list", "--json")
    node.run("studies", "show", uid)
    node.run("deliveries", "list", "--json")
    node.run("deliveries", "retry", "--all")
    node.run("check", "--study", str(study[0]), "--json")
    node.run("check")
    node.run("studies", "reanalyse", uid)
    node.wait_for_study(uid)


def delete_and_audit(node: Marked, study: list[Path], tmp: Path) -> None:
    """The end of a study, and what the trail says of all of it."""
    node.run("studies", "delete", uid_of(study[0]), "--yes")
    node.run("studies", "delete", MARKS["PatientID"], "--yes")
    node.run("studies", "reindex")
    node.run("audit", "list", "--limit", "1000")
    node.run("audit", "export", str(tmp / "trail.jsonl"))
    assert leaks(tmp / "trail.jsonl", ()) == []
    with transaction(node.engine) as session:
        assert session.scalar(select(Study).where(Study.study_instance_uid == uid_of(study[0]))) is None


def die(node: Marked, study: list[Path], tmp: Path) -> None:
    """Programs that are killed, asked for their counters, and a database that refuses."""
    for words in ("receive", "clerk", "--queue delivery"):
        pids = [pid for pid, line in children(node.process.pid).items() if f" {words}" in line]
        os.kill(pids[0], signal.SIGUSR1 if words == "receive" else signal.SIGKILL)
    again = altered(study, tmp / "again", SeriesInstanceUID=generate_uid())
    wait_for(lambda: _sends(node, again), limit_s=60, what="the receiver")
    node.wait_for_study(uid_of(again[0]))


def _sends(node: Marked, paths: list[Path]) -> bool:
    try:
        node.send(*paths)
    except subprocess.CalledProcessError:
        return False
    return True


PARTS: Final[tuple[Callable[[Marked, list[Path], Path], None], ...]] = (
    receive_and_deliver,
    conflicts,
    nonsense,
    unusable_studies,
    pull,
    browse,
    use_labels,
    export_and_look,
    die,
    delete_and_audit,
)


@pytest.mark.timeout(600)
def test_nothing_that_a_node_writes_names_a_patient(node: Marked, study: list[Path], tmp_path: Path) -> None:
    for part in PARTS:
        folder = tmp_path / part.__name__
        folder.mkdir()
        part(node, study, folder)
    assert stop(node.process) == 0

    found = leaks(node.data) + leaks(node.folder, allowed=("data/*",))

    assert found == []
    assert MARKS["PatientID"] in "".join(node.answers)  # the operator may ask
    log = (node.folder / "node.log").read_text()
    assert " DEBUG " in log
    assert "Traceback" not in log


@pytest.mark.parametrize("form", ["plain", "quoted", "UTF-16", "hexadecimal", "base64"])
def test_a_name_is_found_in_every_form(tmp_path: Path, form: str) -> None:
    values = [value for name, value in forms_of("ZZNACHNAME") if name == form]

    for number, value in enumerate(values):
        (tmp_path / f"{number}.log").write_bytes(b"before " + value + b" after")

    assert len(leaks(tmp_path, ())) == len(values)
