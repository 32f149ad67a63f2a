"""Writing multipart/related, part by part. Source: PS3.18 8.6.1.2; RFC 2387."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.responses import StreamingResponse

_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Part:
    """One part: bytes, or a file that is read when its turn comes."""

    media_type: str
    body: bytes | Path
    location: str = ""


def related(media_type: str, parts: Iterable[Part]) -> StreamingResponse:
    """Answer with parts of a type; they are made one after the other, as the caller takes them."""
    boundary = secrets.token_hex(16)
    header = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return StreamingResponse(_written(parts, boundary), media_type=header)


def _written(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for part in parts:
        location = f"Content-Location: {part.location}\r\n" if part.location else ""
        yield f"--{boundary}\r\nContent-Type: {part.media_type}\r\n{location}\r\n".encode()
        yield from _pieces(part.body)
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _pieces(body: bytes | Path) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    with body.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
