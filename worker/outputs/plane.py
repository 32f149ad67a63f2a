"""Where an image plane lies in the patient, for single-frame and multi-frame sources alike."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from lungnode.headers import ORIENTATION, POSITION, SPACING, THICKNESS, FunctionalGroups


@dataclass(frozen=True)
class Plane:
    """The geometry of one slice; lengths in mm, in the patient's coordinate system."""

    rows: int
    columns: int
    spacing_mm: tuple[float, float]  # (0028,0030): between rows, between columns
    position_mm: tuple[float, float, float]  # (0020,0032): centre of the first pixel
    orientation: tuple[float, float, float, float, float, float]  # (0020,0037): along a row, along a column
    frame_of_reference_uid: str  # empty when the source names none
    thickness_mm: float | None

    def coarser(self, factor: int) -> "Plane":
        """Return the plane of `factor` x `factor` pixels merged into one, the last ones padded."""
        offset = (factor - 1) / 2  # from the first pixel's centre to the centre of the merged one
        right = tuple(offset * self.spacing_mm[1] * part for part in self.orientation[:3])
        down = tuple(offset * self.spacing_mm[0] * part for part in self.orientation[3:])
        x, y, z = (sum(parts) for parts in zip(self.position_mm, right, down, strict=True))
        return Plane(
            rows=-(-self.rows // factor),
            columns=-(-self.columns // factor),
            spacing_mm=(self.spacing_mm[0] * factor, self.spacing_mm[1] * factor),
            position_mm=(x, y, z),
            orientation=self.orientation,
            frame_of_reference_uid=self.frame_of_reference_uid,
            thickness_mm=self.thickness_mm,
        )


def plane_of(source: Dataset, frame: int | None) -> Plane | None:
    """Return the plane of a source image or of its 1-based `frame`; None when it does not say enough."""
    groups = FunctionalGroups(source, frame)
    try:
        row_mm, column_mm = (float(value) for value in groups.value(SPACING))
        x, y, z = (float(value) for value in groups.value(POSITION))
        a, b, c, d, e, f = (float(value) for value in groups.value(ORIENTATION))
        thickness = groups.value(THICKNESS)
        return Plane(
            rows=int(source.Rows),
            columns=int(source.Columns),
            spacing_mm=(row_mm, column_mm),
            position_mm=(x, y, z),
            orientation=(a, b, c, d, e, f),
            frame_of_reference_uid=str(source.get("FrameOfReferenceUID") or ""),
            thickness_mm=None if thickness is None else float(thickness),
        )
    except (AttributeError, TypeError, ValueError):
        return None  # absent, empty, of another number of values, or not numbers
