import csv
import io
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from benchmarks.generated import fill
from daemon.web.permissions import Permission
from db.models import AuditEvent, Delivery, RegisteredModel, Study
from db.registry import register
from db.session import reading, transaction
from lungnode.model_folder import SHIPPED_MODEL, describe_model
from tests.model_folders import variant
from tests.nodes import wait_for
from tests.web import PASSWORD, Browser, Web, new_web
from trainer.registry import keep_model

COUNT = 400
API = "/api/v1"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with new_web(tmp_path_factory.mktemp("web")) as web:
        fill(web.engine, COUNT)
        yield web


@pytest.fixture(scope="module")
def viewer(web: Web) -> TestClient:
    return web.program("viewer", "view", days=300)


@pytest.fixture(scope="module")
def admin(web: Web) -> TestClient:
    return web.program("admin", *Permission, days=300)


@pytest.fixture
def reader(web: Web) -> Browser:
    return web.browser("reader")


def a_study(web: Web, verdict: str, skip: int = 0) -> str:
    with reading(web.engine) as session:
        query = select(Study.study_instance_uid).where(Study.last_verdict == verdict).order_by(Study.id)
        return session.scalars(query.offset(skip)).first() or ""


def test_pages_that_are_followed_show_every_study_once(viewer: TestClient) -> None:
    address: str | None = f"{API}/studies?limit=150&order=patient&ascending=true"
    names: list[str] = []
    uids: set[str] = set()
    while address:
        answer = viewer.get(address)
        names += [study["patient_name"] for study in answer.json()["studies"]]
        uids |= {study["study_instance_uid"] for study in answer.json()["studies"]}
        address = answer.links.get("next", {}).get("url")

    assert (len(names), len(uids)) == (COUNT, COUNT)
    assert names[0] < names[-1]


def test_filters_narrow_the_list_and_its_count_alike(viewer: TestClient) -> None:
    for asked in (
        {"verdict": "positive"},
        {"source": "CT1", "completeness": "quiet"},
        {"patient": "mull"},
        {"study_date_from": "2021-01-03", "study_date_to": "2021-01-04"},
        {"analysis": "not_applicable", "state": "complete"},
    ):
        rows = viewer.get(f"{API}/studies", params=asked | {"limit": 500}).json()["studies"]
        count = viewer.get(f"{API}/studies/count", params=asked).json()["count"]
        assert 0 < len(rows) == count < COUNT


@pytest.mark.parametrize(
    "wrong",
    [
        "limit=0",
        "limit=5000",
        "order=name",
        "state=lost",
        "study_date_from=yesterday",
        "patient=%00",
    ],
)
def test_a_wrong_parameter_is_a_problem_that_names_it(viewer: TestClient, wrong: str) -> None:
    answer = viewer.get(f"{API}/studies?{wrong}")

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["where"] == f"query.{wrong.partition('=')[0]}"


def test_a_study_tells_all_that_is_known_of_it_and_who_looked(web: Web, viewer: TestClient) -> None:
    uid = a_study(web, "positive")

    study = viewer.get(f"{API}/studies/{uid}").json()
    viewer.get(f"{API}/studies/{uid}")

    assert study["study_instance_uid"] == uid
    assert [series["instances"] for series in study["series"]] == [3]
    (analysis,) = study["analyses"]
    assert analysis["verdict"] == "positive"
    assert [delivery["group"] for delivery in analysis["deliveries"]] == ["sr", "sc"]
    with reading(web.engine) as session:
        looked = (AuditEvent.action == "study viewed", AuditEvent.subject == uid)
        assert session.scalars(select(AuditEvent.actor).where(*looked)).all() == ["viewer"]


def test_an_unknown_study_is_not_found(viewer: TestClient) -> None:
    answer = viewer.get(f"{API}/studies/1.2.3")

    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no study 1.2.3.")


