"""What figures depend on: processor, cores, load, versions."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe_machine(*packages: str) -> None:
    """Print the machine, and the versions of what is measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "CPU")
    cores, (busy, _, _) = len(os.sched_getaffinity(0)), os.getloadavg()
    print(f"{cpu}, {cores} cores, load {busy:.1f}; {platform.platform()}")
    versions = (f"{name} {version(name)}" for name in packages)
    print(", ".join([f"Python {platform.python_version()}", *versions]))
