"""The clerk: indexes the spool, completes studies, wakes workers, until told to stop."""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from daemon.clerk import spool
from daemon.clerk.ask import may_ask
from daemon.clerk.auditing import Auditor
from daemon.clerk.commitment import take_messages
from daemon.clerk.complete import Completer
from daemon.clerk.desk import CommitmentDesk
from daemon.clerk.dispatch import Dispatcher
from daemon.clerk.files import writing_to
from daemon.clerk.index import BATCH, Indexer
from daemon.clerk.inquire import Inquirer
from daemon.clerk.leadership import Leading
from daemon.clerk.plan import Received
from daemon.clerk.pressure import Pressure
from daemon.clerk.retention import Retention
from daemon.clerk.spool import Association
from db import audit, intake
from db.models import AssociationRecord
from db.session import open_engine, transaction, upgrade
from lungnode.errors import UnavailableError
from lungnode.pulse import Pulse
from lungnode.queue import open_queue
from lungnode.settings import Settings

# How long other hosts' clerks believe that an association is open without hearing of it again.
LEASE: Final = timedelta(seconds=60)
FOLDERS: Final = 256  # held at once, each with an open handle
_log = logging.getLogger(__name__)
Clock = Callable[[], datetime]
Associations = Sequence[Association]


def now_utc() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Clerk:
    """One clerk over one data folder; its rounds may be repeated after a crash at any point."""

    def __init__(
        self, engine: Engine, settings: Settings, stop: threading.Event, clock: Clock = now_utc
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._stop = stop
        self._clock = clock
        self._indexer = Indexer(engine, settings)
        self._completer = Completer(engine, settings)
        self.is_asked = threading.Event()  # set when a round took commitment requests
        self.pulse = Pulse(settings.data, "clerk")
        self._mirrored: dict[str, datetime] = {}  # associations and their lease, as the database has them

    def round(self) -> list[int]:
        """Index what lies in the spool, then complete studies; returns the analyses that were queued.

        Raises:
            UnavailableError: The database or the archive is away; nothing is lost.
        """
        now = self._clock()
        with writing_to(self._settings.spool):
            associations = spool.scan(self._settings.spool, now)
        pending = {each.id: each for each in associations}
        self._mirrored = {key: lease for key, lease in self._mirrored.items() if key in pending}
        are_mine = True
        for start in range(0, len(associations), FOLDERS):
            self._mirror(pending.values(), self._clock())
            folders = associations[start : start + FOLDERS]
            mine, closed = self._work_through(folders, now)
            are_mine &= len(mine) == len(folders)
            for each in closed:
                pending.pop(each.id, None)
        if not are_mine or self._stop.is_set():
            return []  # files that we have not seen may belong to a study: the next round judges
        return self._completer.complete_studies(now)

    def _work_through(
        self, folders: Sequence[Association], now: datetime
    ) -> tuple[Associations, Associations]:
        """Index and close; returns what no other clerk holds, and what of that is closed."""
        with writing_to(self._settings.spool), ExitStack() as stack:
            mine = [each for each in folders if stack.enter_context(spool.held(each))]
            self._index(mine, now)
            # What a request names, and came before it, is indexed now.
            if not self._stop.is_set() and take_messages(self._engine, self._settings, mine, now):
                self.is_asked.set()
            return mine, self._close(mine, now)

    def _index(self, associations: Associations, now: datetime) -> None:
        waiting = [Received(path, each) for each in associations for path in each.files()]
        while waiting and not self._stop.is_set():
            self.pulse.beat()
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            left = self._indexer.index(batch, now).left
            waiting = [*left, *waiting]
            if len(left) == len(batch):  # another clerk is at the same files, or their study is being deleted
                self._stop.wait(self._settings.clerk.poll_s)

    def _mirror(self, associations: Iterable[Association], now: datetime) -> None:
        """Let the clerks of all hosts see our associations, as open until their files are indexed."""
        due = [each for each in associations if self._mirrored.get(each.id, now) - now < LEASE / 2]
        if due:
            with transaction(self._engine) as session:
                intake.serialise(session)
                intake.mirror_associations(session, [_row(each, now) for each in due])
            self._mirrored |= {each.id: now + LEASE for each in due}

    def _close(self, associations: Associations, now: datetime) -> Associations:
        closed = [each for each in associations if not each.is_open and each.is_worked_off()]
        if closed:
            rows = [{**_row(each, now), "closed_at": now, "outcome": each.outcome} for each in closed]
            with transaction(self._engine) as session:
                intake.serialise(session)
                newly = intake.still_open(session, [each.id for each in closed])
                intake.mirror_associations(session, rows)
                for each in closed:
                    if each.id in newly:  # not where a clerk died before it removed the folder
                        record = session.get_one(AssociationRecord, each.id, populate_existing=True)
                        audit.record_received(session, record, each.ended_at or now)
        for each in closed:
            spool.remove(each)
            self._mirrored.pop(each.id, None)
        return closed


def _row(association: Association, now: datetime) -> dict[str, object]:
    return {
        "id": association.id,
        "host": association.host,
        "calling_ae_title": association.facts.calling_ae_title,
        "called_ae_title": association.facts.called_ae_title,
        "address": association.facts.address,
        "opened_at": association.opened_at,
        "lease_until": now + LEASE,
        "closed_at": None,
        "outcome": "open",
    }


def run(settings: Settings, stop: threading.Event) -> None:
    """Work until `stop` is set; outages of database, archive and broker are waited out.

    Raises:
        SettingsError: A rule names an unknown attribute.
    """
    engine = open_engine(settings.database)
    clerk, is_work_new = Clerk(engine, settings, stop), threading.Event()
    _prepare(engine, clerk.pulse, stop, settings.clerk.poll_s)
    # A broker that does not answer keeps a sweep waiting, never the index.
    with open_queue(settings) as app, ThreadPoolExecutor(6) as pool:
        leads = Leading(engine, settings.clerk.sweep_s, now_utc)
        desk = CommitmentDesk(engine, settings, stop.is_set, now_utc)
        beside = (
            pool.submit(_sweep, Dispatcher(engine, settings, app), leads, settings, stop, is_work_new),
            pool.submit(_repeat, Pressure(engine, settings).look, settings.clerk.sweep_s, stop),
            pool.submit(_audit, Auditor(engine, settings), leads, settings, stop),
            pool.submit(_attend, desk, settings, stop, clerk.is_asked, is_work_new),
            pool.submit(_delete_old_files, Retention(engine, settings), leads, settings, stop),
            pool.submit(_inquire, Inquirer(engine, settings, now_utc), settings, stop),
        )
        outage = Outage()
        audit.tell_activity(engine, "application started", "clerk", settings.receiver.ae_title, now_utc())
        try:
            while not stop.is_set() and not any(each.done() for each in beside):
                with outage:
                    if clerk.round():
                        is_work_new.set()
                clerk.pulse.beat(waiting=outage.sentence)
                stop.wait(settings.clerk.poll_s)
        finally:
            audit.tell_activity(engine, "application stopped", "clerk", settings.receiver.ae_title, now_utc())
            clerk.pulse.end()
            stop.set()
            is_work_new.set()
            clerk.is_asked.set()
        for each in beside:
            each.result()
        leads.resign()
    engine.dispose()


def _sweep(
    dispatcher: Dispatcher,
    leads: Leading,
    settings: Settings,
    stop: threading.Event,
    is_work_new: threading.Event,
) -> None:
    outage, led, is_new = Outage(), False, False
    while not stop.is_set():
        with outage:
            was_led, led = led, leads()
            if led:
                dispatcher.sweep(now_utc(), is_first=not was_led)
            elif is_new:  # what this clerk queued need not wait for the one that leads
                dispatcher.wake_workers(now_utc())
        is_new = is_work_new.wait(settings.clerk.sweep_s)
        is_work_new.clear()


def _repeat(look: Callable[[], None], every_s: float, stop: threading.Event) -> None:
    outage = Outage()
    while not stop.is_set():
        with outage:
            look()
        stop.wait(every_s)


def _audit(auditor: Auditor, leads: Leading, settings: Settings, stop: threading.Event) -> None:
    outage, is_last = Outage(), False
    while not is_last:
        is_last = stop.wait(settings.clerk.sweep_s)
        with outage:
            auditor.take_alerts()
            if leads():
                auditor.round(now_utc, stop.is_set)


def _attend(
    desk: CommitmentDesk,
    settings: Settings,
    stop: threading.Event,
    is_asked: threading.Event,
    is_work_new: threading.Event,
) -> None:
    outage, waits = Outage(), False
    while not stop.is_set():
        with outage:
            reports, waits = desk.round()
            if reports:
                is_work_new.set()
        is_asked.wait(settings.clerk.poll_s if waits else settings.clerk.sweep_s)
        is_asked.clear()


def _delete_old_files(
    retention: Retention, leads: Leading, settings: Settings, stop: threading.Event
) -> None:
    outage = Outage()
    while not stop.is_set():
        is_more = False
        with outage:
            is_more = leads() and bool(retention.sweep(now_utc()))
        if not is_more:
            stop.wait(settings.retention.sweep_s)


def _inquire(inquirer: Inquirer, settings: Settings, stop: threading.Event) -> None:
    outage = Outage()
    while may_ask(settings) and not stop.is_set():
        with outage:
            inquirer.round()
        stop.wait(settings.clerk.poll_s)
    stop.wait()
    inquirer.stop()


def _prepare(engine: Engine, pulse: Pulse, stop: threading.Event, poll_s: float) -> None:
    outage = Outage()
    is_ready = False
    while not is_ready and not stop.is_set():
        with outage:
            upgrade(engine)
            is_ready = True
            _log.info("the clerk is ready")
        if not is_ready:
            pulse.beat(waiting=outage.sentence)
            stop.wait(poll_s)


class Outage:
    """Swallows UnavailableError, and logs when an outage begins, changes and ends."""

    def __init__(self) -> None:
        self.sentence = ""  # what is waited for; empty when nothing is

    def __enter__(self) -> None:
        """Begin an attempt."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if error is None:
            if self.sentence:
                _log.info("work goes on")
            self.sentence = ""
            return False
        if isinstance(error, UnavailableError):
            if str(error) != self.sentence:
                _log.error("waiting: %s", error)
            self.sentence = str(error)
            return True
        return False


def stop_at_signals(stop: threading.Event) -> None:
    """Let SIGTERM and SIGINT set the event."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
