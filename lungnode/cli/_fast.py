"""What a model runs on, how it is told, and how it is made fast."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungnode.cli._evaluated import find_place
from lungnode.cli._progress import shown
from lungnode.errors import LungnodeError, UnusableError
from lungnode.model_folder import describe_model
from lungnode.runtime import load_tensorflow
from lungnode.runtime.choice import Choice, this_machine
from lungnode.runtime.opening import look
from lungnode.runtime.record import Deviation, Record
from lungnode.settings import Settings
from trainer.manifest import read_manifest
from trainer.promotion import find_samples

if TYPE_CHECKING:
    from trainer.samples import Sample


def chosen(folder: Path, settings: Settings) -> tuple[Record | None, Choice]:
    """Say what would run a model here, without loading it.

    Raises:
        UnusableError: The model cannot be read.
    """
    return look(folder, describe_model(folder), settings, this_machine())


def runtime_record(folder: Path, settings: Settings) -> dict[str, Any]:
    """Return what would run a model here, and the figures of the gate, as JSON."""
    record, choice = chosen(folder, settings)
    told: dict[str, Any] = {"runtime": choice.name, "reason": choice.reason, "warning": choice.warning}
    return told | {"gate": record.model_dump(mode="json") if record else None}


def runtime_lines(folder: Path, settings: Settings) -> list[str]:
    """Say what would run a model here, and how far it is from the reference."""
    record, choice = chosen(folder, settings)
    lines = [f"runs on: {choice.name}. {choice.reason}"]
    if choice.warning:
        lines.append(f"warning: {choice.warning}")
    return lines + (gate_lines(record) if record else [])


def gate_lines(record: Record) -> list[str]:
    """Say how far each fast runtime is from the reference, a line each."""
    gate = record.gate
    lines = [
        f"compared with TensorFlow on {gate.slices} slices ({gate.positive} positive) and {gate.studies} "
        f"studies; calibrated with {record.calibration.slices} slices of other patients:"
    ]
    return lines + [f"  openvino {name}: {_deviation(found)}" for name, found in record.deviations.items()]


def _deviation(found: Deviation) -> str:
    area = "unknown" if found.auc_difference is None else f"{found.auc_difference:.4f}"
    verdict = "passed" if found.passed else f"FAILED, {'; '.join(found.objections)}"
    return (
        f"probability differs by {found.mean_difference:.4f}, at most {found.largest_difference:.3f}; "
        f"AUC by {area}; other verdicts: {found.slice_flips} slices, {found.study_flips} studies; {verdict}"
    )


def make_it_fast(folder: Path, samples: "Sequence[Sample]") -> Record:
    """Quantise a model and measure it; it is not changed else.

    Raises:
        UnusableError: There are too few slices, or one cannot be read.
        UnavailableError: A slice is away, or NNCF is not installed.
    """
    load_tensorflow()
    from trainer.fast_model import make_fast  # noqa: PLC0415 - TensorFlow is loaded quietly first

    with shown() as progress:
        return make_fast(folder, samples, progress)


def try_to_make_fast(folder: Path, samples: "Sequence[Sample]") -> None:
    """Do the same at the end of a training, which it must not spoil: what stands in the way is told."""
    try:
        record = make_it_fast(folder, samples)
    except LungnodeError as error:
        sys.stderr.write(f"Not made fast: {error} It can be done later: lungnode models quantise {folder}\n")
        return
    for line in gate_lines(record):
        sys.stderr.write(f"{line}\n")


def quantise(settings: Settings, wanted: str, manifest: Path | None, *, as_json: bool) -> None:
    """Make a model fast with the slices of a list, or of its own training.

    Raises:
        UnusableError: No list is known, there are too few slices, or the model cannot be used.
        UnavailableError: A slice is away, or NNCF is not installed.
    """
    folder = find_place(settings, wanted).folder
    listed = manifest or find_samples(folder, settings.data / "runs")
    if listed is None:
        raise UnusableError(
            f"What the model in {folder} was trained on is not known here; name a --manifest."
        )
    record = make_it_fast(folder, read_manifest(listed))
    if as_json:
        sys.stdout.write(
            json.dumps({"model": str(folder), **record.model_dump(mode="json")}, indent=2) + "\n"
        )
    else:
        sys.stdout.write("\n".join(gate_lines(record)) + "\n")
