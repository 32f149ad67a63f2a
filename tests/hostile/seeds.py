"""Whole files to be damaged: real ones where they are, and phantoms."""

from pathlib import Path
from typing import Final

from tests.spooling import slices, write

_EVERY: Final = 30  # of the slices of one series, which are alike
_LEAST_BYTES: Final = 200


def some_files(shared_data: Path, folder: Path) -> list[Path]:
    """Return files of many kinds; phantoms are written below `folder`."""
    real = [path for path in sorted((shared_data / "dicom").rglob("*")) if _is_dicom(path)]
    alike = [path for path in real if path.parent.name in {"covid-P001", "normal-001", "head-ct"}]
    made = folder / "phantoms"
    made.mkdir()
    for number, ds in enumerate(slices(range(1, 4))):
        write(ds, made / f"{number}.dcm")
    return [*(path for path in real if path not in alike), *alike[::_EVERY], *sorted(made.iterdir())]


def _is_dicom(path: Path) -> bool:
    return path.is_file() and path.suffix != ".csv" and path.stat().st_size > _LEAST_BYTES
