"""Pages by key: each begins behind the last row of the one before, so the last costs what the first did."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import UtcDateTime
from lungnode.errors import UnusableError

T = TypeVar("T")
LIMIT: Final = 50
MOST: Final = 500
_MOST_INTEGER: Final = 2**63 - 1  # that either database compares


@dataclass(frozen=True)
class Page:
    """Which rows are asked for."""

    after: str = ""  # the `next` of the page before
    limit: int = LIMIT
    descending: bool = True


@dataclass(frozen=True)
class Found(Generic[T]):
    """A page of rows."""

    rows: Sequence[T]
    next: str = ""  # empty: these were the last ones


def newest(session: Session, query: Select[Any], tie: InstrumentedAttribute[int], page: Page) -> Found[Any]:
    """Return a page of a query of whole rows, by their number.

    Raises:
        UnusableError: `after` is not from such a page.
    """
    rows = session.scalars(behind(query, tie, tie, page)).unique().all()
    if len(rows) <= page.limit:
        return Found(rows)
    last = getattr(rows[page.limit - 1], tie.key)
    return Found(rows[: page.limit], encode((last, last)))


def behind(
    query: Select[Any], key: InstrumentedAttribute[Any], tie: InstrumentedAttribute[int], page: Page
) -> Select[Any]:
    """Order a query by a key that is never NULL, and let it begin behind the page before.

    Raises:
        UnusableError: `after` is not from such a page.
    """
    if page.after:
        query = query.where(_beyond(key, tie, page))
    order = (key.desc(), tie.desc()) if page.descending else (key.asc(), tie.asc())
    return query.order_by(*order).limit(page.limit + 1)


def cut(rows: Sequence[Sequence[Any]], page: Page) -> Found[Sequence[Any]]:
    """Return the page of the rows of such a query, which begin with key and tie."""
    if len(rows) <= page.limit:
        return Found(rows)
    key, tie = rows[page.limit - 1][:2]
    return Found(rows[: page.limit], encode((key, tie)))


def encode(place: Sequence[Any]) -> str:
    """Return a place in a list as text for an address."""
    plain = [each.isoformat() if isinstance(each, datetime) else each for each in place]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def _beyond(
    key: InstrumentedAttribute[Any], tie: InstrumentedAttribute[int], page: Page
) -> ColumnElement[bool]:
    value, number = _decode(page.after, key)
    # The first condition says nothing new; it is the range of the index that is read.
    if page.descending:
        return and_(key <= value, or_(key < value, tie < number))
    return and_(key >= value, or_(key > value, tie > number))


def _decode(text: str, key: InstrumentedAttribute[Any]) -> tuple[Any, int]:
    try:
        value, number = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return _read(value, key), _integer(number)
    except (ValueError, TypeError, OverflowError) as error:
        raise UnusableError("The place in the list is not one that was given out; begin anew.") from error


def _read(value: Any, key: InstrumentedAttribute[Any]) -> Any:
    """Return a value that a database takes for a column; anybody may have made up what it was read from."""
    if isinstance(key.type, UtcDateTime):
        return datetime.fromisoformat(value).astimezone(UTC)
    if key.type.python_type is str:
        return _text(value)
    return _integer(value) if key.type.python_type is int else _number(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("no text")
    value.encode()  # half of a surrogate pair raises an error
    return value


def _integer(value: Any) -> int:
    number = int(value)
    if abs(number) > _MOST_INTEGER:
        raise ValueError("too large for a database")
    return number


def _number(value: Any) -> float:
    number = float(value)
    if not isfinite(number):
        raise ValueError("no number")
    return number
