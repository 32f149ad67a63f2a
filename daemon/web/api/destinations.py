"""REST: the systems that results go to."""

from datetime import datetime
from typing import Annotated, Final

from fastapi import Path
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from daemon.web.access import Operator
from daemon.web.api.common import router
from daemon.web.audited import writing
from daemon.web.node import Node
from db import audit
from lungnode.audit import events
from lungnode.audit.events import Happening
from lungnode.audit.message import Outcome
from lungnode.errors import LungnodeError
from lungnode.settings import DicomDestination

api = router("destinations")
ECHOED: Final = "destination asked"
_LONGEST_S: Final = 10.0  # somebody waits for the answer
Name = Annotated[str, Path(max_length=255, pattern=r"^[^\x00-\x1f]+$", description="as in the settings")]


class EchoDocument(BaseModel):
    """What a destination answered."""

    destination: str
    answered: bool
    reason: str = Field(description="why it did not; empty when it did")
    at: datetime


@api.post("/destinations/{name}/echo")
def echo(name: Name, node: Node, caller: Operator) -> EchoDocument:
    """Ask a DICOM destination whether it answers (C-ECHO); nothing is sent to it."""
    destination = next((each for each in node.settings.destinations if each.name == name), None)
    if destination is None:
        raise HTTPException(404, f"There is no destination {name}.")
    if not isinstance(destination, DicomDestination):
        raise HTTPException(409, f"{name} is not asked by C-ECHO; lungnode check asks it in its own way.")
    reason = _ask(destination, destination.calling_ae_title or node.settings.receiver.ae_title)
    now, outcome = node.clock(), Outcome.MINOR_FAILURE if reason else Outcome.SUCCESS
    with writing(node, caller) as session:
        happened = Happening(ECHOED, name, now, events.requestor(), outcome, reason)
        audit.note(session, happened, answered=not reason, reason=reason)
    return EchoDocument(destination=name, answered=not reason, reason=reason, at=now)


def _ask(destination: DicomDestination, calling_ae_title: str) -> str:
    """Return why it does not answer; empty when it does."""
    from lungnode.scu.association import echo as c_echo  # noqa: PLC0415 - pynetdicom, and only here

    limit_s = min(destination.timeout_s, _LONGEST_S)
    try:
        c_echo(destination.model_copy(update={"timeout_s": limit_s}), calling_ae_title)
    except LungnodeError as error:
        return f"{error} {error.advice}".strip()
    return ""
