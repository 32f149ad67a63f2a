"""What a caller takes: the media types of the Accept header, and the transfer syntaxes that they name.

Source: PS3.18 8.7; RFC 9110 12.5.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

ANY: Final = "*"
MULTIPART: Final = "multipart/related"


@dataclass(frozen=True)
class MediaType:
    """One media type of the header."""

    name: str  # of multipart/related, the type of its parts
    transfer_syntax: str = ""  # a UID, * for whatever is there; empty: not named
    quality: float = 1.0
    multipart: bool = False
    parameters: dict[str, str] = field(default_factory=dict)

    def takes(self, name: str) -> bool:
        """Tell whether a type is taken."""
        kind = name.partition("/")[0]
        return self.name in (name, f"{kind}/*", "*/*")


def accepted(request: Request) -> list[MediaType]:
    """Return what the caller takes, the most wanted first; without a header, everything.

    The query parameter `accept` stands in for a header that a browser cannot set. Source: PS3.18 8.3.3.1.
    """
    text = request.query_params.get("accept") or request.headers.get("Accept") or "*/*"
    found = [_parsed(part) for part in _split(text)]
    return sorted((each for each in found if each.quality > 0), key=lambda each: -each.quality)


def choose(request: Request, offered: Sequence[str]) -> str:
    """Return the type of those offered that the caller wants most.

    Raises:
        HTTPException: It takes none of them.
    """
    for wanted in accepted(request):
        for name in offered:
            if wanted.takes(name):
                return name
    raise HTTPException(406, f"There is {', '.join(offered)}; the request takes none of it.")


def _split(text: str) -> list[str]:
    """Split at commas that are not between quotes."""
    parts, quoted = [""], False
    for character in text:
        quoted ^= character == '"'
        if character == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _parsed(text: str) -> MediaType:
    message = Message()
    message["Content-Type"] = text
    parameters = {name.lower(): value for name, value in (message.get_params() or [])[1:]}
    # The library falls back to text/plain for what is no type; */* and the like are ours.
    name = text.partition(";")[0].strip().lower()
    multipart = name == MULTIPART
    return MediaType(
        parameters.get("type", "*/*").lower() if multipart else name,
        parameters.get("transfer-syntax", ""),
        _quality(parameters.get("q", "1")),
        multipart,
        parameters,
    )


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
