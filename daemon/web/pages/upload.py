"""Page: classify a file of one's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Caller, Uploader
from daemon.web.api.uploads import Key
from daemon.web.node import Node, WebNode
from daemon.web.rendering import render
from db.models import Upload
from db.session import reading
from db.uploads import Owner, find_upload, list_uploads

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Heatmap:
    """A slice of an item with its colours."""

    place: int  # among the item's slices, from 1
    picture: str
    probability: float


@dataclass(frozen=True)
class Item:
    """What came of one picture or one study of an upload."""

    title: str
    verdict: str
    probability: float | None
    threshold: float | None
    reason: str
    notes: list[str]
    slices: int
    seconds: float
    heatmaps: list[Heatmap]

    @property
    def worst(self) -> Heatmap | None:
        """The most suspicious of its heatmaps."""
        return max(self.heatmaps, key=lambda each: each.probability, default=None)


@router.get("/upload", name="upload")
def show(request: Request, node: Node, caller: Uploader) -> Response:
    """Show the form, and the caller's uploads."""
    return _page(request, node, caller, None)


@router.get("/upload/{key}", name="upload-answer")
def answer(request: Request, key: Key, node: Node, caller: Uploader) -> Response:
    """Show what came of an upload."""
    with reading(node.engine) as session:
        row = find_upload(session, key, Owner(caller.account_id))
    if row is None:
        raise HTTPException(404, "There is no such upload. What is not kept is deleted after a while.")
    return _page(request, node, caller, row)


def _page(request: Request, node: WebNode, caller: Caller, row: Upload | None) -> Response:
    with reading(node.engine) as session:
        uploads = list_uploads(session, Owner(caller.account_id))
    values = {
        "uploads": uploads,
        "upload": row,
        "items": list(_items(row.result)) if row else [],
        "lasts_s": node.settings.web.upload_s,
        "most_bytes": node.settings.web.upload_bytes,
    }
    return render(request, "upload.html", values)


def _items(result: dict[str, Any]) -> Iterator[Item]:
    for told in result.get("items", []):
        slices = list(enumerate(told["slices"], start=1))
        yield Item(
            title=told["path"] or "Study",
            verdict=told["verdict"],
            probability=told["probability"],
            threshold=result["threshold"],
            reason=told["reason"],
            notes=told["notes"],
            slices=len(slices),
            seconds=told["seconds"],
            heatmaps=[
                Heatmap(place, each["heatmap"], each["probability"])
                for place, each in slices
                if each.get("heatmap")
            ],
        )
