"""How fast four receivers take CT instances, side by side: `python -m benchmarks.receive [--quick]`.

Every round visits every cell (receiver, sender, number of associations) once, in turning order; round 0 only
touches the memory and is not counted. Each pass sends instances under UIDs never sent before.
"""

import argparse
import gc
import json
import os
import platform
import shutil
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final

from pynetdicom import AllStoragePresentationContexts

from benchmarks.instances import make_instance, renumber
from benchmarks.receivers import (
    AS_SHIPPED_ONLY,
    DCMTK,
    DCMTK_NODELAY,
    LUNGNODE,
    NAMES,
    ORTHANC_NODELAY,
    Receiver,
    all_receivers,
    versions,
)
from benchmarks.senders import AS_SHIPPED, NODELAY, PRE_ENCODED, Pass, Sender, all_senders, set_up_s
from benchmarks.syncing import sync_cost_s

ASSOCIATIONS: Final = (1, 4, 8)
SENDERS: Final = (AS_SHIPPED, NODELAY, PRE_ENCODED)
CONTEXTS: Final = (1, 128)
Cell = tuple[str, str, int]  # receiver, sender, associations


@dataclass(frozen=True)
class Plan:
    """How much is sent; an operator sees these numbers above the tables."""

    rounds: int
    images: int  # an association in a pass
    images_as_shipped: int  # the same where Nagle's algorithm makes some receivers stall
    set_ups: int  # a round

    def images_of(self, sender: str, associations: int) -> int:
        """Return how many images a pass has: enough for one association, or some for each."""
        images = self.images_as_shipped if sender == AS_SHIPPED else self.images
        return images * max(3, associations)


FULL: Final = Plan(rounds=7, images=40, images_as_shipped=24, set_ups=20)
QUICK: Final = Plan(rounds=2, images=16, images_as_shipped=10, set_ups=10)


@dataclass(frozen=True)
class Sample:
    """One counted pass over one cell."""

    result: Pass
    cpu_s: float


