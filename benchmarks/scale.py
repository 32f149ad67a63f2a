"""What the queue costs, and how far workers scale: `python -m benchmarks.scale`.

Rows, broker, Celery and workers are real; only the model is a fixed wait. Prints a table for each part; exit
code 1 when a bar is not met. Run it on a machine that does nothing else.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from celery import Celery
from redis import Redis
from sqlalchemy import Engine, func, select, text

from benchmarks.backlogs import LATER, add_backlog, add_one
from benchmarks.machine import describe_machine
from benchmarks.simulated import settings_of, simulated_workers
from daemon.clerk.dispatch import Dispatcher
from db.analyses import claim_analysis
from db.models import Analysis, AnalysisState
from db.session import open_engine, reading, transaction, upgrade
from lungnode.queue import ANALYSE_TASK, ANALYSIS_QUEUE, open_queue, wake
from lungnode.settings import Settings
from tests.databases import copied, execute
from tests.nodes import embedded_broker, wait_for
from tests.postgres import PostgreSQL, running_postgresql
from worker.hold import utc_now

BACKLOGS: Final = (0, 1_000, 10_000, 100_000)
PHASES: Final = ("queue", "wake, claim, keep", "sweep", "all")
WARM: Final = 3  # studies that are not counted
OVERHEAD_BAR_MS: Final = 150.0
CLAIMERS: Final = 8
CLAIM_BAR: Final = 500.0  # rows a second
WORKERS: Final = (1, 2, 4, 8, 16, 32)
LINEAR_BAR: Final = 0.95
FEW: Final = 500  # studies of the source that sends very much
_FORK: Final = multiprocessing.get_context("fork")


@contextmanager
def node(folder: Path, url: str) -> Iterator[tuple[Settings, Engine]]:
    """Run the broker of an empty node."""
    settings = settings_of(folder, url)
    folder.mkdir(parents=True, exist_ok=True)
    engine = open_engine(url)
    upgrade(engine)
    with embedded_broker(settings):
        yield settings, engine
    engine.dispose()


def overhead(folder: Path, url: str, backlog: int, rounds: int) -> list[list[float]]:
    """Work off urgent studies one by one beside a backlog.

    Returns:
        Seconds of each to queue it; from its message until its results are committed; for the sweep that
        sends one message, with as many under way as there may be.
    """
    with node(folder, url) as (settings, engine), open_queue(settings) as app:
        add_backlog(engine, backlog)
        if engine.dialect.name == "postgresql":
            execute(url, "ANALYZE")  # as it does by itself after a minute
        with simulated_workers(settings, 1, 0.0):
            _wait_until_ready(settings, 1)
            worked = [_work_off(engine, app) for _ in range(rounds + WARM)][WARM:]
        swept = list(_sweeps(Dispatcher(engine, settings, app), settings, rounds))
    return [[*work, sweep] for work, sweep in zip(worked, swept, strict=True)]


def _work_off(engine: Engine, app: Celery) -> tuple[float, float]:
    begin = time.perf_counter()
    row_id = add_one(engine, "EMERGENCY", 0)
    queued = time.perf_counter()
    wake(app, ANALYSE_TASK, row_id)
    _wait_until_done(engine, row_id)
    return queued - begin, time.perf_counter() - queued


def _sweeps(dispatcher: Dispatcher, settings: Settings, rounds: int) -> Iterator[float]:
    dispatcher.sweep(utc_now())
    with Redis(unix_socket_path=str(settings.broker_socket)) as client:
        for _ in range(rounds):
            client.lpop(ANALYSIS_QUEUE)
            begin = time.perf_counter()
            dispatcher.sweep(utc_now())
            yield time.perf_counter() - begin


def _wait_until_done(engine: Engine, row_id: int) -> None:
    wanted = select(Analysis.state).where(Analysis.id == row_id)
    while True:
        with reading(engine) as session:
            if session.scalar(wanted) == AnalysisState.DONE:
                return
        time.sleep(0.001)


def _wait_until_ready(settings: Settings, workers: int) -> None:
    """Wait until each worker waits for a message, and its child, with the model, for uploads."""
    with Redis(unix_socket_path=str(settings.broker_socket)) as client:
        wait_for(
            lambda: client.info("clients")["blocked_clients"] >= 2 * workers,  # type: ignore[index]
            limit_s=300,
            what="the workers",
        )


def report_overhead(databases: "Databases", rounds: int) -> bool:
    """Print what the queue costs a study; tell whether that is little, with and without a backlog."""
    print(f"\nqueue overhead a study, ms, {rounds} studies each: median (95th percentile)")
    print(f"{'database':12} {'backlog':>8}" + "".join(f"{name:>20}" for name in PHASES))
    good = True
    for kind in ("sqlite", "postgresql"):
        for backlog in BACKLOGS:
            with databases.empty(kind) as (folder, url):
                parts = np.array(overhead(folder, url, backlog, rounds)) * 1e3
            columns = [*parts.T, parts.sum(axis=1)]
            cells = [f"{np.median(each):.1f} ({np.percentile(each, 95):.1f})" for each in columns]
            print(f"{kind:12} {backlog:8}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
            good &= bool(np.median(columns[-1]) < OVERHEAD_BAR_MS)
    return good


def claims(url: str, rows: int) -> float:
    """Let eight processes claim everything that waits; return rows a second.

    Raises:
        AssertionError: A row was claimed twice, or never.
    """
    engine = open_engine(url)
    upgrade(engine)
    add_backlog(engine, rows)
    barrier, results = _FORK.Barrier(CLAIMERS + 1), _FORK.SimpleQueue()
    claimers = [_FORK.Process(target=_claim_all, args=(url, barrier, results)) for _ in range(CLAIMERS)]
    engine.dispose()
    for each in claimers:
        each.start()
    barrier.wait()
    start = time.perf_counter()
    taken = [row for _ in claimers for row in results.get()]
    took = time.perf_counter() - start
    with transaction(engine) as session:
        once = session.scalar(select(func.count()).where(Analysis.state == "running", Analysis.attempts == 1))
    if not len(taken) == len(set(taken)) == once == rows:
        raise AssertionError(f"{rows} rows, {len(taken)} claims of {len(set(taken))} rows, {once} once")
    return rows / took


def _claim_all(url: str, barrier: Any, results: Any) -> None:
    engine, taken = open_engine(url), []
    with reading(engine) as session:  # connected before the time begins
        session.execute(text("SELECT 1"))
    barrier.wait()
    while True:
        with transaction(engine) as session:
            held = claim_analysis(session, utc_now(), 60)
        if held is None:
            break
        taken.append(held.row_id)
    results.put(taken)


def report_claims(databases: "Databases", rows: int) -> bool:
    """Print how fast eight processes claim; tell whether that is fast enough."""
    with databases.empty("postgresql") as (_, url):
        rate = claims(url, rows)
    print(
        f"\nclaims by {CLAIMERS} processes on PostgreSQL: {rate:.0f} rows/s, {rows} rows, each claimed once"
    )
    return rate >= CLAIM_BAR


def throughput(folder: Path, url: str, workers: int, seconds: float, each: int) -> float:
    """Return the studies a second of so many workers, whose model takes `seconds`."""
    with ExitStack() as stack:
        settings, engine = stack.enter_context(node(folder, url))
        app = stack.enter_context(open_queue(settings))
        stack.enter_context(simulated_workers(settings, workers, seconds))
        _wait_until_ready(settings, workers)
        add_backlog(engine, workers * each)
        with _sweeping(Dispatcher(engine, settings, app), settings.clerk.sweep_s):
            begin, end = wait_for(lambda: _span(engine), limit_s=600, what="the studies")
    return workers * each / (end - begin).total_seconds()


@contextmanager
def _sweeping(dispatcher: Dispatcher, every_s: float) -> Iterator[None]:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            dispatcher.sweep(utc_now())
            stop.wait(every_s)

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _span(engine: Engine) -> tuple[datetime, datetime] | None:
    """Return when the first study was begun and the last one ended; None while some are not."""
    with reading(engine) as session:
        left = session.scalar(select(Analysis.id).where(Analysis.state != AnalysisState.DONE).limit(1))
        if left is not None:
            return None
        begin, end = session.execute(
            select(func.min(Analysis.started_at), func.max(Analysis.finished_at))
        ).one()
    return begin, end


def report_throughput(databases: "Databases", seconds: float, each: int) -> bool:
    """Print how workers scale; tell whether they do so linearly."""
    print(f"\nstudies an hour, a model that takes {seconds} s, {each} studies a worker, PostgreSQL")
    first, good = 0.0, True
    for workers in WORKERS:
        with databases.empty("postgresql") as (folder, url):
            rate = throughput(folder, url, workers, seconds, each)
        first = first or rate
        linear = rate / (workers * first)
        good &= linear >= LINEAR_BAR
        print(f"{workers:3} workers {rate * 3600:10.0f} {linear:6.2f} of linear", flush=True)
    return good


def report_limit(databases: "Databases", each: int) -> None:
    """Print what this machine carries at most: as many workers, and a model that takes no time."""
    with databases.empty("postgresql") as (folder, url):
        rate = throughput(folder, url, CLAIMERS, 0.0, each)
    print(
        f"limit: {rate:.1f} studies a second ({rate * 3600:.0f} an hour) by {CLAIMERS} workers without a wait"
    )


def report_fairness(databases: "Databases") -> bool:
    """Print when one study is begun that comes behind very many of another source."""
    places = []
    for kind in ("sqlite", "postgresql"):
        with databases.empty(kind) as (_, url):
            engine = open_engine(url)
            upgrade(engine)
            add_backlog(engine, FEW, ("MUCH",))
            add_one(engine, "ONE", LATER)
            places.append(_place_of(engine, "ONE"))
            engine.dispose()
    print(
        f"\none study behind {FEW} of another source is claimed as number {places[0]} (SQLite), {places[1]}"
    )
    return max(places) <= 2  # noqa: PLR2004 - behind the one that was first


def _place_of(engine: Engine, source: str) -> int:
    for place in range(1, FEW + 2):
        with transaction(engine) as session:
            held = claim_analysis(session, utc_now(), 60)
            if held and session.get_one(Analysis, held.row_id).source == source:
                return place
    raise AssertionError(f"no study of {source}")


class Databases:
    """Empty databases, one after the other; PostgreSQL synchronises its journal, as in use."""

    def __init__(self, folder: Path, server: PostgreSQL) -> None:
        self._folder, self._server, self._count = folder, server, 0

    @contextmanager
    def empty(self, kind: str) -> Iterator[tuple[Path, str]]:
        """Yield a folder for a node and the URL of its database."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        if kind == "sqlite":
            yield folder, f"sqlite:///{folder / 'lungnode.sqlite3'}"
            return
        with copied(self._server.url, "template0") as url:
            yield folder, url


PARTS: Final = ("overhead", "claims", "throughput", "fairness")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=50, help="studies of which the overhead is measured")
    parser.add_argument("--rows", type=int, default=10_000, help="rows to claim")
    parser.add_argument("--seconds", type=float, default=2.0, help="that a simulated model takes")
    parser.add_argument("--each", type=int, default=10, help="studies a worker")
    arguments = parser.parse_args()
    describe_machine("lungnode", "sqlalchemy", "celery")
    with tempfile.TemporaryDirectory(prefix="lungnode-scale-") as name, ExitStack() as stack:
        databases = Databases(Path(name), stack.enter_context(running_postgresql(durable=True)))
        parts: dict[str, Sequence[Callable[[], bool | None]]] = {
            "overhead": (lambda: report_overhead(databases, arguments.rounds),),
            "claims": (lambda: report_claims(databases, arguments.rows),),
            "throughput": (
                lambda: report_throughput(databases, arguments.seconds, arguments.each),
                lambda: report_limit(databases, 100),
            ),
            "fairness": (lambda: report_fairness(databases),),
        }
        results = [measure() for part in arguments.only for measure in parts[part]]
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    sys.exit(0 if all(result is not False for result in results) else 1)


if __name__ == "__main__":
    main()
