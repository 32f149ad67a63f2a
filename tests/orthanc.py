"""Orthanc as the PACS of a test: private folder, free ports, everything allowed on loopback."""

import json
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pydicom import Dataset, dcmread

from tests.nodes import stop, wait_for


def free_port() -> int:
    """Return a port that nobody listens on: for programs that cannot tell which one they took."""
    while True:
        # Below 32768, where the kernel would give it to another process before the program takes it.
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    dicom_port: int
    http_port: int

    def get(self, path: str) -> Any:
        """Ask its REST interface."""
        with urlopen(f"http://127.0.0.1:{self.http_port}/{path}", timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, value: Any) -> Any:
        """Tell its REST interface to do something."""
        body = json.dumps(value).encode()
        with urlopen(f"http://127.0.0.1:{self.http_port}/{path}", body, timeout=30) as answer:
            return json.load(answer)

    def delete(self, path: str) -> None:
        """Let it forget something."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        connection.request("DELETE", f"/{path}")
        assert connection.getresponse().status == 200
        connection.close()

    def instances(self, study_instance_uid: str, modality: str = "") -> list[Dataset]:
        """Read what it holds of a study, of one modality."""
        found: list[Dataset] = []
        for series in self.get("series?expand"):
            study = self.get(f"series/{series['ID']}/study")["MainDicomTags"]["StudyInstanceUID"]
            if study == study_instance_uid and modality in ("", series["MainDicomTags"]["Modality"]):
                found += [dcmread(BytesIO(self.file(each))) for each in series["Instances"]]
        return found

    def file(self, identifier: str) -> bytes:
        """Fetch one instance as it was stored."""
        with urlopen(f"http://127.0.0.1:{self.http_port}/instances/{identifier}/file", timeout=30) as answer:
            return bytes(answer.read())

    def keep(self, *paths: Path) -> None:
        """Store files there, as a modality does."""
        command = ("storescu", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port), *map(str, paths))
        subprocess.run(command, check=True, env={"TCP_NODELAY": "1"}, timeout=120)

    def studies(self) -> set[str]:
        """Return all Study Instance UIDs."""
        return {each["MainDicomTags"]["StudyInstanceUID"] for each in self.get("studies?expand")}


@contextmanager
def running_orthanc(
    folder: Path, destinations: Mapping[str, int] | None = None, **more: object
) -> Iterator[Orthanc]:
    """Run Orthanc while the block runs; `destinations` are ports of the AE titles it may move to.

    `more` are further settings of its own.
    """
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc is absent: apt install orthanc")
    orthanc = Orthanc(free_port(), free_port())
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [],
        "DicomAet": "ORTHANC",
        "DicomPort": orthanc.dicom_port,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {ae: [ae, "127.0.0.1", port] for ae, port in (destinations or {}).items()},
        "HttpPort": orthanc.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StableAge": 1,
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen((program, str(folder / "orthanc.json")), stdout=log, stderr=log)
        try:
            wait_for(lambda: _is_up(orthanc), what="Orthanc")
            yield orthanc
        finally:
            stop(process)


def _is_up(orthanc: Orthanc) -> bool:
    try:
        return bool(orthanc.get("system"))
    except OSError:
        return False
