"""A FHIR server: one transaction a result, which it takes as a whole or not at all.

Source: FHIR R4, 3.1.0.11 transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

import requests

from lungnode.settings import FhirDestination
from worker.answers import Answer, Meaning, silence
from worker.carriers.limits import PACE
from worker.carriers.web import WebSession, judged, web_session
from worker.parcel import Item

_MEDIA_TYPE: Final = "application/fhir+json"
_QUOTED: Final = 200  # characters of an answer that a row keeps


@contextmanager
def resting(destination: FhirDestination, pace: int = PACE) -> Iterator["FhirServer"]:
    """Hold connections to a server while the block runs.

    Raises:
        UnavailableError: A file with a secret or a certificate cannot be read.
    """
    with web_session(destination, pace) as session:
        yield FhirServer(destination, session)


class FhirServer:
    """A server that takes transactions."""

    is_there = True

    def __init__(self, destination: FhirDestination, session: WebSession) -> None:
        """Prepare requests."""
        session.headers.update({"Accept": _MEDIA_TYPE, "Content-Type": f"{_MEDIA_TYPE}; charset=utf-8"})
        self._destination, self._session = destination, session

    def accepts(self, _sop_class_uid: str) -> bool:
        """Hope so."""
        return True

    def send(self, item: Item) -> Answer:
        """Send a transaction.

        Raises:
            UnavailableError: The server is not there for now.
            UnusableError: It will never take anything as things are.
        """
        response = self._session.post(self._destination.url, data=item.text.encode())
        if response.status_code == HTTPStatus.CONFLICT:  # another change of the same resource was faster
            return Answer("HTTP 409", Meaning.AGAIN, _diagnostics(response))
        if not response.ok:
            answer = judged(response, self._destination)
            return replace(answer, comment=_diagnostics(response) or answer.comment)
        return _taken(response)


def _taken(response: requests.Response) -> Answer:
    """Return whether each entry was taken; a page that says 200 is no transaction."""
    try:
        statuses = [str(entry["response"]["status"]) for entry in response.json()["entry"]]
    except (ValueError, KeyError, TypeError):
        return silence("the server did not say what became of it")
    if statuses and all(status.startswith("2") for status in statuses):
        return Answer(f"HTTP {response.status_code}", Meaning.STORED)
    return silence(f"the server answered {', '.join(statuses)[:_QUOTED] or 'no entry'}")


def _diagnostics(response: requests.Response) -> str:
    """Return what an OperationOutcome says. Source: FHIR R4, OperationOutcome."""
    try:
        issues: Any = response.json()["issue"]
        told = [issue.get("diagnostics") or issue.get("code") or "" for issue in issues]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return "; ".join(map(str, filter(None, told)))[:_QUOTED]
