"""Numbers for Prometheus.

What is there comes from the database at each scrape; what happened (phases, deliveries) from rows that ended
since this process started, each counted once; the receiver's counts from the files that its processes leave;
whether programs live from their signs of life. So no other program needs a port.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from daemon.receiver.told import FOLDER
from daemon.web.access import requires
from daemon.web.alerts.conditions import STORE_AWAY
from daemon.web.node import Node, WebNode
from daemon.web.permissions import Permission
from daemon.web.programs import Program, programs
from db.alerts import open_alerts
from db.models import AnalysisState, DeliveryState, StudyState, UploadState
from db.numbers import Numbers, agreement, finished_analyses, finished_deliveries, read_numbers
from db.session import reading

router = APIRouter(include_in_schema=False)
# Rows are written by others, whose clocks differ and whose transactions last: so far back is looked again.
_OVERLAP: Final = timedelta(minutes=5)
_PHASE_S: Final = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_DELIVERY_S: Final = (1, 3, 10, 30, 60, 120, 300, 900, 3600, 14_400, 86_400)
_SCORES: Final = tuple(step / 10 for step in range(1, 11))
_OUTCOMES: Final = ("released", "aborted", "lost")
_TRAFFIC: Final = ("instances", "bytes")


class Measures:
    """What this process tells Prometheus."""

    def __init__(self, node: WebNode) -> None:
        self._node = node
        self._registry = CollectorRegistry()
        self._lock = Lock()
        self._since = node.clock()
        self._seen: dict[tuple[str, int], datetime] = {}
        self._registry.register(_Now(node))
        self._analyses = Counter(
            "lungnode_analyses_ended",
            "analyses that ended",
            ("state", "verdict", "model"),
            registry=self._registry,
        )
        self._phases = Histogram(
            "lungnode_analysis_phase_seconds",
            "seconds of each phase of an analysis",
            ("phase",),
            buckets=_PHASE_S,
            registry=self._registry,
        )
        self._scores = Histogram(
            "lungnode_analysis_probability",
            "probability of studies",
            ("model",),
            buckets=_SCORES,
            registry=self._registry,
        )
        self._deliveries = Histogram(
            "lungnode_delivery_seconds",
            "seconds from a study's completion to the end of a delivery",
            ("destination", "state"),
            buckets=_DELIVERY_S,
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Return all of it in Prometheus's format."""
        with self._lock:
            self._count_what_ended()
        return generate_latest(self._registry)

    def _count_what_ended(self) -> None:
        now, since = self._node.clock(), self._since - _OVERLAP
        with reading(self._node.engine) as session:
            analyses = finished_analyses(session, since)
            deliveries = finished_deliveries(session, since)
        for analysis in analyses:
            if self._is_new("analysis", analysis):
                self._count_analysis(analysis)
        for delivery in deliveries:
            if self._is_new("delivery", delivery):
                seconds = (delivery.finished_at - delivery.created_at).total_seconds()
                self._deliveries.labels(delivery.destination, delivery.state).observe(max(0.0, seconds))
        self._since = max(self._since, now)
        self._seen = {key: at for key, at in self._seen.items() if at >= self._since - 2 * _OVERLAP}

    def _is_new(self, kind: str, row: Any) -> bool:
        key = (kind, row.id)
        is_new = key not in self._seen
        self._seen[key] = row.finished_at
        return is_new

    def _count_analysis(self, row: Any) -> None:
        self._analyses.labels(row.state, row.verdict, row.model).inc()
        for phase, seconds in (row.phases or {}).items():
            if isinstance(seconds, int | float):
                self._phases.labels(phase).observe(seconds)
        if row.probability is not None:
            self._scores.labels(row.model).observe(row.probability)


class _Now(Collector):
    """What is there at a scrape."""

    def __init__(self, node: WebNode) -> None:
        self._node = node

    def describe(self) -> list[Any]:
        """Say nothing before the first scrape: the database may be away."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield everything."""
        now = self._node.clock()
        with reading(self._node.engine) as session:
            numbers, agreed = read_numbers(session, now), agreement(session)
            wrong = {alert.name for alert in open_alerts(session)}
        yield from _of_numbers(numbers, [each.name for each in self._node.settings.destinations])
        yield _family(
            "lungnode_labels",
            "labelled studies, by what model and label say",
            ("model", "label", "verdict"),
            agreed,
        )
        yield from _of_disk(self._node.settings.data)
        # It is asked by whoever looks for alerts: a scrape must not wait for it.
        told = "1: the object store answered when it was asked last, or there is none"
        yield GaugeMetricFamily("lungnode_store_reachable", told, int(STORE_AWAY not in wrong))
        yield from _of_receiver(self._node.settings.data / FOLDER)
        yield from _of_programs(programs(self._node.settings.data))


