"""FHIR transactions on their way: to a server that keeps what conditional updates make of its resources."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from fhir.resources.R4B.bundle import Bundle

from db.models import DeliveryState
from lungnode.settings import FhirDestination
from tests.couriers import MakeCourier
from tests.web_peers import Reply, Request, web_peer

JSON = {"Content-Type": "application/fhir+json"}


@dataclass
class Server:
    """What a FHIR server does with a transaction of conditional updates. Source: FHIR R4 3.1.0.7.1."""

    resources: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)  # versions of each

    def __call__(self, request: Request) -> Reply:
        """Take a transaction."""
        assert request.headers["Content-Type"].startswith("application/fhir+json")
        Bundle.model_validate_json(request.body)
        entries = [self._take(entry) for entry in json.loads(request.body)["entry"]]
        told = {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
        return Reply(200, json.dumps(told).encode(), JSON)

    def _take(self, entry: dict[str, Any]) -> dict[str, Any]:
        url = urlsplit(entry["request"]["url"])
        (wanted,) = parse_qs(url.query)["identifier"]
        system, _, value = unquote(wanted).partition("|")
        assert {"system": system, "value": value} in entry["resource"]["identifier"]
        versions = self.resources.setdefault((url.path, wanted), [])
        versions.append(entry["resource"])
        return {"response": {"status": "201 Created" if len(versions) == 1 else "200 OK"}}


def ehr(url: str, **values: Any) -> FhirDestination:
    return FhirDestination(**({"name": "PACS", "kind": "fhir", "url": url, "timeout_s": 20.0} | values))


def test_a_result_sent_twice_is_one_resource_of_each_kind(courier: MakeCourier) -> None:
    server = Server()
    answers: list[Callable[[Request], Reply]] = [lambda r: Reply(server(r).code + 303), server]

    with web_peer(lambda request: answers.pop(0)(request)) as peer:  # noqa: PLW0108 - another each time
        node, (row_id,) = courier(ehr(peer.url("/r4")), "fhir")
        row = node.deliver_until_it_ends(row_id)

    assert (row.state, row.attempts) == (DeliveryState.STORED, 2)
    assert {kind for kind, _ in server.resources} == {"DiagnosticReport", "Observation"}
    assert [len(versions) for versions in server.resources.values()] == [2, 2]
    assert [request.body.decode() for request in peer.asked] == [row.message] * 2


def outcome_of(text: str) -> bytes:
    return json.dumps({"resourceType": "OperationOutcome", "issue": [{"diagnostics": text}]}).encode()


@pytest.mark.parametrize(
    ("reply", "state", "said"),
    [
        (Reply(400, outcome_of("no such code"), JSON), "refused", "answered HTTP 400 (no such code)"),
        (Reply(422, outcome_of("profile"), JSON), "refused", "answered HTTP 422 (profile)"),
        (Reply(412, outcome_of("two of them"), JSON), "refused", "answered HTTP 412 (two of them)"),
        (Reply(409), "pending", "answered HTTP 409"),
        (Reply(503), "pending", "answered HTTP 503"),
        (Reply(403), "refused", "answered HTTP 403"),
        (Reply(200, b"<html>"), "pending", "the server did not say what became of it"),
        (Reply(200, b"[1]", JSON), "pending", "the server did not say what became of it"),
        (Reply(200, b'{"entry": []}', JSON), "pending", "the server answered no entry"),
        (
            Reply(200, b'{"entry": [{"response": {"status": "422"}}]}', JSON),
            "pending",
            "the server answered 422",
        ),
    ],
)
def test_what_a_server_answers_is_for_good_or_not_with_its_words(
    courier: MakeCourier, reply: Reply, state: str, said: str
) -> None:
    with web_peer(lambda _request: reply) as peer:
        node, (row_id,) = courier(ehr(peer.url()), "fhir")
        node.deliver(row_id)

    row = node.row(row_id)
    assert (row.state, said in row.reason) == (state, True)
