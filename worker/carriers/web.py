"""HTTP to a destination: who we are, whom we believe, and limits that no server can stretch."""

import base64
import os
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import requests

from lungnode.errors import LungnodeError, UnavailableError, UnusableError
from lungnode.settings import WebDestination
from lungnode.tls import client_context, trouble_of
from worker.answers import ASK, Answer, Meaning
from worker.carriers.connections import Connections
from worker.carriers.limits import PACE, cut_after, limit_of

_LONGEST_ANSWER: Final = 4_000_000  # bytes
# Source: RFC 9110 15.5 and 15.6, RFC 6585 4. What the next attempt may find mended, whoever asks.
_BUSY: Final = (408, 425, 429, 502, 503, 504)
_SLOW: Final = "See what keeps the peer busy, or raise timeout_s."
_QUOTED: Final = 200  # characters of an answer that a row keeps


@contextmanager
def web_session(destination: WebDestination, pace: int = PACE) -> Iterator["WebSession"]:
    """Hold connections to a destination while the block runs; none is made before the first request.

    `pace` is the slowest way, in bytes a second, that is waited for.

    Raises:
        UnavailableError: A file with a secret or a certificate cannot be read.
    """
    with WebSession(destination, pace) as session:
        yield session


class WebSession(requests.Session):
    """Requests to one destination: each has an end, none follows a redirection."""

    def __init__(self, destination: WebDestination, pace: int) -> None:
        """Read the secrets.

        Raises:
            UnavailableError: A file with a secret or a certificate cannot be read.
        """
        super().__init__()
        self.destination, self._pace = destination, pace
        self.trust_env = False  # neither proxies nor .netrc: settings say all
        self.headers.update(_authorization(destination))
        is_encrypted = destination.url.startswith("https:")
        context = client_context(destination.tls) if is_encrypted else None
        self._connections = Connections(context, destination.tls.server_name)
        for scheme in ("http://", "https://"):
            self.mount(scheme, self._connections)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request and read the whole answer.

        Raises:
            UnavailableError: No answer came in time.
            UnusableError: No answer will come while settings and peer stay as they are.
        """
        destination = self.destination
        options |= {"stream": True, "allow_redirects": False, "timeout": destination.timeout_s}
        limit_s = limit_of(destination.timeout_s, len(request.body or b""), self._pace)
        with self._limited(limit_s):
            response = super().send(request, **options)
            with closing(response):
                # requests would read without end; what is kept here is what its `content` returns.
                response._content = _bounded(response)
        if response.is_redirect:
            text, advice = describe(destination, response), "Correct the url: what is sent there is lost."
            raise UnusableError(text, advice=advice)
        return response

    @contextmanager
    def _limited(self, limit_s: float) -> Iterator[None]:
        try:
            with _translated(self.destination), cut_after(limit_s, self._connections.cut):
                yield
        except LungnodeError as error:
            if self._connections.was_cut:
                text = f"{describe(self.destination)} took longer than {limit_s:g} s."
                raise UnavailableError(text, advice=_SLOW) from error
            raise


def judged(response: requests.Response, destination: WebDestination) -> Answer:
    """Return what an answer that is no success says of what was sent.

    Raises:
        UnavailableError: It says that the destination is not there for now.
        UnusableError: It says that the destination will never take anything as things are.
    """
    code, text = response.status_code, describe(destination, response)
    if code in _BUSY:
        raise UnavailableError(text, advice=_SLOW)
    if code == HTTPStatus.UNAUTHORIZED:
        raise UnavailableError(text, advice="Renew the token or the password; it is read at each attempt.")
    if code == HTTPStatus.FORBIDDEN:
        raise UnusableError(text, advice="Let the peer allow this account to store.")
    if code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
        raise UnusableError(text, advice="Correct the url: the service is not there.")
    meaning = Meaning.AGAIN if code >= HTTPStatus.INTERNAL_SERVER_ERROR else Meaning.REFUSED
    return Answer(f"HTTP {code}", meaning, response.text[:_QUOTED].strip(), ASK)


def describe(destination: WebDestination, response: requests.Response | None = None) -> str:
    """Name a destination, or say what it answered."""
    place = f"Destination {destination.name} at {destination.url}"
    if response is None:
        return place
    return f"{place} answered HTTP {response.status_code} {response.reason or ''}".rstrip() + "."


def _authorization(destination: WebDestination) -> dict[str, str]:
    """Return the header that says who we are. Source: RFC 6750 2.1, RFC 7617 2."""
    token = _secret(destination.token_file, destination.token_variable)
    if token is not None:
        return {"Authorization": f"Bearer {token}"}
    password = _secret(destination.password_file, destination.password_variable)
    if password is None:
        return {}
    pair = base64.b64encode(f"{destination.username}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _secret(file: Path | None, variable: str | None) -> str | None:
    if variable is not None:
        if variable not in os.environ:
            raise UnavailableError(f"The variable {variable} with a secret is not set.", advice="Set it.")
        return os.environ[variable]
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"The file {file} with a secret cannot be read: {error}.") from error


def _bounded(response: requests.Response) -> bytes:
    content = bytearray()
    for chunk in response.iter_content(65_536):
        content += chunk
        if len(content) > _LONGEST_ANSWER:
            raise UnavailableError(f"{response.url} answered more than {_LONGEST_ANSWER} bytes.")
    return bytes(content)


@contextmanager
def _translated(destination: WebDestination) -> Iterator[None]:
    place = describe(destination)
    try:
        yield
    except requests.RequestException as error:
        tls = _tls_error(error)
        if tls is not None:
            trouble = trouble_of(tls)
            kind = UnusableError if trouble.lasts else UnavailableError
            raise kind(f"No TLS with {place}: {trouble.sentence} ({trouble.name}).") from error
        if isinstance(error, requests.Timeout):
            raise UnavailableError(f"{place} gave no answer in time.", advice=_SLOW) from error
        advice = "See that it runs, and that the url is right."
        raise UnavailableError(f"{place} cannot be reached, or cut the connection.", advice=advice) from error


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Find what OpenSSL said, in what was made of it."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
