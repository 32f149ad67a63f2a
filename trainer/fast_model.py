"""A model made ready for fast runtimes: quantised, measured against the reference, stored in its folder.

It happens at the end of a training, where the slices are at hand, and can be repeated for any model's folder.
The weights, and so the model's digest, stay as they are.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from lungnode.durable import replaced
from lungnode.errors import UnavailableError, UnusableError
from lungnode.model_folder import ModelInfo, describe_model
from lungnode.runtime import Slices, load_model
from lungnode.runtime.choice import Choice, Machine, this_machine
from lungnode.runtime.convert import NETWORK_FILE, Converted, convert, import_openvino
from lungnode.runtime.fast import Workshop, open_network
from lungnode.runtime.golden import Golden, golden_slices, save_golden
from lungnode.runtime.loaded import LoadedModel
from lungnode.runtime.record import (
    GOLDEN_FILE,
    INT8_FILE,
    RECORD_FILE,
    Deviation,
    Measured,
    Precision,
    Record,
    weights_beside,
)
from lungnode.runtime.reference import REFERENCE, build_with_weights
from lungnode.views import find_place, ways_of
from trainer.evaluate import SILENCE, Evaluation, evaluate
from trainer.gate import compare_runtimes
from trainer.grays import file_digest, load_gray
from trainer.manifest import digest_samples
from trainer.progress import Progress
from trainer.quantise import load_nncf, quantise
from trainer.samples import Sample, Split

CALIBRATION: Final = 300  # slices, at most
PICTURES: Final = 240  # slices without a study that the gate looks at, at most
BATCH: Final = 8
LEAST: Final = 30  # slices for either
# Shares of the convolutions that stay in floating point: more of them, until the gate is passed.
_KEPT: Final = (0.0, 0.25, 0.5)
_CALIBRATION_SHARE: Final = 0.3  # of the patients
_PHANTOM: Final = "LUNGNODE"  # the manufacturer of our phantoms, as samples name it
_FILES: Final = (INT8_FILE, weights_beside(Path(INT8_FILE)).name, GOLDEN_FILE)
_FLOATING: Final[tuple[Precision, ...]] = ("bf16", "fp32")


@dataclass(frozen=True)
class Parts:
    """Slices of different patients."""

    calibration: tuple[Sample, ...]
    gate: tuple[Sample, ...]


def part_samples(samples: Sequence[Sample], seed: int) -> Parts:
    """Part samples into those that calibrate and those that judge; no phantom and no test slice is in either.

    All slices of a study stay together; what stands alone is drawn evenly from each source and class.

    Raises:
        UnusableError: There are too few.
    """
    random = np.random.default_rng((seed, len(samples)))
    possible = [
        s
        for s in samples
        if s.split is not Split.TEST and s.attributes.get("manufacturer", "").upper() != _PHANTOM
    ]
    chosen = _choose_groups(possible, random)
    calibration = _draw([s for s in possible if s.group in chosen], CALIBRATION, random)
    rest = [s for s in possible if s.group not in chosen]
    pictures = _draw([s for s in rest if not s.study], PICTURES, random)
    parts = Parts(tuple(calibration), (*pictures, *(s for s in rest if s.study)))
    few = min(len(parts.calibration), len(parts.gate))
    if few < LEAST:
        raise UnusableError(
            f"{len(possible)} real slices of training and validation are too few to calibrate 8-bit integers "
            f"with and to prove them: at least {LEAST} of other patients are needed for each."
        )
    return parts


def _choose_groups(samples: Sequence[Sample], random: np.random.Generator) -> set[str]:
    """Choose the patients that calibrate: of each source and class a share, the rest of it judges."""
    positive = {sample.group for sample in samples if sample.positive}
    strata: dict[tuple[str, bool], dict[str, None]] = defaultdict(dict)
    for sample in samples:
        strata[sample.source, sample.group in positive][sample.group] = None
    chosen: set[str] = set()
    for groups in strata.values():
        drawn = random.permutation(len(groups))[: int(_CALIBRATION_SHARE * len(groups))]
        chosen |= {list(groups)[number] for number in drawn}
    return chosen


def _draw(samples: Sequence[Sample], most: int, random: np.random.Generator) -> list[Sample]:
    """Draw samples, one after the other of each source and class, until there are enough."""
    strata: dict[tuple[str, bool], list[Sample]] = defaultdict(list)
    for number in random.permutation(len(samples)):
        strata[samples[number].source, samples[number].positive].append(samples[number])
    turns = zip_longest(*(strata[key] for key in sorted(strata)))
    return [sample for turn in turns for sample in turn if sample is not None][:most]


def make_fast(folder: Path, samples: Sequence[Sample], progress: Progress = SILENCE) -> Record:
    """Quantise the model of a folder, measure every fast runtime of this machine, and store it all there.

    What was there is replaced; until the last file is, nothing of it is used.

    Args:
        folder: The model's.
        samples: Of its training and validation.
        progress: Hears what is done.

    Raises:
        UnusableError: There are too few slices, one cannot be read, or the model cannot be used.
        UnavailableError: A slice is away, NNCF is not installed, or the folder cannot be written.
    """
    info = describe_model(folder)
    parts = part_samples(samples, info.recipe.training.seed)
    load_nncf()  # or say at once that it is missing
    inputs = _inputs(parts.calibration, info)
    progress.begin("convert for OpenVINO", 1)
    converted = convert(build_with_weights(folder, info, lean=True))
    try:
        with TemporaryDirectory(prefix=".runtime-", dir=folder) as made_in:
            bench = _Bench(folder, info, Path(made_in), parts.gate, progress, this_machine())
            record = bench.measure(converted, inputs, _measured(parts.calibration))
            _replace(folder, Path(made_in), record)
    except OSError as error:
        raise UnavailableError(f"The model in {folder} cannot be changed: {error.strerror}.") from error
    return record


def _inputs(samples: Sequence[Sample], info: ModelInfo) -> Slices:
    """Look at each sample in one of its ways, all ways in turn."""
    found = []
    for number, sample in enumerate(samples):
        ways = ways_of(info.recipe.input, alone=not sample.study)
        gray = load_gray(sample)
        found.append(find_place(gray, ways[number % len(ways)], info.recipe.input).take(gray))
    return np.stack(found)


def _measured(samples: Sequence[Sample]) -> Measured:
    return Measured(
        slices=len(samples),
        positive=sum(sample.positive for sample in samples),
        studies=len({sample.study for sample in samples if sample.study}),
        sources=dict(sorted(Counter(sample.source for sample in samples).items())),
        digest=digest_samples(samples),
    )


@dataclass(frozen=True)
class _Bench:
    """Where the networks of one model are measured."""

    folder: Path
    info: ModelInfo
    made_in: Path
    samples: tuple[Sample, ...]
    progress: Progress
    machine: Machine

    def measure(self, converted: Converted, inputs: Slices, calibration: Measured) -> Record:
        """Quantise, measure every runtime of this machine, and write networks and proofs.

        Args:
            converted: The network in 32 bits.
            inputs: What it is calibrated with, shape (n, size, size).
            calibration: What these are.
        """
        reference = load_model(self.folder)
        slices = golden_slices(self.info.recipe.input)
        outputs = {REFERENCE: reference.outputs(slices)[1]}
        expected = evaluate(reference, self.samples, self.progress)
        self._save("fp32", converted.model)
        deviations: dict[Precision, Deviation] = {"int8": self._quantised(converted, inputs, expected)}
        for precision in _FLOATING:
            if self.machine.has(precision):
                deviations[precision] = self._compare(precision, expected)
        for precision in deviations:
            model = self._load(precision)
            outputs[model.runtime] = model.outputs(slices)[1]
        save_golden(Golden(slices, outputs), self.made_in / GOLDEN_FILE)
        return Record(
            model=self.info.digest,
            files={name: file_digest(self.made_in / name) for name in _FILES},
            deviations=deviations,
            calibration=calibration,
            gate=_measured(self.samples),
            made_with={name: version(name) for name in ("lungnode", "openvino", "nncf", "tensorflow")},
        )

    def _quantised(self, converted: Converted, inputs: Slices, expected: Evaluation) -> Deviation:
        """Quantise as much as passes the gate; return how far that is, or the closest try, from it."""
        for kept in _KEPT:
            self.progress.begin("quantise", 1)
            self._save("int8", quantise(converted, inputs, kept))
            found = self._compare("int8", expected)
            if found.passed:
                break
        return found

    def _compare(self, precision: Precision, expected: Evaluation) -> Deviation:
        return compare_runtimes(expected, evaluate(self._load(precision), self.samples, self.progress))

    def _save(self, precision: Precision, network: Any) -> None:
        import_openvino().save_model(network, self._path(precision), compress_to_fp16=False)

    def _load(self, precision: Precision) -> LoadedModel:
        shop = Workshop(self.made_in / "cache", self.machine)
        run = open_network(self._path(precision), precision, BATCH, self.info.size, shop)
        return LoadedModel(self.info, BATCH, Choice("openvino", precision, "").name, run)

    def _path(self, precision: Precision) -> Path:
        return self.made_in / (INT8_FILE if precision == "int8" else NETWORK_FILE)


def _replace(folder: Path, made_in: Path, record: Record) -> None:
    """Put the new files into the model's folder, and last what says that they are whole.

    Raises:
        OSError: They cannot be written there; what is there then does not fit its record and is not used.
    """
    for name in _FILES:
        with (made_in / name).open("rb") as file:
            os.fsync(file.fileno())
        (made_in / name).chmod(0o644)
        (made_in / name).replace(folder / name)
    with replaced(folder / RECORD_FILE) as file:
        file.write(record.model_dump_json(indent=2).encode() + b"\n")
