"""Uploads: classified beside studies and before them, by the same warm model.

One thread of the analysis process waits for them. While it has one, an analysis waits between two batches.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import Any, Final

from sqlalchemy import update

from db.models import Upload, UploadState
from db.session import transaction
from db.uploads import UPLOADS
from db.work import Claim, claim, finish, give_back, most_urgent, new_owner
from lungnode.broker import connect, wait_for_upload
from lungnode.errors import LungnodeError, UnavailableError
from lungnode.runtime import Model
from worker.classify import Item, classify
from worker.conduct import Conduct
from worker.gather import gather
from worker.hold import Node, Stopped, kept
from worker.item_views import draw_heatmaps, item_record

_LOG = logging.getLogger(__name__)
FILES: Final = "files"  # below the upload's folder: what was uploaded, under names of ours
HEATMAPS: Final = "heatmaps"
NAMES: Final = "names.json"  # what the files were called, by our names
_LOOK_S: Final = 1.0  # how long a message that was lost may delay an upload
_TOLD_S: Final = 0.3  # between two notes of progress


class Way:
    """Who goes first: while an upload is at work, analyses wait between two batches."""

    def __init__(self) -> None:
        self._is_free = Condition()
        self._urgent = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Go first while the block runs."""
        with self._is_free:
            self._urgent += 1
        try:
            yield
        finally:
            with self._is_free:
                self._urgent -= 1
                self._is_free.notify_all()

    def give(self) -> None:
        """Return when nobody goes first."""
        with self._is_free:
            self._is_free.wait_for(lambda: not self._urgent)


class Desk:
    """Takes uploads, one after the other."""

    def __init__(self, node: Node, way: Way, warm_up: Callable[[], Model]) -> None:
        self._node, self._way, self._warm_up = node, way, warm_up

    def serve(self) -> None:
        """Take uploads until the process is asked to stop; whatever fails ends an upload, not the desk."""
        with connect(self._node.settings.broker, timeout_s=2 * _LOOK_S) as broker:
            while not self._node.stopping():
                try:
                    wait_for_upload(broker, _LOOK_S)
                except UnavailableError:
                    time.sleep(_LOOK_S)
                try:
                    while self.take_one() and not self._node.stopping():
                        pass
                except LungnodeError as error:
                    _LOG.warning("uploads wait: %s", error)

    def take_one(self) -> bool:
        """Classify the upload that waits longest; False when none does."""
        held = self._claim()
        if held is None:
            return False
        with self._way.taken():
            try:
                with kept(self._node, held, self._node.settings.analysis.lease_s):
                    self._classify(held)
            except Stopped:
                with transaction(self._node.engine) as session:
                    give_back(session, held, self._node.clock())
            except Exception as error:  # noqa: BLE001 - no upload may stop the desk; its words go into the row
                _LOG.error("upload %d failed with %s", held.row_id, type(error).__name__)
                self._end(held, {"state": UploadState.FAILED, "reason": f"{type(error).__name__}: {error}"})
        return True

    def _claim(self) -> Claim | None:
        now = self._node.clock()
        with transaction(self._node.engine) as session:
            for row_id in most_urgent(session, UPLOADS, now, 5):
                held = Claim(UPLOADS, row_id, new_owner())
                if claim(session, held, now, self._node.settings.analysis.lease_s):
                    return held
        return None

    def _classify(self, held: Claim) -> None:
        with transaction(self._node.engine) as session:
            key = session.get_one(Upload, held.row_id).key
        folder = self._node.settings.uploads / key
        (folder / HEATMAPS).mkdir(exist_ok=True)
        model = self._warm_up()
        conduct = Conduct(time.monotonic, self._teller(held), self._node.settings.analysis.at_most)
        items = [
            _told(item, number, folder)
            for number, item in enumerate(classify(gather([folder / FILES]), model, conduct), start=1)
        ]
        info = model.info
        result = {
            "model": f"{info.name} {info.version} (sha256 {info.digest})",
            "threshold": info.threshold,
            "items": items,
        }
        self._end(held, {"state": UploadState.DONE, "result": result, "progress": {}})

    def _teller(self, held: Claim) -> Callable[[str, int, int], None]:
        """Return what notes in the row how far it is, now and then."""
        told_at = time.monotonic()

        def proceed(phase: str, done: int, total: int) -> None:
            nonlocal told_at
            if self._node.stopping():
                raise Stopped
            if time.monotonic() - told_at < _TOLD_S:
                return
            told_at = time.monotonic()
            progress = {"phase": phase, "done": done, "total": total}
            with transaction(self._node.engine) as session:
                session.execute(update(Upload).where(Upload.id == held.row_id).values(progress=progress))

        return proceed

    def _end(self, held: Claim, values: dict[str, Any]) -> None:
        with transaction(self._node.engine) as session:
            finish(session, held, values | {"finished_at": self._node.clock()})


def _told(item: Item, number: int, folder: Path) -> dict[str, Any]:
    """Return an item as its row keeps it: called as it was, and with its heatmaps."""
    drawn = draw_heatmaps(item, folder / HEATMAPS, f"{number:04d}")
    record = item_record(item)
    record["path"] = _short(item.task.path, folder)
    for index, shown in enumerate(record["slices"]):
        if "path" in shown:
            shown["path"] = record["path"]
        shown["heatmap"] = drawn[index].name if index in drawn else None
    record["reason"] = record["reason"].replace(f"{folder / FILES}/", "")
    return record


def _short(path: Path, folder: Path) -> str:
    base = folder / FILES
    if path == base:
        return ""
    try:
        names = json.loads((folder / NAMES).read_text())
    except (OSError, ValueError):
        names = {}
    return str(names.get(path.name, path.name))
