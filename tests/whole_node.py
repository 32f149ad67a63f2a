"""A whole node in one process for browser tests: receiver, clerk, worker, courier, web, and a PACS.

The receiver is a process of its own; everything else takes its turn when a test says so.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

from pydicom import Dataset
from sqlalchemy import select

from db.models import Analysis, Study
from db.session import open_engine, transaction, upgrade
from lungnode.cli._sender import send
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.runtime import open_model
from lungnode.settings import DicomDestination, ReceiverSettings
from tests.couriers import Pacs, dimse, pacs
from tests.nodes import embedded_broker, wait_for
from tests.receiving import running_receiver
from tests.spooling import ClerkNode, Clock
from tests.web import Web, serving
from worker.courier import deliver_due
from worker.hold import Node
from worker.run import Analyst
from worker.uploads import Desk, Way

QUIET_S = 600.0  # longer than any pause of the clerk's settings


@dataclass
class WholeNode:
    """A node whose programs share a clock."""

    folder: Path
    web: Web
    base: str  # address of the web
    clerk: ClerkNode
    pacs: Pacs
    receiver: DicomDestination
    worker: Node
    analyst: Analyst

    def receive(self, slices: int = 24, *, size: int = 256, **phantom: Any) -> PhantomStudy:
        """Send a phantom by C-STORE, and have it indexed, analysed and delivered."""
        study = phantom_study(self.folder / f"phantom-{len(self.studies())}", slices, size=size, **phantom)
        send(self.receiver, "CT1", study.paths)
        spool = self.web.node.settings.spool
        wait_for(lambda: list(spool.glob("*/ended.json")) or None, what="the end of the association")
        self.web.clock.now = datetime.now(UTC)
        self.clerk.clerk.round()
        self.clerk.rounds_after(QUIET_S)
        self.work()
        return study

    def work(self) -> None:
        """Analyse and deliver what is due."""
        self.analyst.analyse_most_urgent()
        deliver_due(self.worker)

    def studies(self) -> list[str]:
        """Name all studies."""
        with transaction(self.web.engine) as session:
            return list(session.scalars(select(Study.study_instance_uid)))

    def analysis(self, study: str) -> Analysis:
        """Return the last analysis of a study, with its deliveries."""
        with transaction(self.web.engine) as session:
            chosen = select(Analysis).join(Study).where(Study.study_instance_uid == study)
            row = session.scalars(chosen.order_by(Analysis.revision.desc())).first()
            assert row is not None
            assert row.deliveries is not None
            return row


def not_registered() -> Dataset:
    """A PACS that does not know us. Source: PS3.7 C.5.13, Refused: Not Authorized."""
    answer = Dataset()
    answer.Status, answer.ErrorComment = 0x0124, "Station LUNGNODE is not registered"
    return answer


@contextmanager
def whole_node(folder: Path) -> Iterator[WholeNode]:
    """Run the node while the block runs."""
    with ExitStack() as stack:
        engine = open_engine(f"sqlite:///{folder / 'lungnode.sqlite3'}")
        stack.callback(engine.dispose)
        upgrade(engine)
        receiver = stack.enter_context(running_receiver(folder))
        peer = stack.enter_context(pacs())
        clock = Clock()
        clock.now = datetime.now(UTC)
        settings: dict[str, Any] = {
            "destinations": (dimse(peer.port),),
            "receiver": ReceiverSettings(disk_reject_bytes=0, disk_warn_bytes=0),
        }
        web = Web(engine, folder / "data", settings, clock)
        clerk = ClerkNode(engine, web.node.settings, clock)
        stopping = Event()
        worker = Node(engine, web.node.settings, stopping.is_set, clock)
        analyst = Analyst(worker, open_model)
        stack.enter_context(embedded_broker(web.node.settings))
        desk = Thread(target=Desk(worker, Way(), analyst.warm_up).serve)
        desk.start()
        stack.callback(desk.join)
        stack.callback(stopping.set)
        base = stack.enter_context(serving(web.app))
        ours = dimse(receiver.port, ae_title="LUNGNODE")
        yield WholeNode(folder, web, base, clerk, peer, ours, worker, analyst)
