"""A node's database and archive with a study in it, without receiver, clerk and broker."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom import Dataset, dcmread
from sqlalchemy import Engine

from db.models import Analysis, Instance, Study
from db.session import transaction
from lungnode.model_folder import Decision, ModelInfo
from lungnode.recipe import Input, Recipe
from lungnode.runtime import ClassMaps, Probabilities, Slices
from lungnode.settings import AnalysisSettings, Destination, DicomDestination, Rule, Settings
from worker.hold import Node
from worker.run import Analyst

NOON: Final = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
PACS: Final = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104)


@dataclass
class OneProbability:
    """A model that finds the same everywhere, and may be told to misbehave."""

    probability: float = 0.75
    error: Exception | None = None
    before_predict: Callable[[], object] = lambda: None
    batch: int = 4
    runtime: str = "toy"
    info: ModelInfo = field(
        default_factory=lambda: ModelInfo(
            "test", "1", "ab" * 32, Recipe(name="test", input=Input(size=64, crop="lung")), Decision()
        )
    )

    def predict(
        self,
        slices: Slices,
        *,
        alone: bool = False,  # noqa: ARG002 - it reads all alike
    ) -> tuple[Probabilities, ClassMaps]:
        """Answer, or raise."""
        if np.any(slices):  # not the warm-up
            self.before_predict()
            if self.error is not None:
                raise self.error
        count = len(slices)
        return np.full(count, self.probability, np.float32), np.ones((count, 2, 2), np.float32)


@dataclass
class Bench:
    """A node whose archive holds a study, without clerk and broker."""

    engine: Engine
    folder: Path
    model: OneProbability = field(default_factory=OneProbability)
    destinations: tuple[Destination, ...] = (PACS,)
    rules: tuple[Rule, ...] = ()
    stopping: bool = False
    now: datetime = NOON

    @property
    def settings(self) -> Settings:
        """What the node is set to."""
        limits = AnalysisSettings(max_attempts=2)
        return Settings(data=self.folder, destinations=self.destinations, rules=self.rules, analysis=limits)

    def archive(self, paths: tuple[Path, ...], revision: int = 1, **values: Any) -> int:
        """Put files into the archive as the clerk does, and queue the revision's analysis."""
        (self.folder / "archive").mkdir(exist_ok=True)
        with transaction(self.engine) as session:
            found = session.query(Study).one_or_none()
            row = found or Study(study_instance_uid="", created_at=NOON, changed_at=NOON)
            for path in paths:
                ds = dcmread(path, stop_before_pixels=True)
                row.study_instance_uid = ds.StudyInstanceUID
                shutil.copy(path, self.folder / "archive" / path.name)
                row.instances.append(_instance(ds, path, revision))
            analysis = Analysis(
                **{"study": row, "revision": revision, "created_at": NOON, "due_at": NOON, **values}
            )
            session.add(analysis)
            session.flush()
            return analysis.id

    def analyse(self) -> list[int]:
        """Do what a worker does for one message."""
        node = Node(self.engine, self.settings, lambda: self.stopping, lambda: self.now)
        return Analyst(node, lambda _folder, _settings: self.model).analyse_most_urgent()

    def row(self, row_id: int) -> Analysis:
        """Return what is written down, outputs and deliveries included."""
        with transaction(self.engine) as session:
            row = session.get_one(Analysis, row_id)
            assert row.outputs is not None
            assert row.deliveries is not None
            return row

    def output(self, row_id: int, group: str) -> Dataset:
        """Read the first composed file of a group."""
        chosen = next(output for output in self.row(row_id).outputs if output.group == group)
        return dcmread(self.folder / "outputs" / chosen.path)

    def files(self) -> set[str]:
        """Name every file below the outputs."""
        folder = self.folder / "outputs"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _instance(ds: Dataset, path: Path, revision: int) -> Instance:
    return Instance(
        series_instance_uid=ds.SeriesInstanceUID,
        sop_instance_uid=ds.SOPInstanceUID,
        sop_class_uid=ds.SOPClassUID,
        transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
        path=path.name,
        size=path.stat().st_size,
        digest=path.name,
        revision=revision,
        received_at=NOON,
    )
