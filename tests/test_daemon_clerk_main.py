"""The clerk's loop: outages, signals, and one line for each."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.clerk.main import Outage, run
from db.models import Analysis, Instance
from lungnode.errors import SettingsError, UnavailableError
from lungnode.settings import ClerkSettings, Rule, Settings
from tests.databases import new_sqlite
from tests.spooling import ClerkNode, Sender, ct, slices

FAST = ClerkSettings(poll_s=0.01, quiet_s=0.05, gap_quiet_s=0.05, sweep_s=0.05)


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Run the clerk in a thread until the block ends."""
    stop, failures = threading.Event(), []

    def work() -> None:
        try:
            run(settings, stop)
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert failures == []


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.005)


def sentences(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "daemon.clerk.main"]


def test_the_loop_indexes_and_completes_while_the_broker_is_away(engine: Engine, tmp_path: Path) -> None:
    url = engine.url.render_as_string(hide_password=False)
    settings = Settings(data=tmp_path / "data", database_url=url, clerk=FAST)
    node = ClerkNode(engine, settings)
    with running(settings):
        node.sender().send(*slices(range(1, 5))).release()
        wait_for(lambda: len(node.rows(Analysis)) == 1, "an analysis")

    assert len(node.rows(Instance)) == 4


def test_a_database_that_is_away_is_told_once_and_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "data/lungnode.sqlite3"
    settings = Settings(data=tmp_path / "data", clerk=FAST)
    file.mkdir(parents=True)  # something in the way of the database
    Sender(settings.spool, "a1").open().send(ct()).release()
    with running(settings):
        wait_for(lambda: len(sentences(caplog)) > 0, "a line in the log")
        file.rmdir()
        wait_for(lambda: not any(settings.spool.iterdir()), "an empty spool")

    first, *rest = sentences(caplog)
    assert first.startswith("waiting: The database sqlite:///")
    assert rest == ["the clerk is ready", "work goes on"]


def test_an_archive_that_is_away_is_told_once_and_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = Settings(data=tmp_path / "data", clerk=FAST)
    Sender(settings.spool, "a1").open().send(ct()).release()
    settings.archive.write_text("in the way")
    with running(settings):
        wait_for(lambda: len(sentences(caplog)) > 1, "a line in the log")
        settings.archive.unlink()
        wait_for(lambda: not any(settings.spool.iterdir()), "an empty spool")

    ready, waiting, *rest = sentences(caplog)
    assert ready == "the clerk is ready"
    assert waiting == f"waiting: The folder {settings.archive} cannot be used: Not a directory."
    assert rest == ["work goes on"]


def test_a_rule_that_names_no_attribute_stops_the_clerk_at_once(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, rules=(Rule(name="r", tags={"Nothing": "*"}),))

    with pytest.raises(SettingsError, match="no keyword"):
        run(settings, threading.Event())


def test_a_clerk_told_to_stop_leaves_the_rest_for_the_next(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    engine = new_sqlite(settings.database)
    node = ClerkNode(engine, settings)
    node.sender().send(*slices(range(1, 5), ImagesInAcquisition=4)).release()
    node.stop.set()

    assert node.clerk.round() == []
    assert node.rows(Instance) == []
    assert node.rows(Analysis) == []
    node.stop.clear()
    assert len(node.clerk.round()) == 1
    engine.dispose()


def test_an_outage_is_logged_when_it_begins_changes_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage()

    for sentence in ("A.", "A.", "B.", "B.", "", ""):
        with outage:
            if sentence:
                raise UnavailableError(sentence)

    assert sentences(caplog) == ["waiting: A.", "waiting: B.", "work goes on"]


def test_other_errors_are_no_outage() -> None:
    with pytest.raises(KeyError), Outage():
        raise KeyError
