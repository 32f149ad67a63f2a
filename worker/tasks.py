"""The Celery workers of both queues.

Analyses run in a prefork pool of one: its child loads the model after the fork, so that the parent never
imports TensorFlow, kills an analysis that hangs, and starts another child after one that died. Deliveries
wait for peers, so they run in threads.
"""

import gc
import logging
import mmap
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from threading import BoundedSemaphore, Event, Thread
from typing import TYPE_CHECKING, Any, Final

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from db import audit
from db.session import is_current, open_engine
from lungnode.errors import LungnodeError, UnavailableError
from lungnode.pulse import Pulse
from lungnode.queue import (
    ANALYSE_TASK,
    ANALYSIS_QUEUE,
    CONFIRM_TASK,
    DELIVER_TASK,
    REPORT_TASK,
    open_queue,
    wake,
)
from lungnode.settings import Settings
from worker.commitment import report_row
from worker.confirm import confirm_due
from worker.courier import deliver_due
from worker.hold import Node

if TYPE_CHECKING:
    from worker.run import Analyst

_LOG = logging.getLogger(__name__)
_LOOK_S: Final = 0.2
_TELL_S: Final = 3.0  # in which a locked database has to take note that we start or stop
_START_S: Final = 300.0  # a child that has not loaded its model by then is started again


class SharedFlag:
    """A flag that parent and forked child share."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def __call__(self) -> bool:
        """Tell whether it is set."""
        return self._shared[0] == 1

    def set(self, **_: Any) -> None:
        """Set it, for good."""
        self._shared[0] = 1

    def set_at_signal(self, _number: int, _frame: object) -> None:
        """Set it, as the handler of a signal."""
        self.set()


def serve(settings: Settings, queue: str) -> int:
    """Work on one queue until SIGTERM; return the exit code.

    Raises:
        UnusableError: The model cannot be used.
    """
    app = open_queue(settings)
    stopping, prepared, connected, loaded = SharedFlag(), SharedFlag(), SharedFlag(), SharedFlag()
    signals.worker_shutting_down.connect(stopping.set, weak=False)
    # With a receiver of this signal, Celery leaves the log alone.
    signals.setup_logging.connect(_keep_log, weak=False)
    signals.worker_ready.connect(connected.set, weak=False)
    awaited = {"the database, or its tables": prepared, "the broker": connected}
    if queue == ANALYSIS_QUEUE:
        options = _analyses(app, settings, stopping, loaded)
        awaited["the model, which is being loaded or cannot be used"] = loaded
    else:
        options = _deliveries(app, settings, stopping)
    pulse = Pulse(settings.data, f"worker-{queue}")
    Thread(target=_beat, args=(pulse, awaited, stopping), daemon=True).start()
    _quieten_celery()
    signal.signal(signal.SIGTERM, stopping.set_at_signal)  # until Celery has its own
    if not _await_tables(settings, stopping):
        pulse.end()
        return 0
    prepared.set()
    worker = app.Worker(
        queues=[queue],
        hostname=f"{queue}@%h",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        **options,
    )
    started, stopped = (_teller(settings, f"application {word}", queue) for word in ("started", "stopped"))
    # A database that is away must not keep the worker from starting.
    signals.worker_ready.connect(lambda **_: Thread(target=started, daemon=True).start(), weak=False)
    worker.start()
    stopped()
    pulse.end()
    return int(worker.exitcode or 0)


def _await_tables(settings: Settings, stopping: SharedFlag) -> bool:
    """Wait until the tables are those that this version needs; False when it is to stop before.

    Whoever starts with a new database, or is upgraded first, is here before the clerk has made them.
    """
    engine, sentence = open_engine(settings.database), ""
    while not stopping():
        try:
            if is_current(engine):
                engine.dispose()  # no connection goes through the fork
                return True
            found = "The tables of the database are not those of this version."
        except UnavailableError as error:
            found = str(error)
        if found != sentence:
            _LOG.warning("waiting: %s", found)
        sentence = found
        time.sleep(_LOOK_S)
    return False


def _teller(settings: Settings, action: str, queue: str) -> Callable[[], None]:
    """Return what lets the audit trail know."""

    def tell() -> None:
        engine = open_engine(settings.database, lock_wait_s=_TELL_S)
        program = f"worker --queue {queue}"
        audit.tell_activity(engine, action, program, settings.receiver.ae_title, datetime.now(UTC))
        engine.dispose()

    return tell


def _beat(pulse: Pulse, awaited: Mapping[str, SharedFlag], stopping: SharedFlag) -> None:
    """Give signs of life until the worker stops; an analysis that hangs has a time limit of its own."""
    while not stopping():
        pulse.beat(waiting=next((what for what, has_come in awaited.items() if not has_come()), ""))
        time.sleep(_LOOK_S)


def _quieten_celery() -> None:
    logging.getLogger("celery").setLevel(logging.ERROR)
    for name in (
        "celery.worker.request",
        "celery.app.trace",
    ):  # they quote errors, and errors may quote patients
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # It warns root because of pickled messages: ours are row numbers in JSON. And at each lost connection of
    # a setting that we made.
    for category in (SecurityWarning, CPendingDeprecationWarning):
        warnings.simplefilter("ignore", category)


def _keep_log(**_: Any) -> None:
    pass


def _analyses(app: Celery, settings: Settings, stopping: SharedFlag, loaded: SharedFlag) -> dict[str, Any]:
    from lungnode.model_folder import SHIPPED_MODEL, describe_model  # noqa: PLC0415 - couriers need no model

    describe_model(settings.analysis.model or SHIPPED_MODEL)
    child = _Child(app, settings, stopping, loaded)
    signals.worker_process_init.connect(child.start, weak=False)
    app.task(name=ANALYSE_TASK, shared=False)(child.analyse)
    app.conf.update(task_time_limit=settings.analysis.hard_limit_s, worker_proc_alive_timeout=_START_S)
    return {"pool": "prefork", "concurrency": 1}


class _Child:
    """The pool's only process, with its warm model."""

    def __init__(self, app: Celery, settings: Settings, stopping: SharedFlag, loaded: SharedFlag) -> None:
        self._app, self._settings, self._stopping, self._loaded = app, settings, stopping, loaded
        self._analyst: Analyst | None = None

    def start(self, **_: Any) -> None:
        """Load and warm the model; rows wait while it cannot be loaded."""
        from worker.run import Analyst  # noqa: PLC0415 - TensorFlow is imported in the child alone
        from worker.uploads import Desk, Way  # noqa: PLC0415 - the same

        way = Way()
        node = Node(open_engine(self._settings.database), self._settings, self._stopping, give_way=way.give)
        loaded = Event()
        Thread(target=self._give_up_loading, args=(loaded,), daemon=True).start()
        try:
            self._analyst = Analyst(node)
            desk = Desk(node, way, self._analyst.warm_up)
            Thread(target=desk.serve, name="uploads", daemon=True).start()
            self._analyst.warm_up()
            self._loaded.set()
            # What stays for good is then not looked at again whenever a study's headers fill the memory.
            gc.freeze()
        except LungnodeError as error:
            _LOG.error("no analyses until it can be used: %s", error)
        finally:
            loaded.set()

    def _give_up_loading(self, loaded: Event) -> None:
        # Loading takes longer than anybody who stops a node wants to wait.
        while not loaded.wait(_LOOK_S):
            if self._stopping():
                os._exit(0)

    def analyse(self, row_id: int) -> None:
        """Analyse the most urgent row, which need not be this one, and wake the couriers of its results."""
        if self._analyst is not None:
            analyst = self._analyst
            _guarded(lambda: _wake_couriers(self._app, analyst.analyse_most_urgent()), row_id)
            analyst.judge_in_shadow()