def test_a_document_that_the_caller_has_is_not_sent_again(web: Web, viewer: TestClient) -> None:
    address = f"{API}/studies/{a_study(web, 'negative')}"
    tag = viewer.get(address).headers["etag"]

    again = viewer.get(address, headers={"If-None-Match": f'"x", {tag}'})
    other = viewer.get(address, headers={"If-None-Match": '"x"'})

    assert (again.status_code, again.content, other.status_code) == (304, b"", 200)


def test_a_reader_who_disagrees_leaves_a_label_and_changes_no_result(web: Web, reader: Browser) -> None:
    uid = a_study(web, "positive", 1)
    address = f"{API}/studies/{uid}/feedback"

    first = reader.send("PUT", address, json={"agreement": "agree"})
    web.clock.pass_s(86_400)
    second = web.browser("reader").send(
        "PUT", address, json={"agreement": "disagree", "value": "negative", "remark": " vessel "}
    )

    assert (first.json()["value"], second.json()["value"], second.json()["remark"]) == (
        "positive",
        "negative",
        "vessel",
    )
    study = web.browser("viewer").get(f"{API}/studies/{uid}").json()
    assert [(row["reader"], row["agreement"]) for row in study["feedback"]] == [("reader", "disagree")]
    assert [(row["reader"], row["value"]) for row in study["labels"] if row["reader"] == "reader"] == [
        ("reader", "negative")
    ]
    assert study["analyses"][-1]["verdict"] == "positive"
    with reading(web.engine) as session:
        asked = (AuditEvent.action == "label set", AuditEvent.subject == uid)
        assert session.scalars(select(AuditEvent.actor).where(*asked)).all() == ["reader", "reader"]


@pytest.mark.parametrize(
    ("verdict", "said", "status"),
    [
        ("negative", {"agreement": "agree"}, 200),
        ("negative", {"agreement": "agree", "value": "positive"}, 409),
        ("negative", {"agreement": "disagree"}, 409),
        ("negative", {"agreement": "disagree", "value": "negative"}, 409),
        ("negative", {"agreement": "uncertain"}, 200),
        ("negative", {"agreement": "uncertain", "value": "positive"}, 409),
        ("undetermined", {"agreement": "agree"}, 409),
        ("undetermined", {"agreement": "disagree", "value": "positive"}, 200),
        ("", {"agreement": "agree"}, 409),
        ("negative", {"agreement": "perhaps"}, 422),
        ("negative", {"agreement": "agree", "vaule": "positive"}, 422),
    ],
)
def test_feedback_that_contradicts_itself_is_refused(
    web: Web, reader: Browser, verdict: str, said: dict[str, str], status: int
) -> None:
    address = f"{API}/studies/{a_study(web, verdict, 1 if verdict else 0)}/feedback"

    assert reader.send("PUT", address, json=said).status_code == status


def test_a_corrected_report_is_queued_for_who_disagrees_and_for_nobody_else(web: Web) -> None:
    uid = a_study(web, "positive", 3)
    feedback, corrected = f"{API}/studies/{uid}/feedback", f"{API}/studies/{uid}/corrected-report"
    reader, other = web.browser("reader"), web.browser("admin")
    told = {"agreement": "disagree", "value": "negative", "remark": "vessel"}

    silent = reader.send("POST", corrected)
    other.send("PUT", feedback, json={"agreement": "agree"})
    agreeing = other.send("POST", corrected)
    reader.send("PUT", feedback, json=told)
    queued = reader.send("POST", corrected)
    again = reader.send("POST", corrected)

    assert [answer.status_code for answer in (silent, agreeing, queued, again)] == [409, 409, 202, 409]
    assert "reader has not said that the last result" in silent.json()["detail"]
    analysis = web.browser("viewer").get(f"{API}/studies/{uid}").json()["analyses"][-1]
    assert (analysis["revision"], analysis["state"]) == (queued.json()["revision"], "queued")
    assert analysis["reading"] == {"reader": "reader", "value": "negative", "remark": "vessel"}
    with reading(web.engine) as session:
        asked = (AuditEvent.action == "report corrected", AuditEvent.subject == uid)
        (event,) = session.scalars(select(AuditEvent).where(*asked)).all()
    assert event.actor == "reader"
    assert "vessel" not in repr(event.details)


