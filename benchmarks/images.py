"""What a slice costs before the network sees it: `python -m benchmarks.images`.

One thread; CPU time, for the machine may be busy; the median of 15. Decoding is measured in every transfer
syntax of the same 512 x 512 chest slice; the other phases on a whole phantom study.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from lungnode.lungs import coverage
from lungnode.phantom import phantom_study
from lungnode.pixels import crop_box, hounsfield, lung_window, model_input
from tests.ct_images import ENCODERS, compressed, ct_image

ROUNDS: Final = 15
SLICES: Final = 60


def main() -> None:
    """Print a table of milliseconds a slice."""
    with tempfile.TemporaryDirectory() as folder:
        drawing = time.process_time()
        study = phantom_study(Path(folder), SLICES)
        show("phantom, drawn and written", (time.process_time() - drawing) / SLICES * 1000)
        slices = [dcmread(path) for path in study.paths]
    measure_decoding(np.frombuffer(slices[SLICES // 2].PixelData, np.uint16).reshape(512, 512))
    measure_preparation(np.stack([lung_window(hounsfield(ds)) for ds in slices]))
    values = hounsfield(slices[SLICES // 2])
    show("lung window", milliseconds(lambda: lung_window(values)))


def measure_decoding(pixels: np.ndarray[tuple[int, int], np.dtype[np.uint16]]) -> None:
    """Time stored bytes to Hounsfield units, in every syntax."""
    for syntax in (ExplicitVRLittleEndian, RLELossless, *ENCODERS):
        ds = ct_image(pixels) if syntax == ExplicitVRLittleEndian else compressed(pixels, syntax)
        show(f"decode {syntax} {syntax.name[:40]}", milliseconds(partial(hounsfield, ds)))


def measure_preparation(volume: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> None:
    """Time what follows the window, on a whole study and on its middle slice."""
    middle = volume[len(volume) // 2]
    box = crop_box(middle, "lung")
    show("crop to the lung", milliseconds(lambda: crop_box(middle, "lung")))
    show("resize to 299 x 299", milliseconds(lambda: model_input(middle, box)))
    show("lung coverage of a study, a slice", milliseconds(lambda: coverage(volume, 0.76, 5)) / len(volume))


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median CPU time of one call."""
    work()
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken) * 1000


def show(what: str, cost_ms: float) -> None:
    """Print one line."""
    print(f"{what:<75}{cost_ms:8.2f} ms")


if __name__ == "__main__":
    main()
