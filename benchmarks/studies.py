"""Chest CT studies to measure with: phantoms, two thirds of their slices lung, as JPEG Lossless."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1, generate_uid

from lungnode.phantom import phantom_study
from tests.ct_images import ENCODERS

LUNG: float = 2 / 3  # of the slices


@dataclass(frozen=True)
class Slices:
    """The slices of one study, from top to bottom, to make any number of studies of."""

    instances: tuple[Dataset, ...]

    def write(self, folder: Path) -> list[Path]:
        """Write them as another study of another patient."""
        folder.mkdir(parents=True)
        study, series = generate_uid(), generate_uid()
        paths = []
        for number, instance in enumerate(self.instances, start=1):
            instance.StudyInstanceUID, instance.SeriesInstanceUID = study, series
            instance.FrameOfReferenceUID, instance.PatientID = series, study[-16:]
            instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            paths.append(folder / f"{number:04}.dcm")
            instance.save_as(paths[-1], enforce_file_format=True)
        return paths


def draw(folder: Path, count: int) -> Slices:
    """Draw a chest of `count` slices.

    A phantom is lung for the most part: slices of its neck are repeated above it until two thirds are lung.
    """
    study = phantom_study(folder, round(count * LUNG / 0.9), lesions=True)
    chest: list[Dataset] = [dcmread(path) for path in study.paths]
    above = count - len(chest)
    neck: list[Dataset] = [dcmread(study.paths[0]) for _ in range(above)]
    top, step = chest[0].ImagePositionPatient, _step(chest)
    for number, instance in enumerate(neck):
        instance.ImagePositionPatient = [top[0], top[1], float(top[2]) + step * (above - number)]
    instances = [_compressed(instance) for instance in (*neck, *chest)]
    for number, instance in enumerate(instances, start=1):
        instance.InstanceNumber = number
    return Slices(tuple(instances))


def _step(chest: Sequence[Dataset]) -> float:
    upper, lower = (float(instance.ImagePositionPatient[2]) for instance in chest[:2])
    return upper - lower


def _compressed(instance: Dataset) -> Dataset:
    encoded = ENCODERS[JPEGLosslessSV1](instance.pixel_array)
    instance.PixelData = encapsulate([encoded])
    instance["PixelData"].VR = "OB"
    instance.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    return instance
