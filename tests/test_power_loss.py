"""The order of system calls that a power failure may cut anywhere: what is promised is durable before.

strace writes down the calls of each thread in a file of its own, with paths for descriptors.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from lungnode.phantom import phantom_study
from tests.nodes import variables, wait_for
from tests.receiving import an_instance, running_receiver
from tests.spooling import STUDY, Sender, slices

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is absent: apt install strace")

_CALLS: Final = "fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,sendto,sendmsg,write"
_STRACE: Final = ("strace", "-y", "-s", "0", "-e", f"trace={_CALLS}", "-e", "signal=none")
# One line of strace: the call, and every path in its arguments.
_LINE: Final = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_PATH: Final = re.compile(r'[<"]([^<>"]+)[>"]')


@dataclass(frozen=True)
class Call:
    """One call that succeeded."""

    name: str
    paths: tuple[str, ...]

    def names(self, *endings: str) -> bool:
        """Tell whether a path ends so."""
        return any(path.endswith(endings) for path in self.paths)


def calls_of(trace: Path) -> list[Call]:
    """Return the calls of one thread, in their order."""
    found = []
    for line in trace.read_text().splitlines():
        match = _LINE.search(line)
        if match and not match[3].startswith("-"):
            found.append(Call(match[1].removesuffix("at"), tuple(_PATH.findall(match[2]))))
    return found


def run_traced(program: str, folder: Path, *arguments: Path) -> list[Call]:
    """Run a program to its end; return what its first thread called."""
    trace = folder / "trace"
    told = f"import os; print(os.getpid(), flush=True)\n{program}"
    command = (*_STRACE, "-f", "-ff", "-o", str(trace), sys.executable, "-c", told, *map(str, arguments))
    done = subprocess.run(command, env=variables(), capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    return calls_of(trace.with_suffix(f".{done.stdout.split()[0]}"))


@contextmanager
def tracing(pid: int, folder: Path) -> Iterator[Path]:
    """Write down the calls of a process's threads while the block runs; yields the folder of their files."""
    command = (*_STRACE, "-f", "-ff", "-o", str(folder / "trace"), "-p", str(pid))
    with (folder / "strace.log").open("wb") as log:
        strace = subprocess.Popen(command, stderr=log)
    try:
        said = folder / "strace.log"
        wait_for(lambda: "attached" in said.read_text() or strace.poll() is not None, what="strace")
        if strace.poll() is not None:
            pytest.skip("strace may not trace here")
        yield folder
    finally:
        strace.terminate()
        strace.wait()


def test_no_success_leaves_the_receiver_before_file_and_folder_are_on_the_disk(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1) as receiver, tracing(receiver.children()[0], tmp_path):
        with receiver.connect() as peer:
            peer.associate()
            for number in range(1, 4):
                assert peer.store(an_instance(number)) == 0
            peer.release()
        wait_for(lambda: list(receiver.spool.glob("*/ended.json")), what="the end")

    thread = next(calls for calls in map(calls_of, tmp_path.glob("trace.*")) if stored(calls))
    (folder,) = {str(path.parent) for path in receiver.files()}
    for number in range(1, 4):
        name = f"{number:08d}"
        start = index(thread, "fdatasync", f"{name}.part")
        steps = [call for call in thread[start:] if call.name != "write"]
        # The folder's own name is synchronised once, with the first instance.
        order = ["fdatasync", "rename", "fsync", *(["fsync"] if number == 1 else []), "sendto"]
        assert [call.name for call in steps[: len(order)]] == order
        assert steps[1].names(f"{name}.dcm")
        assert steps[2].paths == (folder,)


def stored(calls: list[Call]) -> bool:
    return any(call.name == "rename" and call.names(".dcm") for call in calls)


def index(calls: list[Call], name: str, ending: str, start: int = 0) -> int:
    """Where the first such call is."""
    found = (i for i, call in enumerate(calls) if i >= start and call.name == name and call.names(ending))
    return next(found)


_CLERK: Final = """
import sys, threading
from pathlib import Path
from daemon.clerk.main import Clerk
from db.session import open_engine, upgrade
from lungnode.settings import Settings
data = Path(sys.argv[1])
engine = open_engine(f"sqlite:///{data}/node.sqlite3")
upgrade(engine)
Clerk(engine, Settings(data=data), threading.Event()).round()
"""