@pytest.mark.parametrize("verdict", ["", "not_applicable", "error"])
def test_what_has_no_finding_has_no_report_to_correct(web: Web, reader: Browser, verdict: str) -> None:
    address = f"{API}/studies/{a_study(web, verdict)}"
    reader.send("PUT", f"{address}/feedback", json={"agreement": "disagree", "value": "negative"})

    answer = reader.send("POST", f"{address}/corrected-report")

    assert answer.status_code == 409
    assert "no finding that a report could correct" in answer.json()["detail"]


def test_a_laboratorys_label_is_added_and_updated(web: Web, reader: Browser) -> None:
    address = f"{API}/studies/{a_study(web, 'negative', 2)}/labels"
    label = {"value": "positive", "source": "rt-pcr", "reader": "lab", "labelled_on": "2021-01-02"}

    added = reader.send("POST", address, json=label)
    updated = reader.send("POST", address, json=label | {"value": "negative"})

    assert (added.status_code, added.json()["value"], updated.json()["value"]) == (
        201,
        "positive",
        "negative",
    )
    listed = reader.get(f"{API}/labels", params={"study_instance_uid": address.split("/")[4]}).json()[
        "labels"
    ]
    assert [(row["source"], row["value"]) for row in listed if row["reader"] == "lab"] == [
        ("rt-pcr", "negative")
    ]


def test_a_dead_delivery_is_sent_again_and_a_stored_one_is_not(web: Web, admin: TestClient) -> None:
    with transaction(web.engine) as session:
        rows = session.scalars(select(Delivery).order_by(Delivery.id).limit(2)).all()
        rows[0].state, rows[1].state = "dead", "stored"
    numbers = [row.id for row in rows]

    listed = admin.get(f"{API}/deliveries", params={"state": ["dead", "refused"]}).json()["deliveries"]
    dead, stored = (admin.post(f"{API}/deliveries/{number}/retry") for number in numbers)

    assert numbers[0] in [row["id"] for row in listed]
    assert (dead.status_code, dead.json()["state"]) == (202, "pending")
    assert stored.status_code == 409


def test_the_tables_hold_every_result(web: Web, viewer: TestClient) -> None:
    plain = viewer.get(f"{API}/results.csv", params={"verdict": "positive"})
    columns = viewer.get(f"{API}/results.parquet", params={"verdict": "positive"})
    count = viewer.get(f"{API}/studies/count", params={"verdict": "positive"}).json()["count"]

    rows = list(csv.DictReader(io.StringIO(plain.text)))
    table = pq.read_table(io.BytesIO(columns.content)).to_pylist()
    assert plain.headers["lungnode-rows"] == str(count)
    assert plain.headers["content-disposition"].startswith('attachment; filename="results-')
    assert len(rows) == len(table) == count > 10
    assert [row["study_instance_uid"] for row in rows] == [row["study_instance_uid"] for row in table]
    assert [float(row["probability"]) for row in rows] == [row["probability"] for row in table]
    with reading(web.engine) as session:
        known = session.scalars(select(Study.last_probability).where(Study.last_verdict == "positive")).all()
    assert {row["probability"] for row in table} == set(known)


def test_a_spreadsheet_takes_no_value_for_a_formula(web: Web, viewer: TestClient) -> None:
    with transaction(web.engine) as session:
        study = session.scalars(select(Study).where(Study.last_verdict == "undetermined").limit(1)).one()
        study.patient_name = '=HYPERLINK("https://evil.example")'

    rows = viewer.get(f"{API}/results.csv", params={"verdict": "undetermined"}).text

    assert "'=HYPERLINK(" in rows


