"""Page: the table of studies."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Viewer
from daemon.web.api.common import Searched, Text, Wanted
from daemon.web.audited import note_look
from daemon.web.node import Node
from daemon.web.pages.addresses import Address, Tidy
from daemon.web.pages.stages import Mark, deliveries_mark, stage_of
from daemon.web.rendering import render
from daemon.web.wording import VERDICTS
from db.deliveries import delivery_states
from db.models import AnalysisState, Study, StudyState
from db.search import Order, Step, StudyRow, browse_studies, count_studies, values_of
from db.session import reading

router = APIRouter(include_in_schema=False)
MOST_COUNTED: Final = 1_000  # a page must not wait for the number of all studies of many years
COMPLETENESS: Final = ("complete", "quiet", "incomplete")
# What a parameter is called on the page.
NAMES: Final = {
    "study_instance_uid": "Study UID",
    "patient": "Patient",
    "accession_number": "Accession number",
    "study_date_from": "From",
    "study_date_to": "To",
    "state": "State",
    "analysis": "Analysis",
    "verdict": "Verdict",
    "completeness": "Completeness",
    "source": "Source",
    "model": "Model",
}
# Column of the table, its order, and whether the smallest comes first when it is chosen.
SORTED: Final = (
    ("Patient", Order.PATIENT, True),
    ("Study date", Order.STUDY_DATE, False),
    ("Probability", Order.PROBABILITY, False),
    ("Changed", Order.CHANGED, False),
)


@dataclass(frozen=True)
class Line:
    """A study in the table."""

    row: StudyRow
    stage: Mark
    sent: Mark | None


@dataclass(frozen=True)
class Heading:
    """The heading of a column that the table can be sorted by."""

    name: str
    address: str
    sorted: str  # ascending or descending; empty: by another column


@router.get("/", name="studies")
def show(  # noqa: PLR0913, PLR0917 - one parameter a dependency
    request: Request,
    address: Tidy,
    node: Node,
    caller: Viewer,
    wanted: Wanted,
    order: Order = Order.CHANGED,
    ascending: bool = False,
    after: Text = "",
    before: Text = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """Show a page of the studies that are asked for."""
    search, step = wanted.search(), Step(after, before, limit, not ascending)
    with reading(node.engine) as session:
        found = browse_studies(session, search, step, order)
        count = count_studies(session, search, MOST_COUNTED)
        ids = [row.analysis.id for row in found.rows if row.analysis]
        sent = delivery_states(session, ids)
        sources, models = values_of(session, Study.calling_ae_title), values_of(session, Study.last_model)
    note_look(node, caller, "studies listed", "studies", filters=wanted.named())
    values = {
        "lines": [_line(row, sent) for row in found.rows],
        "count": min(count, MOST_COUNTED),
        "are_more": count > MOST_COUNTED,
        "headings": {name: _heading(address, name, of, order, ascending) for name, of, _ in SORTED},
        "filters": _filters(address, wanted),
        "asked": wanted,
        "order": order,
        "ascending": ascending,
        "query": address.query(),
        "previous": address.having(before=found.before) if found.before else "",
        "following": address.having(after=found.after) if found.after else "",
        "choices": {
            "verdict": VERDICTS,
            "analysis": {each: each.replace("_", " ") for each in AnalysisState},
            "state": {each: each for each in StudyState},
            "completeness": {each: each for each in COMPLETENESS},
            "source": {each: each for each in sources},
            "model": {each: each for each in models},
        },
    }
    return render(request, "studies.html", values)


def _line(row: StudyRow, sent: dict[int, Counter[str]]) -> Line:
    states = sent.get(row.analysis.id, Counter()) if row.analysis else Counter[str]()
    return Line(row, stage_of(row.study, row.analysis), deliveries_mark(states))


def _heading(address: Address, name: str, of: Order, order: Order, ascending: bool) -> Heading:
    first = next(starts for _, each, starts in SORTED if each is of)
    turned = not ascending if of is order else first
    where = address.having(order=of, ascending=turned)
    return Heading(name, where, ("ascending" if ascending else "descending") if of is order else "")


def _filters(address: Address, wanted: Searched) -> list[tuple[str, str, str]]:
    """Return name, value and the address without it of each filter that is set."""
    given = {name: str(value) for name, value in asdict(wanted).items() if value}
    return [(NAMES[name], value, address.without(name, value)) for name, value in given.items()]