@pytest.mark.parametrize("is_other_disk", [False, True])
def test_the_clerk_unlinks_only_what_archive_and_index_have_for_good(
    is_other_disk: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = tmp_path / "data"
    (data / "spool").mkdir(parents=True)
    if is_other_disk:
        (data / "archive").symlink_to(request.getfixturevalue("other_disk"))
    Sender(data / "spool", "a1").open().send(*slices((1, 2))).release()

    calls = run_traced(_CLERK, tmp_path, data)

    for number in (1, 2):
        placed = index(calls, "link", f"{STUDY}.1.{number}.dcm")
        if is_other_disk:  # a copy has to be written first
            copied = [call for call in calls[:placed] if call.name == "fsync" and call.names(".part")]
            assert len(copied) >= number
        of_study = index(calls, "fsync", f"/{STUDY}", placed)
        of_archive = of_study + 1
        assert calls[of_archive].name == "fsync"
        committed = index(calls, "fdatasync", "node.sqlite3-wal", of_archive)
        unlinked = index(calls, "unlink", f"spool/a1/{number:08d}.dcm")
        assert placed < of_study < of_archive < committed < unlinked


_WORKER: Final = """
import sys
from pathlib import Path
from db.session import open_engine, upgrade
from tests.bench import Bench
folder, paths = Path(sys.argv[1]), sorted(Path(sys.argv[2]).rglob("*.dcm"))
engine = open_engine(f"sqlite:///{folder}/node.sqlite3")
upgrade(engine)
bench = Bench(engine, folder)
row_id = bench.archive(tuple(paths))
bench.analyse()
assert bench.row(row_id).state == "done"
"""


def test_outputs_have_their_names_for_good_before_their_rows(tmp_path: Path) -> None:
    study = phantom_study(tmp_path / "study", slices=14, size=128)
    data = tmp_path / "data"
    data.mkdir()

    calls = run_traced(_WORKER, tmp_path, data, tmp_path / "study")

    threads = [call for path in tmp_path.glob("trace.*") for call in calls_of(path)]
    staged = {Path(p).name for call in threads if call.name == "fsync" for p in call.paths if "staging" in p}
    renames = [i for i, call in enumerate(calls) if call.name == "rename" and call.names(".dcm")]
    named = {Path(calls[i].paths[-1]).name for i in renames}
    assert named
    assert named <= staged  # written, and on the disk, before they got their names
    committed = index(calls, "fdatasync", "node.sqlite3-wal", renames[0])
    place = f"outputs/{study.study_instance_uid}/1"
    synced = [call.paths[0].rpartition("data/")[2] for call in calls[:committed] if call.name == "fsync"]
    # The new folders' own names first, from the top; after the renames the folder that has the files.
    assert [each for each in synced if not each.endswith(".dcm")][-3:] == ["outputs", place[:-2], place]
    assert renames[-1] < index(calls, "fsync", place, renames[0]) < committed


_STOW: Final = """
import os, sys
from pathlib import Path
from daemon.web.dicomweb.intake import Intake, Stored, identity_of
from lungnode.settings import ReceiverSettings, Settings
settings = Settings(data=Path(sys.argv[1]), receiver=ReceiverSettings(disk_reject_bytes=0))
intake = Intake(settings, identity_of("gateway", "192.0.2.1", settings))
for name in sys.argv[2:]:
    intake.begin("application/dicom")
    intake.append(Path(name).read_bytes())
    intake.finish()
    assert isinstance(intake.outcomes[-1], Stored)
    os.write(1, b"counted as stored")
"""


def test_no_object_is_counted_as_stored_over_http_before_it_is_on_the_disk(tmp_path: Path) -> None:
    study = phantom_study(tmp_path / "study", slices=2, size=64)

    run_traced(_STOW, tmp_path, tmp_path / "data", *study.paths)

    calls = next(calls for calls in map(calls_of, tmp_path.glob("trace.*")) if stored(calls))
    for number in (1, 2):
        start = index(calls, "fdatasync", f"{number:08d}.part")
        steps = [call for call in calls[start:] if call.name != "write" or not call.names(".part", ".json")]
        order = ["fdatasync", "rename", "fsync", *(["fsync"] if number == 1 else []), "write"]
        assert [call.name for call in steps[: len(order)]] == order
        assert steps[1].names(f"{number:08d}.dcm")
