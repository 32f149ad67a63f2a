"""What a model's folder holds for fast runtimes beside its weights: networks, proofs and figures.

    int8.xml, int8.bin   the network in 8-bit integers, as OpenVINO reads it
    golden.safetensors   slices of a phantom, and what each runtime said of them where this was made
    runtime.json         what model it was made of, the files' digests, and the figures of the gate

The trainer writes them (trainer/fast_model.py). They follow from the model and do not belong to its digest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from lungnode.digest import file_digest
from lungnode.errors import UnusableError
from lungnode.recipe import Part, read_part

Precision = Literal["int8", "bf16", "fp32"]

RECORD_FILE: Final = "runtime.json"
INT8_FILE: Final = "int8.xml"
GOLDEN_FILE: Final = "golden.safetensors"


def weights_beside(network: Path) -> Path:
    """Return the file that holds the numbers of a network in OpenVINO's format."""
    return network.with_suffix(".bin")


class Deviation(Part):
    """How far a runtime is from the reference, on slices that did not calibrate it."""

    largest_difference: float  # of a slice's probability
    mean_difference: float  # of a slice's probability, without its sign
    auc_difference: float | None  # absolute; None where one of the classes is missing
    slice_flips: int  # slices on the other side of the threshold
    study_flips: int  # studies on the other side
    objections: tuple[str, ...] = ()  # why it is not used; empty: it passed the gate

    @property
    def passed(self) -> bool:
        """Whether it may be used."""
        return not self.objections


class Measured(Part):
    """What was calibrated or measured with."""

    slices: int
    positive: int
    studies: int
    sources: Mapping[str, int] = Field(default_factory=dict)  # slices of each
    digest: str = ""  # SHA-256 of files and labels


class Record(Part):
    """What was made for fast runtimes, of which model, and how far it is from the reference."""

    model: str  # digest of the model
    files: Mapping[str, str]  # SHA-256 by name
    deviations: Mapping[Precision, Deviation]  # of OpenVINO
    calibration: Measured
    gate: Measured
    made_with: Mapping[str, str] = Field(default_factory=dict)  # versions, and the processor


def read_record(folder: Path, digest: str) -> Record | None:
    """Read a model's record; None where there is none.

    Args:
        folder: The model's.
        digest: The model's.

    Raises:
        UnusableError: It cannot be read, or is of another model.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    record = read_part(Record, path)
    if record.model != digest:
        raise UnusableError(
            f"{path} was made of another model ({record.model[:12]}) than {digest[:12]}; make it anew with "
            f"`lungnode models quantise`."
        )
    return record


def check_files(folder: Path, record: Record) -> None:
    """See that the files are those that were measured.

    Raises:
        UnusableError: One is missing or another one.
    """
    for name, digest in record.files.items():
        try:
            found = file_digest(folder / name)
        except OSError as error:
            raise UnusableError(f"The file {folder / name} cannot be read: {error.strerror}.") from error
        if found != digest:
            raise UnusableError(f"The file {folder / name} is not the one that was measured.")
