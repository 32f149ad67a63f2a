"""Page: who did what, and whether the trail is whole."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Administrator
from daemon.web.api.audit import VERIFICATION
from daemon.web.api.common import Text
from daemon.web.audited import note_look
from daemon.web.node import Node
from daemon.web.pages.addresses import Tidy
from daemon.web.pages.stages import Mark
from daemon.web.rendering import render
from db.audit_chain import state
from db.audit_trail import Wanted
from db.jobs import last_jobs
from db.listings import page_of_events
from db.models import AuditEvent
from db.paging import Page
from db.session import reading
from lungnode.audit.events import EVENTS, About, event_of
from lungnode.audit.message import Outcome

router = APIRouter(include_in_schema=False)
_LAST = date.max - timedelta(days=1)
_OUTCOMES = {Outcome.SUCCESS: Mark("good", "done"), Outcome.MINOR_FAILURE: Mark("warn", "failed")}


@dataclass(frozen=True)
class Filters:
    """What the form holds; days are UTC's, both of them included."""

    since: date | None = None
    until: date | None = None
    action: Text = ""
    actor: Text = ""
    subject: Text = ""
    failed: bool = False

    def wanted(self) -> Wanted:
        """Return it as the database is asked."""
        until = min(self.until, _LAST) + timedelta(days=1) if self.until else None
        return Wanted(
            _midnight(self.since), _midnight(until), self.action, self.actor, self.subject, self.failed
        )


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None


@dataclass(frozen=True)
class Row:
    """One event in the table."""

    event: AuditEvent
    outcome: Mark
    is_study: bool
    told: str


@router.get("/audit", name="audit")
def show(
    request: Request,
    address: Tidy,
    node: Node,
    caller: Administrator,
    asked: Annotated[Filters, Depends()],
    after: Text = "",
) -> Response:
    """Show a page of the events that are asked for."""
    wanted = asked.wanted()
    with reading(node.engine) as session:
        found = page_of_events(session, wanted, Page(after))
        batch, waiting = state(session)
        checks = last_jobs(session, VERIFICATION, 1)
    filters = wanted.named()
    note_look(node, caller, "audit trail read", "audit", filters=filters)
    values: dict[str, Any] = {
        "rows": [_row(event) for event in found.rows],
        "asked": asked,
        "actions": sorted({*EVENTS, *filter(None, [asked.action])}),
        "is_filtered": bool(filters),
        "newest": address.having() if after else "",
        "following": address.having(after=found.next) if found.next else "",
        "export": urlencode(_exported(wanted)),
        "batch": batch,
        "waiting": waiting,
        "check": next(iter(checks), None),
    }
    return render(request, "audit.html", values)


def _exported(wanted: Wanted) -> list[tuple[str, str]]:
    """Return what the export is asked with."""
    return [
        (name, value.isoformat() if isinstance(value, datetime) else str(value))
        for name, value in vars(wanted).items()
        if value
    ]


def _row(event: AuditEvent) -> Row:
    outcome = _OUTCOMES.get(Outcome(event.outcome), Mark("bad", "failed"))
    told = ", ".join(
        f"{name} {_text(value)}" for name, value in event.details.items() if value not in ("", [], {})
    )
    return Row(event, outcome, event_of(event.action).about is About.STUDY, told)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
