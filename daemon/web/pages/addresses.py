"""Addresses of pages: what is asked for is in them, so they can be kept, sent and gone back to."""

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

PLACES: Final = ("after", "before")  # of a page in a list: gone when anything else changes


class Address:
    """The address of the page that is asked for."""

    def __init__(self, request: Request) -> None:
        self._path = request.url.path
        self._asked = request.query_params.multi_items()

    def having(self, **changes: object) -> str:
        """Return this address with other parameters, at the beginning of the list; None takes one out."""
        kept = [(name, value) for name, value in self._asked if name not in changes and name not in PLACES]
        new = [(name, _text(value)) for name, value in changes.items() if value not in (None, "")]
        return self._joined([*kept, *new])

    def without(self, name: str, value: str) -> str:
        """Return this address without one value of a parameter."""
        return self._joined([each for each in self._asked if each != (name, value) and each[0] not in PLACES])

    def query(self) -> str:
        """Return what is asked for, without the place in the list, to be put behind another path."""
        return urlencode([each for each in self._asked if each[0] not in PLACES])

    def _joined(self, parameters: list[tuple[str, str]]) -> str:
        return f"{self._path}?{urlencode(parameters)}" if parameters else self._path


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def tidy(request: Request) -> Address:
    """Return the page's address; one with parameters that a form left empty leads to the same without.

    Raises:
        HTTPException: It has some.
    """
    asked = request.query_params.multi_items()
    filled = [(name, value) for name, value in asked if value]
    if len(filled) < len(asked):
        where = f"{request.url.path}?{urlencode(filled)}" if filled else request.url.path
        raise HTTPException(303, headers={"Location": where})
    return Address(request)


Tidy = Annotated[Address, Depends(tidy)]
