"""Alerts with a real HTTP server and a real mail server on loopback."""

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine, select

from daemon.web.alerts.watch import look
from daemon.web.measuring import Measures
from daemon.web.node import WebNode
from db.models import Alert, Analysis, AnalysisState, Delivery, DeliveryState, Study
from db.session import reading, transaction
from lungnode.errors import UnavailableError
from lungnode.settings import NotifySettings, ReceiverSettings, Settings
from tests.spooling import NOON
from tests.stores import ObjectServer
from tests.web import Web


@contextmanager
def server(kind: Any, handler: Any) -> Iterator[int]:
    """Run a server while the block runs; yields its port."""
    with kind(("127.0.0.1", 0), handler) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running.server_address[1]
        finally:
            running.shutdown()
            thread.join()


@contextmanager
def webhook(statuses: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answer with these statuses, then with 204; yields the URL and what came."""
    came: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses.pop(0) if statuses else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with server(ThreadingHTTPServer, Handler) as port:
        yield f"http://127.0.0.1:{port}/secret", came


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """Take mails; yields the port and the lines of all of them. Source: RFC 5321."""
    lines: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().decode().strip():
                if line.upper() == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                        lines.append(text)
                self.wfile.write(b"221 bye\r\n" if line.upper() == "QUIT" else b"250 fine\r\n")
                if line.upper() == "QUIT":
                    return

    with server(socketserver.ThreadingTCPServer, Handler) as port:
        yield port, lines


def watched(engine: Engine, folder: Path, **notify: Any) -> Web:
    receiver = ReceiverSettings(disk_warn_bytes=0, disk_reject_bytes=0)
    return Web(engine, folder, {"notify": NotifySettings(**notify), "receiver": receiver})


def make_wrong(engine: Engine) -> None:
    """Quarantine a study of a patient, refuse a delivery, and let an analysis wait."""
    with transaction(engine) as session:
        study = Study(study_instance_uid="1.2.3", patient_name="Doe^Jane", created_at=NOON, changed_at=NOON)
        states = (AnalysisState.QUARANTINED, AnalysisState.QUEUED)
        for revision, state in enumerate(states, start=1):
            study.analyses.append(Analysis(revision=revision, state=state, due_at=NOON, created_at=NOON))
        told = {"destination": "PACS", "group": "sr", "reason": "Doe^Jane is unknown"}
        row = Delivery(**told, state=DeliveryState.REFUSED, due_at=NOON, created_at=NOON)
        study.analyses[0].deliveries.append(row)
        session.add(study)


def test_what_is_wrong_is_told_once_and_so_is_its_end_and_no_patient(engine: Engine, tmp_path: Path) -> None:
    with webhook([]) as (url, came):
        web = watched(engine, tmp_path, webhook=url)
        look(web.node, NOON)
        make_wrong(engine)
        web.clock.pass_s(1000)
        for _ in range(3):
            look(web.node, web.clock())
        with transaction(engine) as session:
            session.scalars(select(Delivery)).one().state = DeliveryState.STORED
        look(web.node, web.clock())

    told = [(each["name"], each["subject"], each["status"]) for each in came]
    assert told == [
        ("analyses wait", "queue", "firing"),
        ("analyses quarantined", "queue", "firing"),
        ("deliveries ended badly", "PACS", "firing"),
        ("deliveries ended badly", "PACS", "resolved"),
    ]
    assert came[0]["sentence"] == "An analysis has been due for 17 minutes: is an analysis worker running?"
    assert "Doe" not in json.dumps(came)
    assert "1.2.3" not in json.dumps(came)


def test_who_could_not_be_told_is_told_at_the_next_look_and_the_url_stays_secret(
    engine: Engine, tmp_path: Path
) -> None:
    make_wrong(engine)
    with webhook([500]) as (url, came):
        web = watched(engine, tmp_path, webhook=url)
        with pytest.raises(UnavailableError, match="The webhook answers 500"):
            look(web.node, NOON)
        look(web.node, NOON)
        assert [each["name"] for each in came].count("analyses quarantined") == 2

    with transaction(engine) as session:
        for alert in session.scalars(select(Alert)):
            alert.told_at = None
    with pytest.raises(UnavailableError, match="cannot be reached: ConnectError") as caught:
        look(web.node, NOON)
    assert "secret" not in str(caught.value)


def test_two_web_processes_tell_of_one_alert_once(engine: Engine, tmp_path: Path) -> None:
    make_wrong(engine)
    with webhook([]) as (url, came):
        web = watched(engine, tmp_path, webhook=url)
        other = type(web.node)(web.node.settings, engine, web.clock)
        for node in (web.node, other, web.node):
            look(node, NOON)

    assert len(came) == 2
    with reading(engine) as session:
        assert len(session.scalars(select(Alert)).all()) == 2


def test_mails_say_what_is_wrong_in_a_sentence(engine: Engine, tmp_path: Path) -> None:
    make_wrong(engine)
    with mail_server() as (port, lines):
        mail = {"mail_to": ("it@hospital.example",), "smtp_host": "127.0.0.1", "smtp_port": port}
        look(watched(engine, tmp_path, **mail, smtp_encryption=False).node, NOON)

    assert "To: it@hospital.example" in lines
    assert any(line.startswith("Subject: Lungnode on ") and "quarantined firing" in line for line in lines)
    assert "1 delivery to PACS is dead or refused: lungnode deliveries list shows why." in lines


def test_a_mail_server_without_encryption_gets_nothing_where_it_is_demanded(
    engine: Engine, tmp_path: Path
) -> None:
    make_wrong(engine)
    with mail_server() as (port, lines):
        mail = {"mail_to": ("it@hospital.example",), "smtp_host": "127.0.0.1", "smtp_port": port}
        with pytest.raises(UnavailableError, match="does not take it: SMTPNotSupportedError"):
            look(watched(engine, tmp_path, **mail).node, NOON)

    assert lines == []


def test_a_disk_that_fills_up_is_told(engine: Engine, tmp_path: Path) -> None:
    limits = ({"disk_warn_bytes": 2**60, "disk_reject_bytes": 0}, {"disk_reject_bytes": 2**60})
    with webhook([]) as (url, came):
        for each in limits:
            notify, receiver = NotifySettings(webhook=url), ReceiverSettings(**each)
            look(WebNode(Settings(data=tmp_path, notify=notify, receiver=receiver), engine), NOON)

    told = {(each["name"], each["status"]) for each in came}
    assert told == {("disk low", "firing"), ("disk full", "firing"), ("disk low", "resolved")}


def test_a_store_that_is_away_is_told_and_counted_until_it_is_back(
    sqlite: Engine, tmp_path: Path, object_server: ObjectServer
) -> None:
    with webhook([]) as (url, came):
        web = watched(sqlite, tmp_path, webhook=url)
        node = WebNode(web.node.settings.model_copy(update={"store": object_server.settings()}), sqlite)
        counted = []
        for object_server.is_down in (True, False):
            look(node, NOON)
            counted.append(b"lungnode_store_reachable 0.0" in Measures(node).text())

    assert [(each["name"], each["status"]) for each in came] == [
        ("store away", "firing"),
        ("store away", "resolved"),
    ]
    sentence = came[0]["sentence"]
    assert sentence.startswith("The object store s3://lungnode-")
    assert not sentence.endswith("..")
    assert counted == [True, False]
