"""From the last slice to the report in the PACS: `python -m benchmarks.analysis`.

A node with a stand-in PACS on this machine; studies of JPEG Lossless phantoms whose slices are lung for two
thirds. Beside it, in the same run, what any user would write: pydicom and Keras's ResNet50, slice by slice,
and the model in TensorFlow, in batches. `--only` chooses parts, `--soak N` is the long one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.analysing import Bench, running
from benchmarks.inference import BATCHES, RUNTIMES, measured_apart
from benchmarks.machine import describe_machine
from benchmarks.studies import draw

SIZES: Final = (60, 150, 300, 600)
ROUNDS: Final = 3  # studies of each size; the middle one is shown
LOAD: Final = (12, 150)  # studies, and slices of each
SOAK_SLICES: Final = 12
SOAK_STEP: Final = 50  # studies
PARTS: Final = ("inference", "studies", "fast", "load")

_MEASURED: Final = ("lungnode", "tensorflow", "keras", "openvino", "pydicom", "imagecodecs")


def main(arguments: Sequence[str]) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysis")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="slices of a study")
    parser.add_argument(
        "--settings", default="", help="lines of [analysis], for example runtime='tensorflow'"
    )
    parser.add_argument("--soak", type=int, default=0, help="so many studies instead; shows the memory")
    wanted = parser.parse_args(arguments)
    describe_machine(*_MEASURED)
    with tempfile.TemporaryDirectory(prefix="lungnode-bench-") as name:
        folder, parts = Path(name), () if wanted.soak else wanted.only or PARTS
        if wanted.soak:
            soak(folder, wanted.soak, wanted.settings)
        if "inference" in parts:
            inference()
        for profile in ("full", "fast"):
            if {"full": "studies"}.get(profile, profile) in parts:
                studies(folder, wanted.sizes, profile, wanted.settings)
        if "load" in parts:
            load(folder, wanted.settings)
    return 0


def inference() -> None:
    """Show what a slice costs the model."""
    print("\n| runtime | " + " | ".join(f"batch {batch}, ms" for batch in BATCHES) + " | ready, s | MB |")
    print("|---|" + "---|" * (len(BATCHES) + 2))
    found = [_rows("runtime", "--runtime", runtime, "--precision", each) for runtime, each in RUNTIMES]
    found.append(_rows("keras"))
    fastest = min(found[:2])
    for name, taken in zip(("TensorFlow", "Keras's predict"), found[-2:], strict=True):
        print(f"{name} takes {taken / fastest:.1f} times as long as the faster of int8 and bf16, batch 8")


def _rows(*chosen: str) -> float:
    """Print what a runtime takes, and return its milliseconds a slice in batches of 8."""
    found = [measured_apart(*chosen, "--batch", str(batch)) for batch in BATCHES]
    eight = found[BATCHES.index(8)]
    cells = " | ".join(f"{each['ms']:.1f}" for each in found)
    print(f"| {eight['ran']} | {cells} | {eight['ready_s']:.1f} | {eight['peak_mb']:.0f} |", flush=True)
    return float(eight["ms"])


def studies(folder: Path, sizes: Sequence[int], profile: str, settings: str) -> None:
    """Show the way of studies through a node."""
    print(f"\nprofile {profile}: seconds since the study was complete")
    tables = f"[analysis]\nprofile = '{profile}'\n{settings}\n"
    with running(folder / profile, tables) as bench:
        ready, keeps = bench.ready_s, bench.memory_mb("VmRSS")
        print(f"\nthe node's worker is ready {ready:.1f} s after the node's start and keeps {keeps:.0f} MB")
        for number, size in enumerate(sizes):
            _study(bench, folder / f"{profile}-{size}", size, with_head=number == 0)


def _study(bench: Bench, folder: Path, size: int, *, with_head: bool) -> None:
    made, ways = draw(folder / "phantom", size), []
    for number in range(ROUNDS):
        paths = made.write(folder / str(number))
        bench.send(paths)
        ways.append(bench.way_of(str(made.instances[0].StudyInstanceUID)))
    way = sorted(ways, key=lambda each: each.report_s)[ROUNDS // 2]
    if with_head:
        plain = ("script", "its start", "times", "with its start")
        titles = ("slices", "lung", "report", "heatmaps", *way.phases, "peak, MB", *plain)
        print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    phases = " | ".join(f"{seconds:.2f}" for seconds in way.phases.values())
    peak = bench.memory_mb("VmHWM")
    found = measured_apart("script", "--study", str(folder / "0"))
    seconds, start = found["seconds"], found["ready_s"]
    times = f"{seconds / way.report_s:.1f} | {(seconds + start) / way.report_s:.1f}"
    script = f"{seconds:.1f} | {start:.1f} | {times}"
    spent = f"{way.report_s:.2f} | {way.heatmaps_s:.2f}"
    print(f"| {size} | {way.lung} | {spent} | {phases} | {peak:.0f} | {script} |", flush=True)


def load(folder: Path, settings: str) -> None:
    """Show how many studies an hour one and two workers analyse."""
    count, size = LOAD
    made = draw(folder / "load-phantom", size)
    print(f"\n| workers | studies of {size} slices an hour | MB a worker, peak |\n|---|---|---|")
    for workers in (1, 2):
        with running(folder / f"load-{workers}", f"[analysis]\n{settings}\n", workers) as bench:
            for number in range(count):
                bench.send(made.write(folder / f"load-{workers}-{number}"))
            bench.wait_for(count)
            rate, peak = count / bench.hours(), bench.memory_mb("VmHWM")
        print(f"| {workers} | {rate:.0f} | {peak:.0f} |", flush=True)


def soak(folder: Path, count: int, settings: str) -> None:
    """Show a worker's memory while it analyses many small studies."""
    made = draw(folder / "phantom", SOAK_SLICES)
    print("\n| studies | RSS, MB | studies a minute |\n|---|---|---|")
    with running(folder / "soak", f"[analysis]\nheatmaps = 2\n{settings}\n") as bench:
        begin = time.monotonic()
        for sent in range(0, count, SOAK_STEP):
            for number in range(sent, sent + SOAK_STEP):
                bench.send(made.write(folder / str(number)))
            bench.wait_for(sent + SOAK_STEP)
            rate = 60 * (sent + SOAK_STEP) / (time.monotonic() - begin)
            print(f"| {sent + SOAK_STEP} | {bench.memory_mb('VmRSS'):.0f} | {rate:.0f} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
