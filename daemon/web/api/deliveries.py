"""REST: results on their way to their destinations."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Operator, Viewer
from daemon.web.api.common import Given, Number, Paged, Text, link_next, router
from daemon.web.api.documents import DeliveryDocument
from daemon.web.audited import writing
from daemon.web.node import Node
from db.deliveries import ENDED_BADLY, retry
from db.listings import DeliveryFilter, page_of_deliveries
from db.models import Delivery, DeliveryState
from db.session import reading

api = router("deliveries")
_AT_ONCE = 5_000


class DeliveryList(BaseModel):
    """A page of deliveries."""

    deliveries: list[DeliveryDocument]
    next: str


class Retried(BaseModel):
    """How many are sent again."""

    deliveries: int


class AllOfOne(Given):
    """Which deliveries."""

    destination: str = Field(max_length=255, pattern=r"^[^\x00]*$", description="all to this one")


@api.get("/deliveries")
def list_deliveries(  # noqa: PLR0913, PLR0917 - one parameter a dependency
    request: Request,
    response: Response,
    node: Node,
    _caller: Viewer,
    page: Paged,
    state: Annotated[list[DeliveryState], Query(description="one of these; again for more")] = [],  # noqa: B006 - FastAPI copies it
    destination: Text = "",
    study_instance_uid: Text = "",
) -> DeliveryList:
    """List deliveries, the newest first."""
    wanted = DeliveryFilter(tuple(state), destination, study_instance_uid)
    with reading(node.engine) as session:
        found = page_of_deliveries(session, wanted, page)
    rows = [DeliveryDocument.of(row) for row in found.rows]
    return DeliveryList(deliveries=rows, next=link_next(request, response, found))


@api.get("/deliveries/{number}")
def show(number: Number, node: Node, _caller: Viewer) -> DeliveryDocument:
    """Return one delivery."""
    with reading(node.engine) as session:
        return DeliveryDocument.of(_delivery(session, number))


@api.post("/deliveries/{number}/retry", status_code=202)
def again(number: Number, node: Node, caller: Operator) -> DeliveryDocument:
    """Send a refused or dead delivery again; what the peer stored is not sent again."""
    now = node.clock()
    with writing(node, caller) as session:
        row = _delivery(session, number)
        if not retry(session, [number], now):
            raise HTTPException(
                409, f"Delivery {number} is {row.state}: only refused and dead ones are retried."
            )
        session.flush()
        return DeliveryDocument.of(row)


@api.post("/deliveries/retry", status_code=202)
def all_again(of: AllOfOne, node: Node, caller: Operator) -> Retried:
    """Send what was refused by a destination, or is dead, again: the oldest 5,000 at once."""
    with writing(node, caller) as session:
        ids = select(Delivery.id).where(
            Delivery.state.in_(ENDED_BADLY), Delivery.destination == of.destination
        )
        found = session.scalars(ids.order_by(Delivery.id).limit(_AT_ONCE)).all()
        return Retried(deliveries=len(retry(session, found, node.clock())))


def _delivery(session: Session, number: int) -> Delivery:
    row = session.get(Delivery, number)
    if row is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    return row
