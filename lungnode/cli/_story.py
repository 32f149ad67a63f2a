"""What `lungnode demo` tells when the results have arrived."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image
from pydicom import Dataset, dcmread
from rich.console import Console
from rich.markup import escape
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import UNFINISHED_ANALYSES, Analysis, DeliveryState, Instance
from db.session import open_engine, transaction
from lungnode.errors import UnusableError
from lungnode.narrative import describe

_ON_THE_WAY: Final = (DeliveryState.PENDING, DeliveryState.SENDING)


@dataclass(frozen=True)
class Result:
    """An analysis whose outputs arrived, as its row says."""

    verdict: str
    probability: float | None
    threshold: float | None
    reason: str
    completeness: str
    phases: Mapping[str, float]
    details: Mapping[str, Any]
    instances: int


@dataclass(frozen=True)
class Arrived:
    """What the stand-in PACS holds."""

    report: Dataset
    captures: tuple[Dataset, ...]


def read_result(data: Path) -> Result | None:
    """Return the analysis once it and all its deliveries have ended; None before."""
    engine = open_engine(f"sqlite:///{data / 'lungnode.sqlite3'}")
    try:
        with transaction(engine) as session:
            row = session.scalar(select(Analysis).order_by(Analysis.id).limit(1))
            if row is None or row.state in UNFINISHED_ANALYSES:
                return None
            if any(delivery.state in _ON_THE_WAY for delivery in row.deliveries):
                return None
            return _result(session, row)
    finally:
        engine.dispose()


def _result(session: Session, row: Analysis) -> Result:
    instances = select(func.count()).select_from(Instance).where(Instance.study_id == row.study_id)
    return Result(
        verdict=row.verdict or row.state,
        probability=row.probability,
        threshold=row.threshold,
        reason=row.reason,
        completeness=row.completeness,
        phases=row.phases,
        details=row.details,
        instances=session.scalar(instances) or 0,
    )


def read_arrived(folder: Path, result: Result) -> Arrived:
    """Read what arrived.

    Raises:
        UnusableError: Report or heatmap is missing.
    """
    instances = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    reports = [instance for instance in instances if instance.Modality == "SR"]
    captures = tuple(instance for instance in instances if "PixelData" in instance)
    if not reports or not captures:
        raise UnusableError(
            f"The study was found {_decision(result)}, and {len(reports)} reports and {len(captures)} images "
            "arrived at the stand-in PACS; the demo wants both."
        )
    return Arrived(reports[0], captures)


def save_heatmap(arrived: Arrived, result: Result, target: Path) -> None:
    """Save the heatmap of the most suspicious slice that has one as a PNG."""
    probabilities = {each["sop_instance_uid"]: each["probability"] for each in result.details["slices"]}

    def suspicion(capture: Dataset) -> float:
        sources = capture.get("SourceImageSequence") or []
        shown = [probabilities.get(s.ReferencedSOPInstanceUID, -1.0) for s in sources]
        return shown[0] if len(shown) == 1 else -1.0  # the summary page shows no single slice

    Image.fromarray(max(arrived.captures, key=suspicion).pixel_array).save(target)


def tell(console: Console, result: Result, arrived: Arrived, heatmap: Path) -> None:
    """Print the story."""
    console.print(f"\n[bold]Received[/]   {result.instances} instances; complete: {result.completeness}")
    console.print(f"[bold]Decided[/]    {_decision(result)}")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result.phases.items())
    console.print(f"[bold]Took[/]       {seconds}", soft_wrap=True)
    console.print(f"[bold]Arrived[/]    1 report and {len(arrived.captures)} images at the stand-in PACS")
    console.print(
        f"\n[bold]The Structured Report[/]\n{escape(describe(arrived.report))}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"\n[bold]A heatmap[/]  {escape(str(heatmap))}", soft_wrap=True, highlight=False)
    console.print("\nFor research use only, not for diagnosis.")


def _decision(result: Result) -> str:
    if result.probability is None or result.threshold is None:
        return escape(f"{result.verdict}: {result.reason}")
    text = f"{result.verdict}: probability {result.probability:.3f}, threshold {result.threshold:.3f}"
    return escape(f"{text}. {result.reason}".rstrip(" ."))
