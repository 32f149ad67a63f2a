"""The network of a model's folder in OpenVINO's format, in 32-bit floating point.

TensorFlow is needed for it, so a worker lets another process do it, once for each model:
`python -m lungnode.runtime.convert MODEL_FOLDER TARGET_FOLDER`.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from lungnode.errors import UnusableError
from lungnode.model_folder import describe_model
from lungnode.runtime.golden import Golden, golden_slices, save_golden
from lungnode.runtime.record import GOLDEN_FILE
from lungnode.runtime.reference import REFERENCE, build_with_weights, load_model
from lungnode.runtime.stem import lighten_stem

NETWORK_FILE: Final = "network.xml"
_LIMIT_S: Final = 600


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would tell its makers of every conversion."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # its import then fails
    import openvino  # noqa: PLC0415 - it takes a second

    return openvino


@dataclass(frozen=True)
class Converted:
    """A network in OpenVINO's format."""

    model: Any  # openvino.Model: gray (n, size, size, 1) in 32 bits to class maps and outputs
    head: tuple[str, ...]  # names of the head's operations


def convert(network: Any) -> Converted:
    """Return a network with a lean head in OpenVINO's format."""
    from lungnode.network import split_head  # noqa: PLC0415 - it imports TensorFlow

    trunk, rest = (_export(part) for part in split_head(network))
    head = tuple(each.get_friendly_name() for each in rest.get_ops())
    for parameter, result in zip(rest.get_parameters(), trunk.get_results(), strict=True):
        parameter.output(0).replace(result.input_value(0))
    ov = import_openvino()
    joined = ov.Model(rest.get_results(), trunk.get_parameters(), "lungnode")
    lighten_stem(ov, joined)
    return Converted(joined, head)


def _export(network: Any) -> Any:
    ov = import_openvino()  # before Keras does
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / NETWORK_FILE)
        network.export(path, format="openvino", verbose=False)
        # Read in whole: the file goes away.
        return ov.Core().read_model(path, config={"ENABLE_MMAP": False})


def convert_folder(folder: Path, target: Path) -> None:
    """Write the network of a model's folder, and what the reference says of a phantom.

    Raises:
        UnusableError: The model cannot be used.
    """
    info, ov = describe_model(folder), import_openvino()
    converted = convert(build_with_weights(folder, info, lean=True))
    ov.save_model(converted.model, target / NETWORK_FILE, compress_to_fp16=False)
    slices = golden_slices(info.recipe.input)
    _, outputs = load_model(folder, batch=len(slices)).outputs(slices)
    save_golden(Golden(slices, {REFERENCE: outputs}), target / GOLDEN_FILE)


def convert_elsewhere(folder: Path, target: Path) -> None:
    """Let another process convert, for what TensorFlow takes of memory is never given back.

    Raises:
        UnusableError: It could not.
    """
    command = [sys.executable, "-m", "lungnode.runtime.convert", str(folder), str(target)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, text=True, timeout=_LIMIT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnusableError(f"The model in {folder} was not converted within {_LIMIT_S} s.") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing was said"]
        raise UnusableError(f"The model in {folder} could not be converted for OpenVINO: {said[-1]}.")


if __name__ == "__main__":
    convert_folder(Path(sys.argv[1]), Path(sys.argv[2]))
