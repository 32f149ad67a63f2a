"""The labelled slices of the development data, each with the group that must not be split.

Nothing is known of the patients of `sars-cov-2-ct`, whose neighbouring numbers are often the same person, so
blocks of numbers stand for them; the slices of one study are one group.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pydicom

from lungnode.lungs import coverage
from lungnode.pixels import Gray, hounsfield, lung_window, read_image
from lungnode.series import geometry, slice_headers
from trainer.samples import Sample, Split

STUDY_BLOCK: Final = 20  # slices, 40 mm: neighbours show the same lesion
SARS_BLOCK: Final = 50  # numbers; many times the slices that one patient has there


def collect_samples(data: Path) -> list[Sample]:
    """List every labelled slice below the folder of the development data, in a fixed order."""
    return [
        *covid_ct(data / "covid-ct"),
        *sars(data / "sars-cov-2-ct"),
        *luna(data / "luna16"),
        *covid_ct_md(data / "dicom"),
    ]


def covid_ct(folder: Path) -> Iterator[Sample]:
    """Yield the images of COVID-CT's official lists, grouped by patient."""
    with (folder / "patients.csv").open(encoding="utf-8", newline="") as file:
        patients = {(row["class"], row["file"]): row["patient_id"] for row in csv.DictReader(file)}
    for part in ("train", "val"):
        for label in ("COVID", "NonCOVID"):
            names = (folder / f"{part}_{label}.txt").read_text(encoding="utf-8").split("\n")
            for name in filter(None, (line.strip() for line in names)):
                group = f"covid-ct/{patients[label, name]}"
                split = Split.VALIDATION if part == "val" else Split.TRAIN
                yield Sample("covid-ct", folder / label / name, label == "COVID", group, split)


def sars(folder: Path) -> Iterator[Sample]:
    """Yield the slices of SARS-CoV-2 CT, grouped by blocks of numbers."""
    for label in ("COVID", "non-COVID"):
        for path in sorted((folder / label).glob("*.jpg")):
            group = f"sars/{label}/{int(path.stem) // SARS_BLOCK}"
            yield Sample("sars-cov-2-ct", path, label == "COVID", group)


def luna(folder: Path) -> Iterator[Sample]:
    """Yield the slices of LUNA16, one a scan and all negative."""
    for path in sorted(folder.glob("*.jpg")):
        yield Sample("luna16", path, positive=False, group=f"luna16/{path.stem}", healthy_scan=True)


def covid_ct_md(folder: Path) -> Iterator[Sample]:
    """Yield the lung slices of two studies of COVID-CT-MD, grouped by blocks of neighbouring slices."""
    labels = read_slice_labels(folder / "covid-P001-slices.csv")
    for study in ("covid-P001", "normal-001"):
        for number, path in enumerate(_lung_slices(folder / study)):
            group = f"covid-ct-md/{study}/{number // STUDY_BLOCK}"
            infected, healthy = labels.get(path.name, False), study.startswith("normal")
            yield Sample("covid-ct-md", path, infected, group, study=study, healthy_scan=healthy)


def _lung_slices(study: Path) -> list[Path]:
    """Return the files of a study that show lung, from top to bottom."""
    paths = sorted(study.glob("*.dcm"))
    slices = geometry([h for path in paths for h in slice_headers(pydicom.dcmread(path), path)]).slices
    cover = coverage(np.stack([read_gray(header.path) for header in slices]))
    first, last = cover.first or 0, cover.last or 0
    return [header.path for header in slices[first : last + 1]]


def read_gray(path: Path) -> Gray:
    """Read a slice as 8-bit gray, whatever its file type."""
    if path.suffix == ".dcm":
        return lung_window(hounsfield(pydicom.dcmread(path)))
    return read_image(path.read_bytes())


def read_slice_labels(file: Path) -> dict[str, bool]:
    """Read which slices of a study show infection, by file name."""
    with file.open(encoding="utf-8", newline="") as rows:
        return {row["file"]: row["infected"] == "1" for row in csv.DictReader(rows)}
