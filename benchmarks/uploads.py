"""How long an upload waits for its answer: `python -m benchmarks.uploads`.

A whole node (`lungnode up`) with the shipped model. One JPEG with its heatmap, when the node does nothing and
while it analyses studies of 300 slices one after the other; a zip of a study of 300 slices. The time is the
client's: from the first byte sent to the answer, heatmaps drawn. Exit code 1 when a bar is not met.
"""

import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import httpx
import numpy as np
from PIL import Image
from sqlalchemy import func, select

from benchmarks.studies import Slices, draw
from db.models import Analysis
from db.session import open_engine, reading
from lungnode.pixels import lung_gray
from tests.nodes import command, lungnode, variables, wait_for

SLICES: Final = 300
ROUNDS: Final = 10
PAUSE_S: Final = 1.0  # between uploads beside analyses, which go on in it
BARS_S: Final = {"JPEG, idle": 1.0, "JPEG, beside analyses": 2.0, f"zip of {SLICES} slices": 10.0}
SETTINGS: Final = {
    "LUNGNODE_WEB__ENABLED": "true",
    "LUNGNODE_WEB__PORT": "0",
    "LUNGNODE_RECEIVER__HOST": "127.0.0.1",
    "LUNGNODE_RECEIVER__PORT": "0",
    "LUNGNODE_RECEIVER__DISK_REJECT_BYTES": "0",
    "LUNGNODE_CLERK__QUIET_S": "0.5",
    "LUNGNODE_CLERK__POLL_S": "0.2",
}


@contextmanager
def node(data: Path) -> Iterator[httpx.Client]:
    """Run a node and yield a client that may upload and store."""
    data.mkdir()
    with lungnode(data, "up", environment=SETTINGS, log=data.parent / "log"):
        wait_for((data / "web.json").exists, limit_s=120, what="the web")
        run(data, "users", "add", "bench", "--role", "reader", "--no-password")
        token = run(data, "users", "token", "bench", "--scope", "upload", "--scope", "store").strip()
        address = json.loads((data / "web.json").read_text())
        base = f"http://{address['host']}:{address['port']}"
        wait_for(lambda: ready(base), limit_s=180, what="the model")
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=120) as client:
            yield client


def ready(base: str) -> bool:
    """Tell whether the analysis worker has its model."""
    return httpx.get(f"{base}/health/ready/worker-analysis").is_success


def run(data: Path, *arguments: str) -> str:
    """Run a command of the node."""
    done = subprocess.run(
        command(data, *arguments), env=variables(), capture_output=True, text=True, check=True
    )
    return done.stdout


def upload(client: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    """Upload a file and wait for its answer; returns it with the seconds that it took."""
    start = time.perf_counter()
    answer = client.post("/api/v1/uploads?wait_s=30", files=[("files", (name, content))]).json()
    slices = [each for item in answer["result"].get("items", []) for each in item["slices"]]
    heatmap = next((each["heatmap"] for each in slices if each["heatmap"]), None)
    if answer["state"] != "done" or heatmap is None:
        raise SystemExit(f"The upload ended as {answer['state']}: {answer['reason']}")
    client.get(f"/api/v1/uploads/{answer['key']}/heatmaps/{heatmap}").raise_for_status()
    return answer | {"seconds": time.perf_counter() - start}


def jpeg(slices: Slices) -> bytes:
    """Return a slice in the middle of the lung as a JPEG of 512 x 512."""
    gray = lung_gray(slices.instances[len(slices.instances) // 2])
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def zipped(paths: list[Path]) -> bytes:
    """Return files as a zip, without compressing what is compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            archive.write(path, path.name)
    return buffer.getvalue()


@contextmanager
def analyses(client: httpx.Client, data: Path, slices: Slices, folder: Path) -> Iterator[Callable[[], int]]:
    """Let studies be analysed one after the other while the block runs; yields what counts the ended ones."""
    stopping, engine = Event(), open_engine(f"sqlite:///{data / 'lungnode.sqlite3'}")

    def count(*states: str) -> int:
        with reading(engine) as session:
            return session.scalar(select(func.count()).where(Analysis.state.in_(states))) or 0

    def keep_busy() -> None:
        number = 0
        while not stopping.is_set():
            if count("queued", "running") < 2:  # noqa: PLR2004 - one at work, one that waits
                number += 1
                _send(client, slices.write(folder / str(number)))
            stopping.wait(0.2)

    thread = Thread(target=keep_busy)
    thread.start()
    try:
        wait_for(lambda: count("running"), limit_s=120, what="an analysis")
        yield lambda: count("done")
    finally:
        stopping.set()
        thread.join()
        engine.dispose()


def _send(client: httpx.Client, paths: list[Path]) -> None:
    parts = b"".join(
        b"--x\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n" for path in paths
    )
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
    client.post("/dicomweb/studies", content=parts + b"--x--\r\n", headers=kind).raise_for_status()


def report(name: str, answers: list[dict[str, Any]]) -> bool:
    """Print a line, and tell whether the bar is met."""
    seconds = [answer["seconds"] for answer in answers]
    median, most = float(np.median(seconds)), max(seconds)
    inside = float(np.median([sum(item["seconds"] for item in a["result"]["items"]) for a in answers]))
    good = most < BARS_S[name]
    told = f"{name:24} median {median:5.2f} s, most {most:5.2f} s, of that classified in {inside:5.2f} s"
    print(f"{told}; bar {BARS_S[name]:.0f} s{'' if good else ', NOT MET'}")
    return good


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="lungnode-uploads-") as name:
        folder = Path(name)
        slices = draw(folder / "drawn", SLICES)
        picture, study = jpeg(slices), slices.write(folder / "study")
        archive = zipped(study)
        print(f"JPEG of {len(picture) / 1e3:.0f} kB, zip of {len(archive) / 1e6:.0f} MB")
        with node(folder / "data") as client:
            upload(client, "first.jpg", picture)
            good = report("JPEG, idle", [upload(client, "a.jpg", picture) for _ in range(ROUNDS)])
            good &= report(f"zip of {SLICES} slices", [upload(client, "s.zip", archive) for _ in range(3)])
            with analyses(client, folder / "data", slices, folder / "sent") as ended:
                before, busy = ended(), []
                for _ in range(ROUNDS):
                    busy.append(upload(client, "b.jpg", picture))
                    time.sleep(PAUSE_S)
                good &= report("JPEG, beside analyses", busy)
                print(f"{ended() - before} studies were analysed meanwhile")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
