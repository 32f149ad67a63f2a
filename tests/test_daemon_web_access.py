import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from daemon.web.access import check_of
from daemon.web.app import ROUTERS, make_app
from daemon.web.permissions import Permission
from lungnode.settings import WebSettings
from tests.web import Web, new_web

# Every route, and what it takes. A route that is not here fails the test.
PUBLIC = {
    "GET /static/{version}/{name:path}",
    "GET /health/live",
    "GET /health/ready",
    "GET /health/live/{role}",
    "GET /health/ready/{role}",
    "GET /metrics",  # unless web.open_metrics, it looks by itself
    "GET /sign-in",
    "POST /sign-in",
    "GET /oidc/start",
    "GET /oidc/callback",
    "GET /api/v1/openapi.json",
}
NEEDS = {
    "POST /sign-out": "view",
    "GET /": "view",
    "GET /studies/{study_instance_uid}": "view",
    "GET /studies/{study_instance_uid}/revisions/{number}/heatmaps/{place}.png": "view",
    "GET /studies/{study_instance_uid}/revisions/{number}/report": "view",
    "GET /models": "view",
    "GET /upload": "upload",
    "GET /upload/{key}": "upload",
    "GET /operations": "operate",
    "GET /audit": "administer",
    "GET /users": "administer",
    "GET /users/{name}": "administer",
    "GET /account": "view",
    "PUT /api/v1/account/password": "view",
    "GET /api/v1/audit.jsonl": "administer",
    "POST /api/v1/audit/verification": "administer",
    "GET /api/v1/studies": "view",
    "GET /api/v1/studies/count": "view",
    "GET /api/v1/studies/{study_instance_uid}": "view",
    "POST /api/v1/studies/{study_instance_uid}/reanalysis": "operate",
    "PUT /api/v1/studies/{study_instance_uid}/feedback": "judge",
    "POST /api/v1/studies/{study_instance_uid}/corrected-report": "judge",
    "POST /api/v1/studies/{study_instance_uid}/labels": "judge",
    "GET /api/v1/labels": "view",
    "GET /api/v1/results": "view",
    "GET /api/v1/results.csv": "view",
    "GET /api/v1/results.parquet": "view",
    "GET /api/v1/deliveries": "view",
    "GET /api/v1/deliveries/{number}": "view",
    "POST /api/v1/deliveries/{number}/retry": "operate",
    "POST /api/v1/deliveries/retry": "operate",
    "POST /api/v1/destinations/{name}/echo": "operate",
    "GET /api/v1/models": "view",
    "GET /api/v1/models/{model}": "view",
    "POST /api/v1/models/{model}/promotion": "operate",
    "POST /api/v1/models/rollback": "operate",
    "PUT /api/v1/models/shadow/{model}": "operate",
    "DELETE /api/v1/models/shadow": "operate",
    "GET /api/v1/jobs/{number}": "operate",
    "GET /api/v1/accounts": "administer",
    "POST /api/v1/accounts": "administer",
    "PATCH /api/v1/accounts/{name}": "administer",
    "DELETE /api/v1/accounts/{name}/sessions": "administer",
    "POST /api/v1/accounts/{name}/tokens": "administer",
    "GET /api/v1/tokens": "administer",
    "DELETE /api/v1/tokens/{number}": "administer",
    "GET /api/v1/audit": "administer",
    "POST /api/v1/uploads": "upload",
    "GET /api/v1/uploads": "upload",
    "GET /api/v1/uploads/{key}": "upload",
    "DELETE /api/v1/uploads/{key}": "upload",
    "PUT /api/v1/uploads/{key}/kept": "upload",
    "GET /api/v1/uploads/{key}/heatmaps/{picture}": "upload",
    "GET /dicomweb/studies": "view",
    "GET /dicomweb/series": "view",
    "GET /dicomweb/studies/{study}/series": "view",
    "GET /dicomweb/instances": "view",
    "GET /dicomweb/studies/{study}/instances": "view",
    "GET /dicomweb/studies/{study}/series/{series}/instances": "view",
    "GET /dicomweb/studies/{study}": "view",
    "GET /dicomweb/studies/{study}/series/{series}": "view",
    "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}": "view",
    "GET /dicomweb/studies/{study}/metadata": "view",
    "GET /dicomweb/studies/{study}/series/{series}/metadata": "view",
    "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/metadata": "view",
    "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/{frames}": "view",
    "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path:path}": "view",
    "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/rendered": "view",
    "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/{frame}/rendered": "view",
    "GET /dicomweb/studies/{study}/thumbnail": "view",
    "GET /dicomweb/studies/{study}/series/{series}/thumbnail": "view",
    "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/thumbnail": "view",
    "POST /dicomweb/studies": "store",
    "POST /dicomweb/studies/{study}": "store",
    "GET /api/v1/studies/{study_instance_uid}/outputs/{sop_instance_uid}": "view",
    "GET /api/v1/studies/{study_instance_uid}/outputs/{sop_instance_uid}/image": "view",
}
TEMPLATES = Path("daemon/web/templates")
EXAMPLES = {"study_instance_uid": "1.2.3", "number": "1", "model": "none", "name": "nobody"}
EXAMPLES |= {"study": "1.2.3", "series": "1.2", "instance": "1.1", "sop_instance_uid": "1.1"}
EXAMPLES |= {"key": "0" * 32, "picture": "0001-0001.png"}
EXAMPLES |= {"frames": "1", "frame": "1", "path": "1", "place": "1"}
ROLES = {
    "viewer": {"view"},
    "reader": {"view", "judge", "upload", "store"},
    "admin": {str(each) for each in Permission},
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with new_web(tmp_path_factory.mktemp("web")) as web:
        yield web


def routes() -> dict[str, APIRoute]:
    found = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {f"{method} {route.path}": route for route in found for method in route.methods or ()}


def needed(route: APIRoute) -> str:
    """What the route's dependency asks for; empty without one."""
    return str(getattr(check_of(route.dependant), "permission", ""))


def test_every_route_takes_what_the_table_says(web: Web) -> None:
    assert len(web.app.routes) == len(ROUTERS)
    assert {name: needed(route) for name, route in routes().items()} == dict.fromkeys(PUBLIC, "") | NEEDS


def answers(client: TestClient, **headers: str) -> dict[str, int]:
    """The status of every route that needs somebody; of a web route that takes a body, with an empty one."""
    found = {}
    for name in sorted(NEEDS, key=lambda name: name == "POST /sign-out"):
        method, path = name.split()
        content = b"" if method == "GET" else b"{}"
        asked = path.replace(":path", "").format(**EXAMPLES)
        sent = {"Content-Type": "application/json"} | headers
        found[name] = client.request(method, asked, content=content, headers=sent).status_code
    return found


def let_in(found: dict[str, int]) -> set[str]:
    return {name for name, status in found.items() if status not in (303, 401, 403)}


def allowed(permissions: set[str]) -> set[str]:
    return {name for name, permission in NEEDS.items() if permission in permissions}


def test_nobody_who_is_not_signed_in_reaches_anything(web: Web) -> None:
    found = answers(web.browser().client)

    assert {name for name, status in found.items() if status not in (303, 401)} == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reaches_what_is_its_own_and_nothing_else(web: Web, role: str) -> None:
    browser = web.browser(role)

    found = answers(browser.client, **{"X-CSRF-Token": browser.csrf_token()})

    assert let_in(found) | {"POST /sign-out"} == allowed(ROLES[role])


@pytest.mark.parametrize("scope", Permission)
def test_a_token_reaches_what_its_scope_says_and_nothing_else(web: Web, scope: Permission) -> None:
    found = answers(web.program("admin", scope))

    assert let_in(found) | {"POST /sign-out"} == allowed({scope}) | {"POST /sign-out"}


def test_without_the_pages_token_a_cookie_changes_nothing(web: Web) -> None:
    found = answers(web.browser("admin").client)

    assert {name for name in let_in(found) if not name.startswith("GET ")} == set()


def test_a_token_reaches_what_its_scopes_and_its_accounts_role_have_in_common(web: Web) -> None:
    narrow, wide = web.program("admin", "upload"), web.program("viewer", *Permission)

    assert [narrow.get(path).status_code for path in ("/upload", "/models")] == [200, 403]
    assert [wide.get(path).status_code for path in ("/upload", "/models")] == [403, 200]


def test_a_token_that_expired_was_revoked_or_never_was_opens_nothing(web: Web) -> None:
    program = web.program("admin", *Permission)
    assert program.get("/models").status_code == 200
    web.clock.pass_s(86_401)

    assert let_in(answers(program)) == set()
    assert web.browser().get("/models", headers={"Authorization": "Bearer lungnode_x"}).status_code == 303


def test_pages_allow_no_other_host_no_frame_and_are_not_kept(web: Web) -> None:
    answer = web.browser("admin").get("/")

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in answer.headers


def test_a_viewer_of_another_site_is_let_in_by_name_and_without_cookies(web: Web) -> None:
    settings = web.node.settings.model_copy(
        update={"web": WebSettings(cors_origins=("https://ohif.example",))}
    )
    app = make_app(type(web.node)(settings, web.engine, web.clock))
    client = TestClient(app, cookies=dict(web.browser("viewer").client.cookies))
    asked = {"Origin": "https://ohif.example", "Access-Control-Request-Method": "GET"}

    allowed = client.options("/dicomweb/studies", headers=asked)
    other = client.options("/dicomweb/studies", headers=asked | {"Origin": "https://evil.example"})

    assert allowed.headers["access-control-allow-origin"] == "https://ohif.example"
    assert "access-control-allow-credentials" not in allowed.headers
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in web.browser("viewer").get("/models", headers=asked).headers


def test_a_body_is_held_to_a_megabyte_before_it_is_known_who_sends_it(web: Web) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    client = web.browser().client

    answers = [
        client.post("/sign-in", content=b"name=" + b"x" * 2_000_000, headers=form),
        client.post("/sign-out", content=b"x" * 2_000_000, headers=form),
        web.program("admin", "administer").post("/api/v1/accounts", content=b"x" * 2_000_000),
    ]

    assert [answer.status_code for answer in answers] == [413, 413, 413]


def test_static_files_have_names_that_change_with_them_and_nothing_else_is_served(web: Web) -> None:
    browser = web.browser()
    page = browser.get("/sign-in").text
    address = page.split('rel="stylesheet" href="')[1].split('"')[0]

    style = browser.get(address)

    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert style.headers["cache-control"] == "public, max-age=31536000, immutable"
    for path in (
        "/static/lungnode.css",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
    ):
        assert browser.get(f"/static/{path}").status_code == 404


def test_no_page_has_a_script_or_a_style_of_its_own() -> None:
    for path in TEMPLATES.rglob("*.html"):
        text = re.sub(r'<script( type="module")? src="[^"]+"></script>', "", path.read_text())
        assert "<script" not in text, path
        assert "<style" not in text, path
        assert " style=" not in text, path
        assert not re.search(r"\son\w+=", text), path


def test_no_form_for_scripts_is_sent_before_they_are_there() -> None:
    pages = "".join(path.read_text() for path in TEMPLATES.rglob("*.html"))
    forms = [form for form in re.findall("<form[^>]*>", pages) if "data-send=" in form]

    assert forms
    assert [form for form in forms if 'method="dialog"' not in form] == []


def test_what_goes_wrong_is_a_page_for_people_and_a_problem_for_programs(web: Web) -> None:
    browser = web.browser("viewer")

    page, problem = browser.get("/nowhere"), browser.get("/api/nowhere")

    assert (page.status_code, "<h1>Not Found</h1>" in page.text) == (404, True)
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Not Found",
    }