class Benchmark:
    """Runs the rounds and keeps every sample."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.samples: dict[Cell, list[Sample]] = defaultdict(list)
        self.set_ups: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.sync_costs: dict[int, list[float]] = defaultdict(list)
        self.peaks_mb: dict[str, float] = {}
        self.starts_s: dict[str, float] = {}
        self._folder = folder
        self._instance = make_instance()
        self._number = 0

    def run(self) -> None:
        """Visit every cell once a round."""
        with all_receivers(self._folder) as receivers:
            for turn in range(self.plan.rounds + 1):
                order = receivers[turn % len(receivers) :] + receivers[: turn % len(receivers)]
                started = time.monotonic()
                self._round(order, is_counted=turn > 0)
                print(f"round {turn} of {self.plan.rounds}: {time.monotonic() - started:.0f} s", flush=True)
            self.peaks_mb = {receiver.name: receiver.peak_memory_mb() for receiver in receivers}
            self.starts_s = {receiver.name: receiver.start_s for receiver in receivers}

    def _round(self, receivers: list[Receiver], *, is_counted: bool) -> None:
        for associations, sender in product(ASSOCIATIONS, all_senders()):
            for receiver in (one for one in receivers if meet(one.name, sender.name)):
                sample = self._pass(receiver, sender, associations)
                if is_counted:
                    self.samples[receiver.name, sender.name, associations].append(sample)
            costs = sync_cost_s(self._folder, self._instance.data_set, threads=associations)
            if is_counted:
                self.sync_costs[associations] += costs
        if is_counted:
            self._set_up(receivers)

    def _set_up(self, receivers: list[Receiver]) -> None:
        uids = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
        for contexts, receiver in product(CONTEXTS, receivers):
            times = set_up_s(receiver.port, uids[:contexts], self.plan.set_ups)
            self.set_ups[receiver.name, contexts] += times

    def _pass(self, receiver: Receiver, sender: Sender, associations: int) -> Sample:
        count = self.plan.images_of(sender.name, associations)
        instances = [renumber(self._instance, self._number + offset) for offset in range(count)]
        self._number += count
        os.sync()  # what another receiver left in the page cache is not this one's to write
        before = receiver.cpu_s()
        result = sender.send(receiver.port, instances, associations)
        cpu_s = receiver.cpu_s() - before
        receiver.empty()
        gc.collect()
        return Sample(result, cpu_s)


class Report:
    """Tables and bars from the samples."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark

    def images_per_s(self, cell: Cell) -> float:
        """Median over the rounds."""
        return median(
            sample.result.images / sample.result.seconds for sample in self._benchmark.samples[cell]
        )

    def print_cells(self) -> None:
        """Print every cell: median, and the range over the rounds."""
        print("\nreceiver / sender / associations: images/s (least-most), MB/s, CPU-s/GB, p50 ms, p99 ms")
        for sender, n, name in product(SENDERS, ASSOCIATIONS, NAMES):
            if not meet(name, sender):
                continue
            cell = (name, sender, n)
            samples = self._benchmark.samples[cell]
            rates = sorted(sample.result.images / sample.result.seconds for sample in samples)
            megabytes = median(sample.result.bytes / sample.result.seconds / 1e6 for sample in samples)
            cpu = median(sample.cpu_s / (sample.result.bytes / 1e9) for sample in samples)
            print(
                f"{cell[0]:20} {cell[1]:24} {cell[2]}: {median(rates):7.1f} ({rates[0]:.1f}-{rates[-1]:.1f})"
                f" {megabytes:7.1f} {cpu:6.2f} {self._latency(cell, 0.5)} {self._latency(cell, 0.99)}"
            )

    def print_set_up(self) -> None:
        """Print association set-up, the cost of syncing, and memory."""
        print("\nassociation set-up, median ms (p99)")
        for name in NAMES:
            cells = (self._benchmark.set_ups[name, contexts] for contexts in CONTEXTS)
            figures = (f"{median(times) * 1e3:6.2f} ({quantile(times, 0.99) * 1e3:.2f})" for times in cells)
            print(
                f"{name:20} "
                + ", ".join(f"{n} contexts: {f}" for n, f in zip(CONTEXTS, figures, strict=True))
            )
        print("\nfdatasync of such a file, rename and fsync of its directory, median ms")
        for threads, costs in self._benchmark.sync_costs.items():
            print(f"{threads} at once: {median(costs) * 1e3:.2f}")
        print("\npeak memory of the largest process; start")
        for name, peak_mb in self._benchmark.peaks_mb.items():
            print(f"{name:20} {peak_mb:5.0f} MB {self._benchmark.starts_s[name]:6.2f} s")

    def print_bars(self) -> bool:
        """Print each bar with met or not met; return whether all are met."""
        bars = [
            *self._ratio_bars(ORTHANC_NODELAY, SENDERS, 1.3, 2.0),
            *self._ratio_bars(DCMTK_NODELAY, (NODELAY, PRE_ENCODED), 0.4, 0.8),
            *self._ratio_bars(DCMTK, (AS_SHIPPED,), 1.5, 1.5),
            *self._latency_bars(),
            *self._set_up_bars(),
            *self._process_bars(),
        ]
        print("\nbars")
        for text, is_met in bars:
            print(f"{'met    ' if is_met else 'NOT MET'} {text}")
        # A storescp with TCP_NODELAY spares a sender as shipped its waits, as we do.
        for n in ASSOCIATIONS:
            ratio = self._ratio(DCMTK_NODELAY, AS_SHIPPED, n)
            print(f"no bar  {ratio:5.2f} of {DCMTK_NODELAY}, {AS_SHIPPED}, {n}")
        return all(is_met for _, is_met in bars)

    def _latency(self, cell: Cell, share: float) -> str:
        latencies = [s for sample in self._benchmark.samples[cell] for s in sample.result.latencies_s]
        return f"{quantile(latencies, share) * 1e3:7.2f}" if latencies else "      -"

    def _ratio_bars(
        self, peer: str, senders: tuple[str, ...], least: float, aim: float
    ) -> list[tuple[str, bool]]:
        bars = []
        for sender in senders:
            for n in ASSOCIATIONS:
                ratio = self._ratio(peer, sender, n)
                text = f"{ratio:5.2f} of {peer}, {sender}, {n} associations (bar {least}, aim {aim})"
                bars.append((text, ratio >= least))
        return bars

    def _ratio(self, peer: str, sender: str, n: int) -> float:
        return self.images_per_s((LUNGNODE, sender, n)) / self.images_per_s((peer, sender, n))

    def _latency_bars(self) -> list[tuple[str, bool]]:
        samples = self._benchmark.samples[LUNGNODE, PRE_ENCODED, 1]
        p50 = median(s for sample in samples for s in sample.result.latencies_s) * 1e3
        cost = median(self._benchmark.sync_costs[1]) * 1e3
        return [(f"C-STORE p50 {p50:.2f} ms, syncing {cost:.2f} ms (bar: 2 ms above)", p50 <= cost + 2)]

    def _set_up_bars(self) -> list[tuple[str, bool]]:
        bars = []
        for contexts in CONTEXTS:
            ms = median(self._benchmark.set_ups[LUNGNODE, contexts]) * 1e3
            bars.append((f"set-up {ms:.2f} ms with {contexts} contexts (bar 5 ms)", ms <= 5))  # noqa: PLR2004 - the bar
        return bars

    def _process_bars(self) -> list[tuple[str, bool]]:
        peak_mb = self._benchmark.peaks_mb[LUNGNODE]
        start_s = self._benchmark.starts_s[LUNGNODE]
        return [
            (f"peak memory {peak_mb:.0f} MB a process (bar 150 MB)", peak_mb < 150),  # noqa: PLR2004 - the bar
            (f"start {start_s:.2f} s (bar 2 s)", start_s <= 2),  # noqa: PLR2004 - the bar
        ]


