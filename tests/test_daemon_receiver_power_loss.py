"""What the kernel is asked for, in which order, before a peer reads a success: strace on a live receiver."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.receiver.dimse import Status
from tests.dicom_wire import CT_CONTEXT
from tests.hostile.grammar import CONTEXTS, commitment_request
from tests.hostile.mutation import chance_of
from tests.receiving import PROGRAM, RunningReceiver, an_instance, running_receiver, wait_until

CALLS = "trace=fdatasync,fsync,rename,renameat,renameat2,sendto"
pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is absent: apt install strace")


@dataclass(frozen=True)
class Traced:
    """A receiver whose system calls are written down."""

    receiver: RunningReceiver
    trace: Path

    def calls(self) -> list[str]:
        """Name each call and the last part of its file; "answer" is what a peer reads."""
        lines = self.trace.read_text().splitlines()
        return [short for line in lines if (short := _short(line)) is not None]


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    trace = tmp_path / "trace"
    command = ("strace", "-D", "-f", "-y", "-o", str(trace), "-e", CALLS)
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace may not trace here")
    with running_receiver(tmp_path, None, (*command, sys.executable, "-c", PROGRAM), processes=1) as receiver:
        # The parent gives its sign of life, which is a file as well, beside its child.
        wait_until(lambda: list(receiver.data.glob("health/*.json")), "there is no sign of life")
        yield Traced(receiver, trace)


def _short(line: str) -> str | None:
    """Return "call file"; None for what does not concern the spool or a peer."""
    call = re.sub(r"^\d+ +", "", line).partition("(")[0].removesuffix("at2").removesuffix("at")
    if call == "sendto":
        return "answer" if '"\\4\\0' in line else None  # P-DATA-TF
    names = [path.rpartition("/")[2] for path in re.findall(r'[<"]([^<>"]+)[>"]', line)]
    return f"{call} {names[-1]}" if names and "/spool" in line else None


def test_no_success_leaves_before_data_name_and_folder_are_on_the_disk(traced: Traced) -> None:
    with traced.receiver.connect() as peer:
        peer.associate((CT_CONTEXT,))
        for number in (1, 2):
            assert peer.store(an_instance(number)) == Status.SUCCESS
        peer.release()
    wait_until(lambda: "rename ended.json" in traced.calls(), "the association does not end")

    (folder,) = {path.parent.name for path in traced.receiver.files()}
    calls = traced.calls()
    first = calls.index("fdatasync 00000001.part")
    assert calls[first:] == [
        "fdatasync 00000001.part",
        "rename 00000001.dcm",
        f"fsync {folder}",
        "fsync spool",
        "answer",
        "fdatasync 00000002.part",
        "rename 00000002.dcm",
        f"fsync {folder}",
        "answer",
        "rename ended.json",
    ]
    assert "answer" not in calls[:first]


def test_a_commitment_request_is_on_the_disk_before_it_is_answered(traced: Traced) -> None:
    with traced.receiver.connect() as peer:
        peer.associate(CONTEXTS)
        peer.send(commitment_request(chance_of(1, 1)))
        assert peer.read_status() == Status.SUCCESS
    wait_until(lambda: "answer" in traced.calls(), "strace does not tell of the answer")

    calls = traced.calls()
    (folder,) = {path.parent.name for path in traced.receiver.spool.glob("*/*.action")}
    assert calls[calls.index("answer") - 4 : calls.index("answer")] == [
        "fdatasync 00000001.part",
        "rename 00000001.action",
        f"fsync {folder}",
        "fsync spool",
    ]