def _deliveries(app: Celery, settings: Settings, stopping: SharedFlag) -> dict[str, Any]:
    node = Node(open_engine(settings.database), settings, stopping)

    def deliver(row_id: int) -> None:
        """Send whatever is due: a message only says that there is work."""
        _guarded(lambda: deliver_due(node), row_id)

    def report(row_id: int) -> None:
        _guarded(lambda: report_row(node, row_id), row_id)

    # Asking waits for peers as well; half of the couriers stay with deliveries.
    slots = BoundedSemaphore(max(1, settings.delivery.threads // 2))

    def confirm(row_id: int) -> None:
        """Ask about whatever is due, unless enough others do."""
        if slots.acquire(blocking=False):
            try:
                _guarded(lambda: confirm_due(node), row_id)
            finally:
                slots.release()

    app.task(name=CONFIRM_TASK, shared=False)(confirm)
    app.task(name=DELIVER_TASK, shared=False)(deliver)
    app.task(name=REPORT_TASK, shared=False)(report)
    return {"pool": "threads", "concurrency": settings.delivery.threads}


def _wake_couriers(app: Celery, delivery_ids: Iterable[int]) -> None:
    for delivery_id in delivery_ids:
        wake(app, DELIVER_TASK, delivery_id)


def _guarded(work: Callable[[], None], row_id: int) -> None:
    try:
        work()
    except UnavailableError as error:
        # The row stays due or its lease runs out: the clerk's sweep sends another message.
        _LOG.warning("row %s waits: %s", row_id, error)
    except Exception as error:  # noqa: BLE001 - the edge of the process; the message may quote a patient
        _LOG.error("row %s: %s", row_id, type(error).__name__, exc_info=_LOG.isEnabledFor(logging.DEBUG))
