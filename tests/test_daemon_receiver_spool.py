import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.receiver.dimse import Status
from daemon.receiver.spool import AssociationIdentity, AssociationOutcome, SpoolFile, SpoolFolder
from daemon.receiver.store import Storing

NOON = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
IDENTITY = AssociationIdentity(
    id="20260305T120000-1",
    host="here",
    process=1,
    calling_ae_title="CT1",
    called_ae_title="LUNGNODE",
    address="127.0.0.1",
    opened_at=NOON.isoformat(),
)
# What one association does to the disk, in a process that can be watched.
PROGRAM = f"""
import sys
from datetime import UTC, datetime
from pathlib import Path
from daemon.receiver.spool import *
from daemon.receiver.store import Storing
folder = SpoolFolder(Path(sys.argv[1]), {IDENTITY!r})
for number in range(2):
    storing = Storing(folder.new_file(b"head"), "1.2.3")
    storing.append(memoryview(b"data"))
    print(storing.finish().status.name, flush=True)
folder.end(AssociationOutcome.RELEASED, datetime.now(UTC))
"""

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is absent: apt install strace"
)


@pytest.fixture
def folder(tmp_path: Path) -> SpoolFolder:
    return SpoolFolder(tmp_path, IDENTITY)


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_an_association_without_instances_leaves_nothing(folder: SpoolFolder, tmp_path: Path) -> None:
    folder.end(AssociationOutcome.RELEASED, NOON)

    assert not list(tmp_path.iterdir())


def test_the_association_is_locked_from_its_first_instance_to_its_end(
    folder: SpoolFolder, tmp_path: Path
) -> None:
    folder.new_file(b"").commit()
    path = tmp_path / IDENTITY.id / "association.json"

    assert is_locked(path)
    assert json.loads(path.read_text()) == {
        "id": IDENTITY.id,
        "host": "here",
        "process": 1,
        "calling_ae_title": "CT1",
        "called_ae_title": "LUNGNODE",
        "address": "127.0.0.1",
        "opened_at": "2026-03-05T12:00:00+00:00",
    }
    folder.end(AssociationOutcome.LOST, NOON)
    assert not is_locked(path)
    ended = json.loads((path.parent / "ended.json").read_text())
    assert ended == {"outcome": "lost", "at": "2026-03-05T12:00:00+00:00"}


def test_a_file_has_its_final_name_only_when_it_is_whole(folder: SpoolFolder, tmp_path: Path) -> None:
    file = folder.new_file(b"head")
    file.append(memoryview(b"data"))
    file.flush()
    names = {path.name for path in (tmp_path / IDENTITY.id).iterdir()}
    assert names == {"association.json", "00000001.part"}

    file.commit()

    assert (tmp_path / IDENTITY.id / "00000001.dcm").read_bytes() == b"headdata"
    assert not list(tmp_path.glob("*/*.part"))


def test_more_fragments_than_one_system_call_takes_are_all_written(
    folder: SpoolFolder, tmp_path: Path
) -> None:
    data = os.urandom(5_000)
    file = folder.new_file(b"")
    for position in range(len(data)):
        file.append(memoryview(data)[position : position + 1])
    file.commit()

    assert (tmp_path / IDENTITY.id / "00000001.dcm").read_bytes() == data


def test_a_discarded_file_leaves_its_number_unused(folder: SpoolFolder, tmp_path: Path) -> None:
    folder.new_file(b"").discard()
    folder.new_file(b"").commit()

    assert [path.name for path in tmp_path.glob("*/*.dcm")] == ["00000002.dcm"]


def test_nobody_else_can_read_what_is_kept(folder: SpoolFolder, tmp_path: Path) -> None:
    folder.new_file(b"").commit()

    for path in (tmp_path / IDENTITY.id, *(tmp_path / IDENTITY.id).iterdir()):
        assert path.stat().st_mode & 0o007 == 0


@dataclass
class BrokenFile(SpoolFile):
    """A file on a disk that fails at the given step."""

    step: str
    discarded: list[bool] = field(default_factory=list)

    def append(self, fragment: memoryview) -> None:  # noqa: ARG002 - as the real one
        """Fail here, if asked to."""
        self._fail("append")

    def flush(self) -> None:
        """Fail here, if asked to."""
        self._fail("flush")

    def commit(self) -> None:
        """Fail here, if asked to."""
        self._fail("commit")

    def discard(self) -> None:
        """Note that it was called."""
        self.discarded.append(True)

    def _fail(self, step: str) -> None:
        if step == self.step:
            raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("step", ["append", "flush", "commit"])
def test_a_disk_that_fails_at_any_step_is_out_of_resources_and_the_file_goes(step: str) -> None:
    file = BrokenFile(step)
    storing = Storing(file, "1.2.3")

    storing.append(memoryview(b"data"))
    storing.flush()
    storing.append(memoryview(b"more"))
    outcome = storing.finish()

    assert (outcome.status, outcome.comment) == (Status.OUT_OF_RESOURCES, "Input/output error")
    assert file.discarded == [True]


def strace(tmp_path: Path, *options: str) -> tuple[list[str], list[str]]:
    """Run the program under strace; return its lines, and the system calls on the spool."""
    trace, spool = tmp_path / "trace", tmp_path / "spool"
    spool.mkdir()
    calls = "trace=fdatasync,fsync,rename,renameat,renameat2,mkdir,mkdirat"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", calls, *options]
    result = subprocess.run(
        [*command, sys.executable, "-c", PROGRAM, str(spool)], capture_output=True, text=True, check=False
    )
    if "PTRACE" in result.stderr or "ptrace" in result.stderr:
        pytest.skip("strace may not trace here")
    lines = [line for line in trace.read_text().splitlines() if str(spool) in line]
    return result.stdout.splitlines(), [_short(line, spool) for line in lines]


def _short(line: str, spool: Path) -> str:
    name = re.sub(r"^\d+ +", "", line).partition("(")[0].removesuffix("at")
    paths = re.findall(
        r"[<\"]([^<>\"]*\.(?:part|dcm|json)|" + re.escape(str(spool)) + r"[^<>\"]*)[>\"]", line
    )
    return f"{name} {paths[-1].rpartition('/')[2]}"


@needs_strace
def test_data_is_synchronised_before_the_name_and_the_name_before_the_answer(tmp_path: Path) -> None:
    output, calls = strace(tmp_path)

    assert output == ["SUCCESS", "SUCCESS"]
    assert calls == [
        f"mkdir {IDENTITY.id}",
        "rename association.json",
        "fdatasync association.json",
        "fdatasync 00000001.part",
        "rename 00000001.dcm",
        f"fsync {IDENTITY.id}",
        "fsync spool",
        "fdatasync 00000002.part",
        "rename 00000002.dcm",
        f"fsync {IDENTITY.id}",
        "rename ended.json",
    ]


@needs_strace
@pytest.mark.parametrize(
    "call",
    [
        "fdatasync:error=EIO:when=2",
        "fsync:error=EIO:when=1",
        "fsync:error=EIO:when=2",
        "/^rename:error=EIO:when=2",
    ],
)
def test_an_instance_whose_synchronisation_fails_is_not_acknowledged_and_not_kept(
    tmp_path: Path, call: str
) -> None:
    output, _ = strace(tmp_path, "-e", f"inject={call}")

    assert output == ["OUT_OF_RESOURCES", "SUCCESS"]
    assert [path.name for path in tmp_path.glob("spool/*/*.dcm")] == ["00000002.dcm"]
    assert not list(tmp_path.glob("spool/*/*.part"))
