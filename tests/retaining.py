"""Studies that are analysed and delivered, with their files, and a way to be killed in between."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from daemon.clerk.retention import Retention
from db.models import Analysis, AnalysisState, Delivery, DeliveryState, Output, Study
from db.session import transaction
from lungnode.settings import RetentionSettings
from lungnode.shown_maps import MAPS_FILE
from tests.spooling import STUDY, ClerkNode, slices

MONTH_S: Final = 31 * 24 * 3600


class KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


def keep_for(node: ClerkNode, days: int | None = 30, **limits: Any) -> None:
    """Let the node delete files after so many days."""
    node.restart(retention=RetentionSettings(days=days, **limits))


def settle(node: ClerkNode, study: str = STUDY, count: int = 3) -> None:
    """Receive a study and do what workers do: a result, an output, a delivery, and what a training caches."""
    node.receive(*slices(range(1, count + 1), study), name=f"a{study}")
    node.rounds_after(200)
    analyse(node, study)


def analyse(node: ClerkNode, study: str = STUDY) -> None:
    """End the study's last analysis."""
    settings = node.settings
    with transaction(node.engine) as session:
        row = session.scalars(
            select(Analysis).join(Study).where(Study.study_instance_uid == study).order_by(Analysis.id.desc())
        ).first()
        assert row is not None
        row.state, row.verdict, row.finished_at = AnalysisState.DONE, "positive", node.clock()
        path = f"{study}/{row.revision}/{study}.9.{row.revision}.dcm"
        values = {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34", "size": 6, "digest": ""}
        uids = {"sop_instance_uid": Path(path).stem, "series_instance_uid": f"{study}.9"}
        row.outputs.append(Output(group="sr", path=path, **uids, **values))
        due = {"due_at": node.clock(), "created_at": node.clock(), "finished_at": node.clock()}
        row.deliveries.append(Delivery(destination="PACS", group="sr", state=DeliveryState.STORED, **due))
    maps = settings.outputs / study / str(row.revision) / MAPS_FILE
    for file in (settings.outputs / path, settings.cache / "studies" / study / "r1_jpeg/0001.jpg"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"result")
    maps.touch()  # so small that their bytes are not counted


def sweep(node: ClerkNode, after_s: float = MONTH_S) -> list[str]:
    """Let time pass and delete what is due."""
    node.clock.pass_s(after_s)
    return Retention(node.engine, node.settings).sweep(node.clock())


def files(node: ClerkNode) -> set[str]:
    """Every file of studies below the data folder, trash included."""
    folders = (node.settings.archive, node.settings.outputs, node.settings.cache)
    # Path.rglob fails where a clerk removes a folder meanwhile; os.walk does not.
    walked = (entry for folder in folders for entry in os.walk(folder))
    found = (Path(folder) / name for folder, _, names in walked for name in names)
    return {str(path.relative_to(node.settings.data)) for path in found}


def change(node: ClerkNode, table: type[Any], study: str = STUDY, **values: Any) -> None:
    """Change a study's rows of a table."""
    of_study = Study.study_instance_uid == study
    paths = {
        Study: select(Study),
        Analysis: select(Analysis).join(Study),
        Delivery: select(Delivery).join(Analysis).join(Study),
    }
    with transaction(node.engine) as session:
        for row in session.scalars(paths[table].where(of_study)):
            for name, value in values.items():
                setattr(row, name, value)


_FILE_STEPS: Final = ("os.rename", "os.remove", "os.rmdir", "os.link", "shutil.rmtree")
_plan: dict[str, int] = {}
_passed = Counter[str]()


def _watch(event: str, _arguments: object) -> None:
    if _plan and event in _FILE_STEPS:
        _passed["files"] += 1
        if _passed["files"] == _plan["at"]:
            raise KilledError


sys.addaudithook(_watch)  # it cannot be taken away, so it does nothing without a plan


@contextmanager
def killed_at_file_step(number: int) -> Iterator[None]:
    """Die at the `number`th change of names while the block runs."""
    _passed.clear()
    _plan["at"] = number
    try:
        yield
    except KilledError:
        pass
    finally:
        _plan.clear()