def test_a_page_that_renews_itself_keeps_no_session_alive(web: Web) -> None:
    browser = web.browser("viewer")
    for _ in range(4):
        web.clock.pass_s(600)
        poll = browser.get("/", headers={"Lungnode-Poll": "1"})

    assert (poll.status_code, poll.headers["location"]) == (303, "/sign-in?next=%2F")


def test_what_a_form_left_empty_is_not_in_the_address(web: Web) -> None:
    answer = web.browser("viewer").get("/?patient=mull&verdict=&study_date_from=&model=")

    assert (answer.status_code, answer.headers["location"]) == (303, "/?patient=mull")


@pytest.mark.parametrize(
    "path", ["/", "/upload", "/operations", "/models", "/models?weeks=48", "/audit", "/users"]
)
def test_every_page_opens_on_a_node_that_has_done_nothing_yet(web: Web, path: str) -> None:
    assert web.browser("admin").get(path).status_code == 200


def test_ones_password_is_changed_in_a_session_alone_and_guesses_are_counted(web: Web) -> None:
    wanted = {"current": "not the right one", "new": "a long enough one"}
    address, browser = "/api/v1/account/password", web.browser("reader", address="192.0.2.9")

    token = web.program("reader", "view").put(address, json=wanted)
    guesses = [browser.send("PUT", address, json=wanted).status_code for _ in range(7)]

    assert (token.status_code, "not by a token" in token.json()["detail"]) == (403, True)
    assert guesses[:5] + guesses[-1:] == [403] * 5 + [429]


def test_a_destination_that_is_not_set_is_not_asked(web: Web) -> None:
    answer = web.browser("admin").send("POST", "/api/v1/destinations/PACS/echo")

    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no destination PACS.")