def _of_numbers(numbers: Numbers, destinations: Sequence[str]) -> Iterator[Any]:
    # Zeros are told: of a number that is there for the first time, Prometheus knows no increase.
    for name, told, states, counts in (
        ("lungnode_studies", "studies", StudyState, numbers.studies),
        ("lungnode_analyses", "analyses", AnalysisState, numbers.analyses),
        ("lungnode_uploads", "uploads", UploadState, numbers.uploads),
    ):
        all_counts = {(state.value,): 0 for state in states} | {(state,): n for state, n in counts.items()}
        yield _family(name, f"{told} by state", ("state",), all_counts)
    zeros = {(name, state.value): 0 for name in destinations for state in DeliveryState}
    yield _family("lungnode_deliveries", "deliveries", ("destination", "state"), zeros | numbers.deliveries)
    yield GaugeMetricFamily(
        "lungnode_quarantined_files", "files that cannot be indexed", numbers.quarantined_files
    )
    yield CounterMetricFamily("lungnode_instances_received", "instances indexed", numbers.instances)
    yield GaugeMetricFamily(
        "lungnode_analysis_oldest_seconds",
        "how long the oldest due analysis waits",
        numbers.oldest_analysis_s,
    )
    yield GaugeMetricFamily(
        "lungnode_delivery_oldest_seconds",
        "how long the oldest due delivery waits",
        numbers.oldest_delivery_s,
    )


def _family(name: str, told: str, labels: tuple[str, ...], values: dict[Any, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, told, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _of_disk(data: Path) -> Iterator[Any]:
    if data.exists():
        usage = shutil.disk_usage(data)
        yield GaugeMetricFamily("lungnode_disk_free_bytes", "free space of the data folder", usage.free)
        yield GaugeMetricFamily("lungnode_disk_size_bytes", "size of the data folder's disk", usage.total)


def _of_receiver(folder: Path) -> Iterator[Any]:
    where = ("host", "process")
    associations = CounterMetricFamily(
        "lungnode_receiver_associations", "associations that ended", labels=(*where, "outcome")
    )
    refusals = CounterMetricFamily(
        "lungnode_receiver_refusals", "what was refused, by name", labels=(*where, "name")
    )
    traffic = {
        name: CounterMetricFamily(f"lungnode_receiver_{name}", f"{name} stored", labels=where)
        for name in _TRAFFIC
    }
    for path in sorted(folder.glob("receiver-*.json")):
        place = tuple(path.stem.removeprefix("receiver-").rpartition("-")[::2])
        for name, count in _counts(path).items():
            if name in traffic:
                traffic[name].add_metric(place, count)
            else:
                (associations if name in _OUTCOMES else refusals).add_metric((*place, name), count)
    yield from (associations, refusals, *traffic.values())


def _counts(path: Path) -> dict[str, int]:
    try:
        return {str(name): int(count) for name, count in json.loads(path.read_text())["counts"].items()}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _of_programs(known: list[Program]) -> Iterator[Any]:
    labels = ("program", "host")
    alive = {(each.name, each.host): int(each.alive) for each in known}
    ready = {(each.name, each.host): int(each.ready) for each in known}
    yield _family("lungnode_program_alive", "1: it gave a sign of life lately", labels, alive)
    yield _family("lungnode_program_ready", "1: it can work", labels, ready)


@router.get("/metrics")
async def metrics(request: Request, node: Node) -> Response:
    """Return the numbers; with a token of the scope `metrics`, unless they are open."""
    if not node.settings.web.open_metrics:
        await requires(Permission.METRICS)(request)
    measures: Measures = request.app.state.measures
    return Response(await run_in_threadpool(measures.text), media_type=CONTENT_TYPE_LATEST)
