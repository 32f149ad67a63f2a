import json
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from daemon.clerk.alerts import AlertReader
from daemon.receiver.alerts import MOST, Alert, Alerts
from db.models import AuditEvent
from tests.dicom_wire import associate_request
from tests.receiving import running_receiver, wait_until
from tests.spooling import ClerkNode

STRANGER = Alert("association rejected", "CALLING_AE_TITLE_NOT_RECOGNIZED", "192.0.2.66", "EVIL", "LUNGNODE")


def written(folder: Path) -> list[dict[str, Any]]:
    """Every alert in a folder."""
    files = sorted(folder.glob("*.json"))
    return [alert for file in files for alert in json.loads(file.read_text())["alerts"]]


def test_the_same_alert_again_and_again_is_one_line_with_a_count(tmp_path: Path) -> None:
    alerts = Alerts(tmp_path)

    for _ in range(1000):
        alerts.add(STRANGER)
    alerts.flush()

    (told,) = written(tmp_path)
    assert (told["count"], told["calling_ae_title"], told["address"]) == (1000, "EVIL", "192.0.2.66")
    assert told["first"] <= told["last"]


def test_alerts_that_differ_too_much_are_summed_up(tmp_path: Path) -> None:
    alerts = Alerts(tmp_path)

    for number in range(MOST + 50):
        alerts.add(Alert("connection refused", "no usable A-ASSOCIATE-RQ", f"10.0.{number}.1"))
    alerts.flush()

    told = written(tmp_path)
    assert len(told) == MOST + 1
    assert sum(each["count"] for each in told) == MOST + 50
    assert told[-1]["reason"] == "too many different ones to name"


def test_alerts_are_written_by_themselves_and_leave_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())  # of which some may end meanwhile
    alerts = Alerts(tmp_path)

    alerts.add(STRANGER)

    wait_until(lambda: written(tmp_path), "nothing is written")
    wait_until(lambda: set(threading.enumerate()) <= before, "a thread is left")


def test_the_last_flush_waits_for_what_another_thread_is_writing(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow_look_at_the_disk() -> bool:
        begun.set()
        go_on.wait(60)
        return False

    alerts = Alerts(tmp_path, is_disk_full=slow_look_at_the_disk)
    writer = threading.Thread(target=alerts.tell, args=(STRANGER,))
    writer.start()
    begun.wait(60)
    last = threading.Thread(target=alerts.flush)
    last.start()
    last.join(0.2)
    was_waiting = last.is_alive()
    go_on.set()
    last.join()

    assert was_waiting
    assert len(written(tmp_path)) == 1
    writer.join()


def test_a_full_disk_gets_no_alerts(tmp_path: Path) -> None:
    alerts = Alerts(tmp_path, is_disk_full=lambda: True)

    alerts.tell(STRANGER)

    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_costs_the_alerts_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alerts").write_text("no folder")

    Alerts(tmp_path / "alerts").tell(STRANGER)

    assert "alerts cannot be written" in caplog.text


def test_a_receiver_tells_its_start_its_end_and_whom_it_turned_away(tmp_path: Path) -> None:
    with running_receiver(tmp_path, calling_ae_titles=["CT1"]) as receiver:
        with receiver.connect() as peer:
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            assert peer.read_pdu()[0] == 7  # A-ABORT
        with receiver.connect() as peer:
            peer.send(associate_request(calling="EVIL"))
            assert peer.read_pdu()[0] == 3  # A-ASSOCIATE-RJ
        with receiver.connect():
            pass  # a port probe: health checks do this all day
        alerts = receiver.data / "alerts"

    told = {(each["action"], each["reason"], each["calling_ae_title"]) for each in written(alerts)}
    assert told == {
        ("application started", "", ""),
        ("connection refused", "garbage", ""),
        ("association rejected", "CALLING_AE_TITLE_NOT_RECOGNIZED", "EVIL"),
        ("application stopped", "", ""),
    }


def read(node: ClerkNode) -> list[AuditEvent]:
    AlertReader(node.engine, node.settings.alerts).round()
    return sorted(node.rows(AuditEvent), key=lambda event: event.id)


def test_the_clerk_moves_alerts_into_the_audit_trail(clerk_node: ClerkNode) -> None:
    alerts = Alerts(clerk_node.settings.alerts)
    alerts.tell(Alert("application started", called_ae_title="LUNGNODE"))
    alerts.add(STRANGER)
    alerts.tell(STRANGER)

    started, rejected = sorted(read(clerk_node), key=lambda event: event.action)

    assert (started.action, started.subject, started.outcome) == ("application started", "receive", 0)
    assert (rejected.actor, rejected.subject, rejected.outcome) == ("EVIL@192.0.2.66", "192.0.2.66", 4)
    assert rejected.details["count"] == 2
    assert not list(clerk_node.settings.alerts.iterdir())


def test_alerts_that_a_killed_clerk_had_committed_are_not_told_twice(clerk_node: ClerkNode) -> None:
    Alerts(clerk_node.settings.alerts).tell(STRANGER)
    (file,) = clerk_node.settings.alerts.iterdir()
    content = file.read_bytes()
    read(clerk_node)
    file.write_bytes(content)  # as if it had died before the unlink

    assert len(read(clerk_node)) == 1
    assert not file.exists()


def test_a_damaged_file_of_alerts_holds_up_nothing(
    clerk_node: ClerkNode, caplog: pytest.LogCaptureFixture
) -> None:
    Alerts(clerk_node.settings.alerts).tell(STRANGER)
    for number, content in enumerate(("", "[]", '{"host": 1, "process": 2, "alerts": [{"action": "x"}]}')):
        (clerk_node.settings.alerts / f"{number}.json").write_text(content)

    assert len(read(clerk_node)) == 1
    assert caplog.text.count("cannot be read") == 3


def test_started_and_stopped_programs_are_in_the_trail(clerk_node: ClerkNode) -> None:
    from daemon.clerk.main import run  # noqa: PLC0415 - the loop itself

    clerk_node.stop.set()
    settings = clerk_node.settings.model_copy(update={"database_url": _url(clerk_node)})

    run(settings, clerk_node.stop)

    query = select(AuditEvent.action, AuditEvent.subject).order_by(AuditEvent.id)
    with clerk_node.engine.connect() as connection:
        assert [tuple(row) for row in connection.execute(query)] == [
            ("application started", "clerk"),
            ("application stopped", "clerk"),
        ]


def _url(node: ClerkNode) -> str:
    return node.engine.url.render_as_string(hide_password=False)
