"""Which runtime runs a model, and why."""

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lungnode.runtime.record import Precision, Record

Runtime = Literal["tensorflow", "openvino"]
# What a processor says of itself where 8-bit integers and bfloat16 are instructions. Without those the first
# is not exact (sums of two products saturate), and the second is emulated.
INT8_FLAGS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})
_PREFERRED: Final[tuple[Precision, ...]] = ("int8", "bf16", "fp32")
_NAMES: Final[dict[Precision, str]] = {"int8": "8-bit integers", "bf16": "bfloat16", "fp32": "32-bit numbers"}
_CUDA_WHEEL: Final = "nvidia.cudnn"


@dataclass(frozen=True)
class Machine:
    """What can compute."""

    flags: frozenset[str]  # of the processor
    gpu: bool

    def has(self, precision: Precision) -> bool:
        """Tell whether the processor has instructions for it."""
        needed = {"int8": INT8_FLAGS, "bf16": BF16_FLAGS}.get(precision)
        return needed is None or bool(needed & self.flags)


@dataclass(frozen=True)
class Choice:
    """What runs a model."""

    runtime: Runtime
    precision: Precision
    reason: str  # one sentence
    warning: str = ""  # one sentence; what is wished for cannot be

    @property
    def name(self) -> str:
        """As an analysis stores it."""
        return f"{self.runtime} {self.precision}"


def this_machine() -> Machine:
    """Look at this machine, without loading anything."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return Machine(frozenset(flags), gpu=_has_gpu())


def _has_gpu() -> bool:
    """Tell whether there is a GPU that TensorFlow may see; importing TensorFlow to know takes seconds."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path("/dev").glob("nvidia[0-9]*")) and _has_cuda()


def _has_cuda() -> bool:
    try:
        return importlib.util.find_spec(_CUDA_WHEEL) is not None
    except ModuleNotFoundError:  # of the parent
        return False


def choose(
    runtime: Literal["auto"] | Runtime,
    precision: Literal["auto"] | Precision,
    record: Record | None,
    machine: Machine,
) -> Choice:
    """Choose what runs a model: the fastest that passed the gate, unless a setting names another one.

    Args:
        runtime: The setting `analysis.runtime`.
        precision: The setting `analysis.precision`.
        record: Of the model; None where nothing was measured.
        machine: This one.
    """
    if runtime == "tensorflow":
        return Choice("tensorflow", "fp32", "The setting analysis.runtime asks for it.")
    if runtime == "auto" and precision == "auto" and machine.gpu:
        return Choice("tensorflow", "fp32", "There is a GPU.")
    if precision != "auto":
        problem = objection(precision, record, machine)
        if not problem:
            return Choice("openvino", precision, "The setting analysis.precision asks for it.")
        best = _fastest(record, machine)
        return Choice(
            "openvino", best.precision, best.reason, f"{_NAMES[precision]} cannot be used: {problem}."
        )
    return _fastest(record, machine)


def objection(precision: Precision, record: Record | None, machine: Machine) -> str:
    """Say in one clause why a precision is not used; empty: it can be."""
    if not machine.has(precision):
        return "this processor has no instructions for it"
    if record is None:
        # 32 bits need no proof: the load compares them with the reference.
        return (
            "" if precision == "fp32" else "the model holds no figures of it; see `lungnode models quantise`"
        )
    measured = record.deviations.get(precision)
    if measured is None:
        return "" if precision == "fp32" else "it was not measured where the model was made"
    return "" if measured.passed else f"it failed the gate, {'; '.join(measured.objections)}"


def _fastest(record: Record | None, machine: Machine) -> Choice:
    """Return the fastest precision that can be used; TensorFlow where none can."""
    problems: dict[Precision, str] = {}
    for precision in _PREFERRED:
        problem = objection(precision, record, machine)
        if not problem:
            without = "".join(f" Not {_NAMES[other]}: {why}." for other, why in problems.items())
            reason = f"It is the fastest that can be used here.{without}"
            return Choice("openvino", precision, reason, _failures(record, problems, machine))
        problems[precision] = problem
    reason = f"OpenVINO cannot be used: {problems['fp32']}."
    return Choice("tensorflow", "fp32", reason, _failures(record, problems, machine))


def _failures(record: Record | None, problems: Iterable[Precision], machine: Machine) -> str:
    """Say what failed the gate and would otherwise be used here."""
    measured = record.deviations if record else {}
    failed = [
        each for each in problems if each in measured and machine.has(each) and not measured[each].passed
    ]
    return " ".join(
        f"{_NAMES[each]} failed the gate: {'; '.join(measured[each].objections)}." for each in failed
    )
