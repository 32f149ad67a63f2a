"""How fast the results database answers with very many studies: `python -m benchmarks.results`.

Requests go through the whole application, sign-in, JSON and pages included, without a network. Prints a table
for SQLite and one for PostgreSQL; exit code 1 when a 95th percentile is above the bar, a common search scans
the table, or the export needs more memory for more rows.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import Engine, event, text
from starlette.testclient import TestClient

from benchmarks.generated import fill
from daemon.web.export import as_csv, as_parquet
from db.listings import ResultFilter
from db.session import open_engine, upgrade
from tests.postgres import running_postgresql
from tests.web import Web

BAR_MS: Final = 100.0
STUDIES: Final = 100_000
SEARCHES: Final = {
    "everything": "",
    "patient's name": "patient=schm",
    "whole name": "patient=Müller, Anna",
    "Patient ID": "patient=P000123",
    "part of a name (pattern)": "patient=*anna*",
    "accession number": "accession_number=A00050000",
    "month": "study_date_from=2023-01-01&study_date_to=2023-01-31",
    "verdict, 62 %": "verdict=negative",
    "verdict, 20 %": "verdict=positive",
    "verdict, 0.6 %": "verdict=error",
    "state: complete": "state=complete",
    "state: receiving": "state=receiving",
    "analysis: queued": "analysis=queued",
    "completeness, 73 %": "completeness=quiet",
    "completeness, 2 %": "completeness=incomplete",
    "source, 40 %": "source=CT1",
    "source, 1 %": "source=TELERAD",
    "model, 60 %": "model=lungnode-resnet50 1.0",
    "model, 0.1 %": "model=ours 20260501.101500",
    "verdict, source, date": "verdict=positive&source=TELERAD&study_date_from=2022-01-01",
    "name and verdict": "patient=mull&verdict=positive",
}
ORDERS: Final = ("changed", "study_date", "patient", "probability")
# A pattern is a scan by its nature; so is a list without a filter, of an index, until its page is full.
SCANS: Final = ("everything", "part of a name (pattern)")
OTHERS: Final = {
    "count, everything": "/api/v1/studies/count",
    "count, verdict": "/api/v1/studies/count?verdict=negative",
    "results": "/api/v1/results",
    "results, verdict 0.6 %": "/api/v1/results?verdict=error",
    "deliveries": "/api/v1/deliveries",
    "deliveries, dead": "/api/v1/deliveries?state=dead&state=refused",
    "labels": "/api/v1/labels",
    "a study": "/api/v1/studies/1.2.840.99999.50000",
    "page of a study": "/studies/1.2.840.99999.50000",
    "page of operations": "/operations",
    "DICOMweb studies": "/dicomweb/studies?PatientName=schm*&limit=50",
    "DICOMweb offset 50,000": "/dicomweb/studies?limit=50&offset=50000",
}


# Where the next page begins, in JSON and in the address of a page; the studies that a page leads to.
_NEXT: Final = re.compile(r'(?:"next":"|after=)([\w-]+)')
_STUDY: Final = re.compile(r'href="/studies/([0-9.]+)"')


@dataclass(frozen=True)
class Timed:
    """How long requests took."""

    name: str
    milliseconds: list[float]
    rows: int

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return float(np.percentile(self.milliseconds, 95))

    def __str__(self) -> str:
        median = float(np.median(self.milliseconds))
        return f"{self.name:42} {self.rows:5} {median:9.1f} {self.p95:9.1f} {max(self.milliseconds):9.1f}"


def measure(client: TestClient, rounds: int) -> Iterator[Timed]:
    """Time each search in each order, following its pages, and the other lists."""
    for name, query in SEARCHES.items():
        for order in ORDERS:
            asked = f"?{query}&order={order}".replace("?&", "?")
            yield _pages(client, f"{name}, by {order}", f"/api/v1/studies{asked}", rounds)
            yield _pages(client, f"{name}, by {order}, page", f"/{asked}", rounds)
    for name, address in OTHERS.items():
        times, rows = [], 0
        for _ in range(rounds):
            start = time.perf_counter()
            answer = client.get(address)
            times.append((time.perf_counter() - start) * 1e3)
            rows = _count(answer)
        yield Timed(name, times, rows)


def _pages(client: TestClient, name: str, first: str, rounds: int) -> Timed:
    times, rows, address = [], 0, first
    for _ in range(rounds):
        start = time.perf_counter()
        answer = client.get(address)
        times.append((time.perf_counter() - start) * 1e3)
        answer.raise_for_status()
        rows = max(rows, _count(answer))
        after = _NEXT.search(answer.text)
        address = f"{first}&after={after[1]}" if after else first
    return Timed(name, times, rows)


def _count(answer: Any) -> int:
    kind = answer.headers.get("Content-Type", "")
    if "json" not in kind:
        return len(set(_STUDY.findall(answer.text)))
    document = answer.json()
    if isinstance(document, list):
        return len(document)
    return next((len(value) for value in document.values() if isinstance(value, list)), 1)


def scans(engine: Engine, client: TestClient) -> list[str]:
    """Return the searches for which the database would read the whole table of studies."""
    statements: list[tuple[str, Any]] = []

    def keep(_c: Any, _u: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> None:
        statements.append((statement, parameters))

    found = []
    for name, query in SEARCHES.items():
        if name in SCANS:
            continue
        statements.clear()
        event.listen(engine, "before_cursor_execute", keep)
        for path in ("/api/v1/studies", "/"):
            client.get(f"{path}?{query}")
        event.remove(engine, "before_cursor_execute", keep)
        plans = [plan for each in statements if "FROM studies" in each[0] for plan in _plan(engine, *each)]
        if any("SCAN studies" in plan or "Seq Scan on studies" in plan for plan in plans):
            found.append(name)
    return found


def _plan(engine: Engine, statement: str, parameters: Any) -> list[str]:
    if not statement.lstrip().startswith("SELECT"):
        return []
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        return [str(row[-1]) for row in rows]


def report(engine: Engine, folder: Path, rounds: int, studies: int) -> bool:
    """Measure one database and print its table; False when a bar is not met."""
    upgrade(engine)
    start = time.monotonic()
    fill(engine, studies)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))  # as autovacuum does within minutes
    print(f"\n{engine.dialect.name}: {studies:,} studies, filled in {time.monotonic() - start:.0f} s")
    web = Web(engine, folder)
    client = web.program("admin", "view", "operate")
    for address in ("/api/v1/studies", "/", *OTHERS.values()):
        client.get(address)  # the first request compiles
    print(f"{'':42} {'rows':>5} {'median ms':>9} {'p95 ms':>9} {'max ms':>9}")
    good = True
    for timed in measure(client, rounds):
        print(timed, "" if timed.p95 < BAR_MS else "ABOVE THE BAR")
        good &= timed.p95 < BAR_MS
    scanned = scans(engine, client)
    print(f"common searches that scan the table: {', '.join(scanned) or 'none'}")
    return good and not scanned


def export(url: str) -> None:
    """Export everything and print rows a second and the memory that it took; a process of its own."""
    engine, before = open_engine(url), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, made in (("CSV", as_csv), ("Parquet", as_parquet)):
        start, size = time.monotonic(), 0
        for piece in made(engine, ResultFilter()):
            size += len(piece)
        took = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{name}: {size / 1e6:.1f} MB in {took:.1f} s, {(peak - before) / 1024:.0f} MB of memory more")
    engine.dispose()


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """Yield the URLs of an empty database of each kind."""
    with tempfile.TemporaryDirectory(prefix="lungnode-results-") as name, running_postgresql() as server:
        yield {"sqlite": f"sqlite:///{Path(name) / 'lungnode.sqlite3'}", "postgresql": server.url}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--export", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.export)
        return
    good = True
    with databases() as urls, tempfile.TemporaryDirectory() as folder:
        for kind, url in urls.items():
            engine = open_engine(url)
            good &= report(engine, Path(folder) / kind, arguments.rounds, arguments.studies)
            engine.dispose()
            command = (sys.executable, "-m", "benchmarks.results", "--export", url)
            print(f"export of everything, {kind}:")
            sys.stdout.flush()
            subprocess.run(command, check=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
