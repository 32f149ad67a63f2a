"""What a slice costs the model, by runtime and batch, and in a script that any user would write.

Each is measured in a process of its own: `python -m benchmarks.inference WHAT` prints one JSON object.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import get_frame

from lungnode.settings import AnalysisSettings, Settings

RUNTIMES: Final = (("openvino", "int8"), ("openvino", "bf16"), ("openvino", "fp32"), ("tensorflow", "fp32"))
BATCHES: Final = (1, 4, 8, 16)
SECONDS: Final = 4.0  # of each measurement, at least


def main(arguments: Sequence[str]) -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference")
    parser.add_argument("what", choices=("runtime", "keras", "script"))
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--study", type=Path, help="folder of DICOM files, for the script")
    wanted = parser.parse_args(arguments)
    if wanted.what == "script":
        measured = script(sorted(wanted.study.iterdir()))
    elif wanted.what == "keras":
        measured = keras_batches(wanted.batch)
    else:
        limits = {"runtime": wanted.runtime, "precision": wanted.precision, "batch": wanted.batch}
        measured = runtime(Settings(analysis=AnalysisSettings.model_validate(limits)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(measured | {"peak_mb": peak}))
    return 0


def runtime(settings: Settings) -> dict[str, Any]:
    """Measure the shipped model on one runtime."""
    from lungnode.model_folder import SHIPPED_MODEL  # noqa: PLC0415 - with what it loads
    from lungnode.runtime import open_model  # noqa: PLC0415

    begin = time.perf_counter()
    model = open_model(SHIPPED_MODEL, settings)
    size = model.info.size
    slices = np.random.default_rng(0).integers(0, 255, (model.batch, size, size)).astype(np.uint8)
    model.predict(slices)
    ready = time.perf_counter() - begin
    return {
        "ms": 1000 * _seconds_of(lambda: model.predict(slices)) / model.batch,
        "ready_s": ready,
        "ran": model.runtime,
    }


def keras_batches(batch: int) -> dict[str, Any]:
    """Measure the shipped model as Keras runs it when it is asked for the predictions of a batch."""
    from lungnode.model_folder import SHIPPED_MODEL, describe_model  # noqa: PLC0415 - with what it loads
    from lungnode.runtime.reference import build_with_weights  # noqa: PLC0415

    begin = time.perf_counter()
    info = describe_model(SHIPPED_MODEL)
    network = build_with_weights(SHIPPED_MODEL, info)
    slices = np.random.default_rng(0).integers(0, 255, (batch, info.size, info.size, 1)).astype(np.float32)
    network.predict(slices, verbose=0)
    ready = time.perf_counter() - begin
    seconds = _seconds_of(lambda: network.predict(slices, verbose=0))
    return {"ms": 1000 * seconds / batch, "ready_s": ready, "ran": "tensorflow, Keras's predict"}


def script(paths: Sequence[Path]) -> dict[str, Any]:
    """Measure the plain script on a study: pydicom, and Keras's ResNet50 slice by slice."""
    from lungnode.runtime import load_tensorflow  # noqa: PLC0415 - it takes seconds

    begin = time.perf_counter()
    load_tensorflow()
    import keras  # noqa: PLC0415

    model = keras.applications.ResNet50(weights=None, classes=2)
    _script_slice(model, paths[0])
    ready = time.perf_counter()
    for path in paths:
        _script_slice(model, path)
    seconds = time.perf_counter() - ready
    return {"ms": 1000 * seconds / len(paths), "ready_s": ready - begin, "seconds": seconds}


def _script_slice(model: Any, path: Path) -> NDArray[np.float32]:
    import keras  # noqa: PLC0415

    ds = dcmread(path)
    # pydicom has no decoder of its own for JPEG Lossless; with this one the script is at its best.
    stored = imagecodecs.jpeg8_decode(get_frame(ds.PixelData, 0, number_of_frames=1))
    hounsfield = stored * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    gray = np.clip((hounsfield + 1350) / 1500 * 255, 0, 255).astype(np.uint8)
    resized = np.asarray(Image.fromarray(gray).resize((224, 224)), np.float32)
    batch = keras.applications.resnet50.preprocess_input(np.repeat(resized[None, :, :, None], 3, axis=3))
    probabilities: NDArray[np.float32] = model.predict(batch, verbose=0)
    return probabilities


def _seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds of one call, the median of several."""
    found: list[float] = []
    spent = 0.0
    while spent < SECONDS or len(found) < 3:  # noqa: PLR2004 - rounds
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
        spent += found[-1]
    return float(np.median(found))


def measured_apart(*arguments: str) -> dict[str, Any]:
    """Run this module in a process of its own and return what it measured."""
    command = (sys.executable, "-m", "benchmarks.inference", *arguments)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
