"""What the training cache takes and what it costs: `python -m benchmarks.training_cache STUDY...`.

Each STUDY is a folder with the DICOM files of one chest CT study. Sizes are of the lung slices of the chosen
series; seconds are by the clock, so nothing else should run.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainer.cache import Cache, StudyFiles
from trainer.cache_build import CacheFigures, build_cache, measure_cache

QUALITIES: Final = (95, 75, 50, 25, 10, None)  # of JPEG; None is PNG, without loss


def main() -> None:
    """Print a line for each encoding, and one for another number of processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_cache", description=__doc__)
    parser.add_argument("study", type=Path, nargs="+", help="folder of one study's DICOM files")
    studies = [read_study(folder) for folder in parser.parse_args().study]
    print(f"{'encoding':10} {'processes':>9} {'seconds':>8} {'again':>6} {'slices':>6} {'cached':>9}")
    for quality in QUALITIES:
        measure(studies, quality, 1)
    measure(studies, 75, os.cpu_count() or 1)


def read_study(folder: Path) -> StudyFiles:
    """Name the files of a study by their folder."""
    return StudyFiles(folder.name, 1, tuple(sorted(folder.rglob("*.dcm"))), folder.name)


def measure(studies: Sequence[StudyFiles], quality: int | None, processes: int) -> None:
    """Fill an empty cache, then look at the full one."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, again = (timed(studies, Cache(Path(folder), quality), processes) for _ in range(2))
        figures = measure_cache(build_cache(studies, Cache(Path(folder), quality), 1))
    encoding = "PNG" if quality is None else f"JPEG {quality}"
    print(
        f"{encoding:10} {processes:9} {seconds:8.1f} {again:6.2f} {figures.slices:6} "
        f"{figures.cached / 1e6:6.1f} MB {share(figures)}"
    )


def share(figures: CacheFigures) -> str:
    """Say how much of the slices' files as received, and of their pixels without compression, is left."""
    received, pixels = figures.cached / figures.received_slices, figures.cached / figures.stored_pixels
    return (
        f"{received:5.0%} of {figures.received_slices / 1e6:.1f} MB as received, "
        f"{pixels:4.0%} of {figures.stored_pixels / 1e6:.1f} MB without compression"
    )


def timed(studies: Sequence[StudyFiles], cache: Cache, processes: int) -> float:
    """Return the seconds of one build."""
    start = time.perf_counter()
    build_cache(studies, cache, processes)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
