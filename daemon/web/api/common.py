"""What the routes of the REST interface have in common."""

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.api.routing import ApiRoute
from daemon.web.uids import UID_PATTERN
from db.models import AnalysisState, Study, StudyState
from db.paging import LIMIT, MOST, Found, Page
from db.queries import get_study
from db.search import Search
from lungnode.errors import UnusableError

PREFIX: Final = "/api/v1"
BODY: Final = 1_000_000  # bytes of a JSON document
T = TypeVar("T")
Uid = Annotated[str, Path(pattern=UID_PATTERN, max_length=64, description="Study Instance UID")]
SopUid = Annotated[str, Path(pattern=UID_PATTERN, max_length=64, description="SOP Instance UID")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="its number")]
# NUL is what no database takes.
Text = Annotated[str, Query(max_length=255, pattern=r"^[^\x00]*$")]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("The year has to be from 1 to 9999, in UTC as well.") from error


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Document(BaseModel):
    """Read from a row, attribute by attribute."""

    model_config = ConfigDict(from_attributes=True)


class Given(BaseModel):
    """What a request holds; a name that we do not know is an error."""

    model_config = ConfigDict(extra="forbid")


def router(tag: str) -> APIRouter:
    """Return a router of the REST interface."""
    return APIRouter(prefix=PREFIX, route_class=ApiRoute, tags=[tag], max_body_size=BODY)


def page_of(
    after: Annotated[Text, Query(description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST, description="rows of a page, at most")] = LIMIT,
) -> Page:
    """Return the page that is asked for."""
    return Page(after, limit)


Paged = Annotated[Page, Depends(page_of)]


@dataclass(frozen=True)
class Searched:
    """Which studies; without a parameter, all."""

    study_instance_uid: Text = ""
    patient: Annotated[
        Text, Query(description="how name or Patient ID begin; with * or ? a pattern of all of it")
    ] = ""
    accession_number: Text = ""
    study_date_from: date | None = None
    study_date_to: date | None = None
    state: StudyState | None = None
    analysis: Annotated[AnalysisState | None, Query(description="state of the last analysis")] = None
    verdict: Annotated[Text, Query(description="of the last analysis")] = ""
    completeness: Annotated[Text, Query(description="complete, quiet or incomplete")] = ""
    source: Annotated[Text, Query(description="calling AE title")] = ""
    model: Annotated[Text, Query(description="of the last analysis")] = ""

    def search(self) -> Search:
        """Return it as the database is asked."""
        return Search(
            study_instance_uid=self.study_instance_uid,
            patient=self.patient,
            accession_number=self.accession_number,
            first_date=f"{self.study_date_from:%Y%m%d}" if self.study_date_from else "",
            last_date=f"{self.study_date_to:%Y%m%d}" if self.study_date_to else "",
            state=self.state or "",
            last_state=self.analysis or "",
            verdict=self.verdict,
            completeness=self.completeness,
            source=self.source,
            model=self.model,
        )

    def named(self) -> list[str]:
        """Return which parameters are used: the audit tells them, their values may name a patient."""
        return sorted(name for name, value in asdict(self).items() if value)


Wanted = Annotated[Searched, Depends()]


def link_next(request: Request, response: Response, found: Found[T]) -> str:
    """Say where the next page is, also as a Link header; empty when there is none."""
    if found.next:
        address = request.url.include_query_params(after=found.next)
        response.headers["Link"] = f'<{address.path}?{address.query}>; rel="next"'
    return found.next


def study_of(session: Session, study_instance_uid: str) -> Study:
    """Return a study with its analyses.

    Raises:
        HTTPException: There is none.
    """
    try:
        return get_study(session, study_instance_uid)
    except UnusableError as error:
        raise HTTPException(404, str(error)) from error