def test_accounts_and_tokens_are_looked_after(web: Web, admin: TestClient) -> None:
    admin.post(f"{API}/accounts", json={"name": "carol", "role": "reader", "password": PASSWORD})
    carol = web.browser("carol")
    refused = admin.post(f"{API}/accounts/carol/tokens", json={"name": "x", "scopes": ["administer"]})
    made = admin.post(f"{API}/accounts/carol/tokens", json={"name": "script", "scopes": ["view"]}).json()
    script = TestClient(web.app, headers={"Authorization": f"Bearer {made['secret']}"})

    assert refused.status_code == 409
    assert [carol.get(f"{API}/models").status_code, script.get(f"{API}/models").status_code] == [200, 200]
    assert admin.delete(f"{API}/tokens/{made['id']}").status_code == 204
    assert admin.patch(f"{API}/accounts/carol", json={"disabled": True}).json()["disabled_at"]
    assert [carol.get(f"{API}/models").status_code, script.get(f"{API}/models").status_code] == [401, 401]
    assert made["secret"] not in admin.get(f"{API}/tokens").text


def test_the_last_administrator_stays(admin: TestClient) -> None:
    for change in ({"role": "viewer"}, {"disabled": True}):
        answer = admin.patch(f"{API}/accounts/admin", json=change)
        assert (answer.status_code, "last administrator" in answer.json()["detail"]) == (409, True)


def test_the_audit_names_who_did_what_and_that_it_was_read(admin: TestClient) -> None:
    events = admin.get(f"{API}/audit", params={"action": "results exported"}).json()["events"]
    again = admin.get(f"{API}/audit", params={"action": "audit trail read"}).json()["events"]

    assert {event["actor"] for event in events} == {"viewer"}
    assert events[0]["details"]["format"] in ("csv", "parquet")
    assert again[0]["actor"] == "admin"


def registered(web: Web, threshold: float) -> RegisteredModel:
    folder = web.data / f"made-{threshold}"
    variant(folder, threshold, version=str(threshold))
    info, path = keep_model(folder, web.node.settings.models)
    with transaction(web.engine) as session:
        return register(session, info, path, web.clock())


def test_models_are_shown_put_into_the_shadow_and_taken_out(web: Web, admin: TestClient) -> None:
    digest = registered(web, 0.4).digest

    shown = admin.get(f"{API}/models/candidate-0.4").json()
    put = admin.put(f"{API}/models/shadow/{digest[:12]}")
    states = {model["digest"]: model["state"] for model in admin.get(f"{API}/models").json()["models"]}
    out = admin.delete(f"{API}/models/shadow")

    assert (shown["digest"], shown["threshold"], shown["active"]) == (digest, 0.4, False)
    assert (put.json(), states[digest]) == ({"model": "candidate-0.4", "digest": digest}, "shadow")
    assert out.status_code == 204
    assert admin.get(f"{API}/models/shipped").json()["digest"] == describe_model(SHIPPED_MODEL).digest


def test_a_promotion_that_cannot_be_is_told_and_one_with_a_reason_is_made_and_rolled_back(
    web: Web, admin: TestClient
) -> None:
    model = registered(web, 0.45)
    address = f"{API}/models/{model.digest}/promotion"

    def ended(answer: Any) -> dict[str, Any]:
        assert answer.status_code == 202
        where = answer.headers["location"]
        return wait_for(
            lambda: job if (job := admin.get(where).json())["state"] != "running" else None,
            limit_s=120,
            what="the job",
        )

    refused = ended(admin.post(address, json={"test_set": "2026"}))
    done = ended(admin.post(address, json={"reason": "the test of this test"}))
    active = admin.get(f"{API}/models").json()["models"][0]["digest"]
    back = admin.post(f"{API}/models/rollback")

    assert (refused["state"], "2026" in refused["reason"]) == ("failed", True)
    assert (done["state"], done["result"]["promoted"], active) == ("done", True, model.digest)
    assert back.json()["digest"] == describe_model(SHIPPED_MODEL).digest
    with reading(web.engine) as session:
        asked = select(AuditEvent.actor).where(
            AuditEvent.action.in_(["promotion asked for", "model rolled back"])
        )
        assert session.scalars(asked).all() == ["admin"] * 3
