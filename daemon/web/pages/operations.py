"""Page: how the node is doing, and what needs somebody first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter
from markupsafe import Markup
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Operator
from daemon.web.alerts.conditions import STORE_AWAY, Facts
from daemon.web.api.destinations import ECHOED
from daemon.web.audited import note_look
from daemon.web.charts import Axes, bars, nice
from daemon.web.disks import disks
from daemon.web.node import Node
from daemon.web.pages.attention import concerns
from daemon.web.pages.stages import delivery_mark
from daemon.web.pages.trouble import Known, all_trouble
from daemon.web.programs import programs
from daemon.web.rendering import render
from db.alerts import open_alerts
from db.audit_trail import last_of
from db.deliveries import ENDED_BADLY
from db.listings import DeliveryFilter, page_of_deliveries
from db.models import AuditEvent, DeliveryState
from db.numbers import Numbers, ended_by_hour, last_contacts, read_numbers
from db.paging import Page
from db.session import reading
from lungnode.settings import DicomDestination, Settings

router = APIRouter(include_in_schema=False)
HOURS: Final = 24
_CONTACTS: Final = timedelta(days=7)  # how far back is looked for the last one
_SHOWN: Final = 20  # dead letters


@dataclass(frozen=True)
class Place:
    """One destination, and how it stands."""

    name: str
    kind: str
    where: str
    waiting: int
    failed: int
    stored_at: datetime | None
    echo: AuditEvent | None
    may_be_asked: bool


@router.get("/operations", name="operations")
def show(request: Request, node: Node, caller: Operator) -> Response:
    """Show the page."""
    now, settings = node.clock(), node.settings
    with reading(node.engine) as session:
        numbers = read_numbers(session, now, only_open=True)
        by_hour = ended_by_hour(session, now, HOURS)
        places = _places(session, settings, numbers, now)
        # It is asked by whoever looks for alerts: a page must not wait for it.
        told = {alert.name: alert.sentence for alert in open_alerts(session)}
        dead = page_of_deliveries(session, DeliveryFilter(ENDED_BADLY), Page(limit=_SHOWN))
    if dead.rows:
        note_look(node, caller, "deliveries listed", "deliveries")
    found, alive = disks(settings), programs(settings.data)
    known = Known(
        Facts(numbers, alive, min(disk.free for disk in found), told.get(STORE_AWAY, "")),
        [place.name for place in places if place.echo is not None and place.echo.outcome],
        bool(settings.destinations),
    )
    values: dict[str, Any] = {
        "numbers": numbers,
        "programs": alive,
        "disks": found,
        "limits": settings.receiver,
        "places": places,
        "dead": [(row, delivery_mark(row.state)) for row in dead.rows],
        "dead_count": sum(each.failed for each in places) or len(dead.rows),
        "is_cut": bool(dead.next),
        "concerns": concerns(all_trouble(known, settings, now)),
        "throughput": throughput(by_hour),
        "by_hour": by_hour,
    }
    return render(request, "operations.html", values)


def _places(session: Session, settings: Settings, numbers: Numbers, now: datetime) -> list[Place]:
    """Return the destinations of the settings, and those that are not in them any more but have work."""
    stored = last_contacts(session, now - _CONTACTS)
    named = {each.name: each for each in settings.destinations}
    found = []
    for name in dict.fromkeys([*named, *(name for name, _ in numbers.deliveries)]):
        states = {state: count for (of, state), count in numbers.deliveries.items() if of == name}
        one: Any = named.get(name)
        found.append(
            Place(
                name,
                one.kind if one else "not in the settings",
                _where(one),
                states.get(DeliveryState.PENDING, 0) + states.get(DeliveryState.SENDING, 0),
                sum(states.get(state, 0) for state in ENDED_BADLY),
                stored.get(name),
                last_of(session, ECHOED, name),
                isinstance(one, DicomDestination),
            )
        )
    return found


def _where(one: Any) -> str:
    if isinstance(one, DicomDestination):
        return f"{one.ae_title} at {one.host}:{one.port}"
    return str(getattr(one, "url", "") or getattr(one, "host", ""))


def throughput(by_hour: list[int]) -> Markup:
    """Draw how many analyses ended in each hour, the last one at the right."""
    ticks = nice(max(by_hour))
    axes = Axes(
        (0, len(by_hour)),
        (0, ticks[-1]),
        ((0, "24 h ago"), (len(by_hour) / 2, "12 h ago"), (len(by_hour), "now")),
        [(tick, f"{tick:.0f}") for tick in ticks],
    )
    says = [f"{count} studies, {len(by_hour) - index} h ago" for index, count in enumerate(by_hour)]
    told = f"{sum(by_hour)} studies analysed in {len(by_hour)} hours, at most {max(by_hour)} in one."
    return bars([float(count) for count in by_hour], axes, told, says)