def meet(receiver: str, sender: str) -> bool:
    """Tell whether this receiver is measured with this sender."""
    return sender == AS_SHIPPED or receiver not in AS_SHIPPED_ONLY


def quantile(values: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def print_machine(folder: Path, plan: Plan) -> None:
    """Print what the figures depend on."""
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    print(f"machine: {os.cpu_count()} CPUs, {model.partition(':')[2].strip()}, Linux {platform.release()}")
    print(f"Python {platform.python_version()}; disk of {folder}: {file_system(folder)}")
    print("versions: " + "; ".join(f"{name}: {text}" for name, text in versions().items()))
    print(f"load before: {os.getloadavg()[0]:.2f}; {plan}; 512 x 512 x 16 bit, explicit VR little endian")


def file_system(folder: Path) -> str:
    """Return type and options of the file system that holds `folder`."""
    mounts = [line.split()[1:4] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [mount for mount in mounts if folder.resolve().is_relative_to(mount[0])]
    return " ".join(max(holding, key=lambda mount: len(mount[0]))[1:])


def save(benchmark: Benchmark, path: Path) -> None:
    """Write every sample, for whoever wants another statistic."""
    cells = [
        {"receiver": receiver, "sender": sender, "associations": n}
        | {"images_per_s": [s.result.images / s.result.seconds for s in samples]}
        | {"cpu_s": [s.cpu_s for s in samples], "seconds": [s.result.seconds for s in samples]}
        for (receiver, sender, n), samples in benchmark.samples.items()
    ]
    path.write_text(json.dumps({"cells": cells}, indent=1))


def main() -> int:
    """Run it; exit 1 when a bar is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small rounds: for tuning, not for a report")
    parser.add_argument("--folder", type=Path, help="where to store; its disk is measured")
    parser.add_argument("--json", type=Path, help="also write every sample to this file")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    folder = Path(tempfile.mkdtemp(prefix="lungnode-receive-", dir=arguments.folder))
    try:
        print_machine(folder, plan)
        benchmark = Benchmark(plan, folder)
        benchmark.run()
    finally:
        shutil.rmtree(folder)
    report = Report(benchmark)
    report.print_cells()
    report.print_set_up()
    if arguments.json:
        save(benchmark, arguments.json)
    return 0 if report.print_bars() else 1


if __name__ == "__main__":
    raise SystemExit(main())
