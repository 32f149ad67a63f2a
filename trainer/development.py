"""The labelled slices of the development data, each with the group that must not be split.

Nothing is known of the patients of `sars-cov-2-ct`, whose neighbouring numbers are often the same person, so
blocks of numbers stand for them; the slices of one study are one group.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from lungnode.loading import read_images
from trainer.attributes import listed_attributes, scan_attributes
from trainer.chest import lung_stack
from trainer.grays import read_gray
from trainer.manifest import write_manifest
from trainer.samples import Sample, Split

__all__ = ["collect_samples", "read_gray", "read_slice_labels"]

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
    patients = _read_patients(folder / "patients.csv")
    for part in ("train", "val"):
        for label in ("COVID", "NonCOVID"):
            names = (folder / f"{part}_{label}.txt").read_text(encoding="utf-8").split("\n")
            for name in filter(None, (line.strip() for line in names)):
                patient, attributes = patients[label, name]
                split = Split.VALIDATION if part == "val" else Split.TRAIN
                path, is_sick = folder / label / name, label == "COVID"
                yield Sample("covid-ct", path, is_sick, f"covid-ct/{patient}", split, attributes=attributes)


def _read_patients(file: Path) -> dict[tuple[str, str], tuple[str, Mapping[str, str]]]:
    """Read who is on each image, and what is known of that person, by class and name."""
    with file.open(encoding="utf-8", newline="") as rows:
        return {
            (row["class"], row["file"]): (
                row["patient_id"],
                listed_attributes({name: row[name] for name in ("age", "sex")}),
            )
            for row in csv.DictReader(rows)
        }


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
        images = read_images(sorted((folder / study).glob("*.dcm")))
        stack = lung_stack(images)
        first = stack.slices[0]
        attributes = scan_attributes(images.sources[first.sop_instance_uid], first.thickness_mm)
        for number, (header, position_mm) in enumerate(
            zip(stack.slices, stack.known_positions_mm, strict=True)
        ):
            yield Sample(
                "covid-ct-md",
                header.path,
                labels.get(header.path.name, False),
                f"covid-ct-md/{study}/{number // STUDY_BLOCK}",
                study=study,
                healthy_scan=study.startswith("normal"),
                attributes=attributes,
                position_mm=position_mm,
            )


def read_slice_labels(file: Path) -> dict[str, bool]:
    """Read which slices of a study show infection, by file name."""
    with file.open(encoding="utf-8", newline="") as rows:
        return {row["file"]: row["infected"] == "1" for row in csv.DictReader(rows)}


def main() -> None:
    """Write the manifest of the development data: `python -m trainer.development DATA OUT.csv`."""
    parser = argparse.ArgumentParser(prog="python -m trainer.development", description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of the development data")
    parser.add_argument("out", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    write_manifest(collect_samples(arguments.data), arguments.out)


if __name__ == "__main__":
    main()
