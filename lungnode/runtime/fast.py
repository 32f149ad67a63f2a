"""OpenVINO: the network on a processor, in 8-bit integers, bfloat16 or 32-bit floating point.

What has to be made first lies in a cache: the network in OpenVINO's format, where the model's folder does not
hold it, and the network compiled for this processor. What lies there is named by what decides it, appears
whole under its last name and can be deleted at any time. Two processes at once may both make it, and find
whichever was there first.
"""

import hashlib
import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lungnode.durable import replaced, sync_files
from lungnode.errors import UnusableError
from lungnode.model_folder import ModelInfo
from lungnode.runtime.choice import Choice, Machine
from lungnode.runtime.convert import NETWORK_FILE, convert_elsewhere, import_openvino
from lungnode.runtime.golden import read_golden
from lungnode.runtime.loaded import ClassMaps, LoadedModel, Outputs, Run
from lungnode.runtime.record import GOLDEN_FILE, INT8_FILE, Precision, Record, check_files, weights_beside
from lungnode.runtime.stem import round_stem

_LOG = logging.getLogger(__name__)
_SHORT: Final = 24  # digits of a digest, in names


@dataclass(frozen=True)
class Workshop:
    """Where networks are made ready, and for what."""

    cache: Path  # a folder; it is made when it is needed
    machine: Machine


def load_fast(
    folder: Path, info: ModelInfo, batch: int, choice: Choice, record: Record | None, shop: Workshop
) -> LoadedModel:
    """Load a model for OpenVINO, and see that it says what it said where it was made.

    Args:
        folder: The model's.
        info: Of the model.
        batch: Slices given to the network at once.
        choice: What it is loaded for.
        record: Of the model; 8-bit integers need it.
        shop: Where what is missing is made.

    Raises:
        UnusableError: It cannot be loaded, or is broken on this machine.
    """
    place = _int8(folder, record) if choice.precision == "int8" else _converted(folder, info, shop)
    network = place / (INT8_FILE if choice.precision == "int8" else NETWORK_FILE)
    run = open_network(network, choice.precision, batch, info.size, shop)
    model = LoadedModel(info, batch, choice.name, run)
    read_golden(place / GOLDEN_FILE).check(model, choice.precision)
    return model


def _int8(folder: Path, record: Record | None) -> Path:
    """Return the folder of the network in 8-bit integers, whose files are those that were measured."""
    if record is None:
        raise UnusableError(f"The model in {folder} holds no network in 8-bit integers.")
    check_files(folder, record)
    return folder


def _converted(folder: Path, info: ModelInfo, shop: Workshop) -> Path:
    """Return the folder of the network in 32-bit floating point; made the first time, by another process.

    Raises:
        UnusableError: It cannot be made.
    """
    target = shop.cache / f"{info.digest[:_SHORT]}-{version('lungnode')}-{version('openvino')}"
    if target.is_dir():
        return target
    try:
        shop.cache.mkdir(parents=True, exist_ok=True)
        made = Path(mkdtemp(prefix=".part-", dir=shop.cache))
    except OSError as error:
        raise UnusableError(f"The cache {shop.cache} cannot be written: {error.strerror}.") from error
    try:
        convert_elsewhere(folder, made)
        sync_files(made)
        with suppress(OSError):  # another process was first: the same lies there
            made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def open_network(path: Path, precision: Precision, batch: int, size: int, shop: Workshop) -> Run:
    """Compile a network, or take it from the cache; it runs a batch's slices side by side, each by itself.

    A core a slice needs no other core in between: with one of two cores taken by another program, that is a
    third faster than all cores on one batch.

    Args:
        path: Of the network in OpenVINO's format.
        precision: How it computes.
        batch: Slices at once, at most.
        size: Rows and columns of a slice.
        shop: Where compiled ones are kept.

    Raises:
        UnusableError: It cannot be read.
    """
    compiled = _compiled(path, precision, (1, size, size, 1), shop)
    requests = [compiled.create_infer_request() for _ in range(batch)]

    def run(slices: NDArray[np.uint8]) -> tuple[ClassMaps, Outputs]:
        used = requests[: len(slices)]
        for row, request in enumerate(used):
            request.start_async([slices[row : row + 1]])
        for request in used:
            request.wait()
        # Joining copies: the next call writes over what the requests hold.
        maps, outputs = (
            np.concatenate([request.get_output_tensor(number).data for request in used])
            for number in range(2)
        )
        return maps[..., 0], outputs

    return run


def _compiled(path: Path, precision: Precision, shape: tuple[int, ...], shop: Workshop) -> Any:
    """Return an openvino.CompiledModel that takes 8-bit gray."""
    ov = import_openvino()
    core = ov.Core()
    # What is no 8-bit integer beside those is computed in bfloat16 where that is fast.
    floating = "f32" if precision == "fp32" or not shop.machine.has("bf16") else "bf16"
    hints = {"INFERENCE_PRECISION_HINT": floating, "PERFORMANCE_HINT": "THROUGHPUT"}
    kept = shop.cache / f"{_name(path, precision, shape, shop)}.compiled"
    if kept.exists():
        try:
            return core.import_model(kept.read_bytes(), "CPU", hints)
        # What is damaged raises whatever the part that reads it raises.
        except Exception as error:  # noqa: BLE001 - decoding a file
            _LOG.info("compiled network %s made anew: %s", kept.name, type(error).__name__)
    try:
        network = core.read_model(path)
        if precision == "bf16":
            round_stem(ov, network)
        compiled = core.compile_model(_takes_bytes(network, shape), "CPU", hints)
    except RuntimeError as error:  # OpenVINO knows no other
        raise UnusableError(f"OpenVINO cannot use {path}: {str(error).splitlines()[0]}") from error
    _keep(compiled, kept)
    return compiled


def _takes_bytes(model: Any, shape: tuple[int, ...]) -> Any:
    """Let a network take 8-bit gray of one shape."""
    ov = import_openvino()
    before = ov.preprocess.PrePostProcessor(model)
    before.input().tensor().set_element_type(ov.Type.u8)
    built = before.build()
    built.reshape(list(shape))
    return built


def _name(path: Path, precision: Precision, shape: tuple[int, ...], shop: Workshop) -> str:
    """Name a compiled network by everything that decides it."""
    digest = hashlib.sha256()
    try:
        for file in (path, weights_beside(path)):
            digest.update(file.read_bytes())
    except OSError as error:
        raise UnusableError(f"The file {error.filename} cannot be read: {error.strerror}.") from error
    machine = (version("openvino"), os.cpu_count(), sorted(shop.machine.flags))
    digest.update(repr((precision, shape, machine)).encode())
    return digest.hexdigest()[:_SHORT]


def _keep(compiled: Any, path: Path) -> None:
    """Keep a compiled network for the next start; without a place for it, that one takes a second longer."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            file.write(compiled.export_model().getvalue())
    except OSError as error:
        _LOG.info("compiled network not kept in %s: %s", path.parent, error.strerror)
