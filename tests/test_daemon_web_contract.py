"""What a fuzzer sends, to REST by its document and to DICOMweb and the pages by the types of their routes."""

import base64
import copy
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from sqlalchemy import func, select

from benchmarks.generated import fill
from daemon.web.app import ROUTERS
from daemon.web.permissions import Permission
from db.models import Label
from db.search import Order
from db.session import open_engine, reading
from tests.databases import copied
from tests.spooling import ClerkNode, slices
from tests.web import Web

API: Final = "/api/v1"
_SKIPPED: Final = (
    *("/promotion", "/rollback"),  # they begin processes
    *("/tokens/{number}", "/sign-out"),  # which might revoke what we show
    "/health/live/{role}",  # without a node all of them are away, and 503 says so
    "/health/ready/{role}",
)
STUDY: Final = "1.2.3.4"
_HELD: Final[dict[str, Any]] = {
    **{"study": STUDY, "series": f"{STUDY}.1", "instance": f"{STUDY}.1.2"},
    **{"study_instance_uid": "1.2.840.99999.2", "number": 1, "name": "viewer"},
}
# What DICOMweb reads from the address by itself: PS3.18 8.3.4 and 8.3.5.
_QUERIES: Final = (
    "PatientName",
    "StudyDate",
    "0020000D",
    "limit",
    "offset",
    "includefield",
    "fuzzymatching",
    "accept",
)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, template: str) -> Iterator[Web]:
    """A web with generated rows, and a study whose files are there; PostgreSQL takes less than SQLite."""
    with copied(template) as url:
        engine = open_engine(url)
        fill(engine, 40)
        web = Web(engine, tmp_path_factory.mktemp("contract"))
        ClerkNode(engine, web.node.settings).receive(*slices(range(1, 4), STUDY))
        yield web
        engine.dispose()


def operations(schema: Any) -> Iterator[Any]:
    for found in schema.get_all_operations():
        operation = found.ok()  # an error would fail the test, as it should
        if not operation.path.endswith(_SKIPPED):
            yield operation


def fuzz(cases: Any, examples: int, check: Any) -> None:
    """Check so many requests, the same ones each time."""

    @given(case=cases)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def call(case: Any) -> None:
        check(case)

    call()


def with_what_is_held(case: Any) -> dict[str, Any]:
    """Return the parameters of a case's path, with the names of what there is where we know one."""
    return {name: _HELD.get(name, value) for name, value in (case.path_parameters or {}).items()}


def test_no_request_that_the_document_allows_or_forbids_is_answered_otherwise_than_it_says(web: Web) -> None:
    shown = {"Authorization": f"Bearer {web.token('admin', *Permission, days=300)}"}
    schema = schemathesis.openapi.from_asgi(f"{API}/openapi.json", web.app)

    def check(case: Any) -> None:
        case.headers.pop("Idempotency-Key", None)
        case.call_and_validate(headers=shown)

    called = list(operations(schema))
    for operation in called:
        fuzz(operation.as_strategy(), 5, check)

    assert len(called) > 25


def test_no_request_about_what_there_is_is_answered_otherwise_than_the_document_says(web: Web) -> None:
    shown = {"Authorization": f"Bearer {web.token('admin', *Permission, days=300)}"}
    schema = schemathesis.openapi.from_asgi(f"{API}/openapi.json", web.app)

    def check(case: Any) -> None:
        case.path_parameters = with_what_is_held(case)
        case.headers.pop("Idempotency-Key", None)
        case.call_and_validate(headers=shown)

    called = [each for each in operations(schema) if "{" in each.path]
    for operation in called:
        fuzz(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), 4, check)

    assert len(called) > 10
    with reading(web.engine) as session:
        assert session.scalar(select(func.count(Label.id)))


def described() -> dict[str, Any]:
    """Describe the routes that are in no document, as FastAPI reads them from their functions."""
    routes = []
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and not route.include_in_schema:
                shown = copy.copy(route)
                shown.include_in_schema = True
                routes.append(shown)
    document = get_openapi(title="What is in no document", version="1", routes=routes)
    queries = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _QUERIES]
    accept = {"name": "Accept", "in": "header", "schema": {"type": "string"}}
    for path, item in document["paths"].items():
        for operation in item.values():
            if path.startswith("/dicomweb"):
                operation.setdefault("parameters", []).extend([*queries, accept])
    return document


def test_no_request_to_dicomweb_or_a_page_fails_unexpectedly(web: Web) -> None:
    shown = {"Authorization": f"Bearer {web.token('admin', *Permission, days=300)}"}
    schema = schemathesis.openapi.from_dict(described())
    schema.app = web.app
    seen: dict[str, set[int]] = {}

    def check(case: Any) -> None:
        case.path_parameters = with_what_is_held(case)
        answer = case.call(headers=shown)
        seen.setdefault(case.operation.label, set()).add(answer.status_code)
        assert answer.status_code < 500, case.as_curl_command()

    for operation in operations(schema):
        fuzz(operation.as_strategy(), 5, check)

    assert len(seen) > 30
    found = "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/metadata"
    assert 404 not in seen[found]


@pytest.mark.parametrize(
    "place",
    [
        *(
            '["0001-01-01T00:00:00+14:00", 1]',
            '["9999-12-31T23:59:59-14:00", 1]',
            '["2020-01-01T00:00:00Z", 1e999]',
        ),
        *(
            '["x", 99999999999999999999]',
            '["a\\u0000b", 1]',
            '["\\ud800", 1]',
            "[[], {}]",
            "[1]",
            "null",
            "nothing",
        ),
        *("[NaN, 1]", "[1e999, 1]", "[0.5, 1e999]", "[10000000000000000000000, 2]"),
    ],
)
def test_a_place_in_a_list_that_nobody_gave_out_is_refused_or_is_some_place(web: Web, place: str) -> None:
    program = web.program("admin", *Permission)
    lists = [f"{API}/{name}?" for name in ("results", "deliveries", "labels", "audit")]
    lists += [f"{path}?order={order}&" for path in (f"{API}/studies", "/") for order in Order]
    after = base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")

    answers = {path: program.get(f"{path}after={after}").status_code for path in lists}

    assert {path: status for path, status in answers.items() if status not in (200, 409)} == {}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("studies?PatientName=%00", 400),
        ("studies/1.2.3.4/series?Modality=%00", 400),
        ("studies?%E2%98%83=1", 200),
        ("studies?%0D%0AX-Evil:%201=1", 200),
        ("studies?ffffffffffff=1", 200),
        ("studies?%D9%A1%D9%A2=1", 200),
        ("studies?" + "a" * 3000 + "=1", 200),
        ("studies?limit=99999999999999999999&offset=99999999999999999999", 204),
    ],
)
def test_a_search_for_what_no_attribute_is_or_holds_is_answered(web: Web, query: str, status: int) -> None:
    answer = web.program("viewer", "view").get(f"/dicomweb/{query}")

    assert answer.status_code == status
    assert "\n" not in answer.headers.get("warning", "")


def test_a_moment_that_no_calendar_has_in_utc_is_a_wrong_parameter(web: Web) -> None:
    program = web.program("admin", *Permission)
    asked = [f"{name}?since=0001-01-01T00:00:00%2B14:00" for name in ("results", "results.csv", "audit")]

    assert [program.get(f"{API}/{each}").status_code for each in asked] == [422, 422, 422]


def test_a_name_that_no_database_takes_signs_nobody_in(web: Web) -> None:
    assert web.browser().sign_in("a\0b").status_code == 422
