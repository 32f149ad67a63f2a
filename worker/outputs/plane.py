"""Where an image plane lies in the patient, for single-frame and multi-frame sources alike."""

from dataclasses import dataclass

from pydicom.dataset import Dataset


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
    try:
        measures = _group(source, frame, "PixelMeasuresSequence")
        row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
        x, y, z = (float(v) for v in _group(source, frame, "PlanePositionSequence").ImagePositionPatient)
        axes = [float(v) for v in _group(source, frame, "PlaneOrientationSequence").ImageOrientationPatient]
        a, b, c, d, e, f = axes
        thickness = measures.get("SliceThickness")
        return Plane(
            rows=int(source.Rows),
            columns=int(source.Columns),
            spacing_mm=(row_mm, column_mm),
            position_mm=(x, y, z),
            orientation=(a, b, c, d, e, f),
            frame_of_reference_uid=str(source.get("FrameOfReferenceUID") or ""),
            thickness_mm=None if thickness is None else float(thickness),
        )
    except (AttributeError, TypeError, ValueError, IndexError):
        return None  # absent, empty, of another number of values, or not numbers


def _group(source: Dataset, frame: int | None, keyword: str) -> Dataset:
    """Return the functional group of a frame; of a single-frame image, the image itself.

    Source: PS3.3 C.7.6.16, a macro stands in the shared or in the per-frame groups, never in both.
    """
    if frame is None or "SharedFunctionalGroupsSequence" not in source:
        return source
    own = source.PerFrameFunctionalGroupsSequence[frame - 1]
    holder = own if keyword in own else source.SharedFunctionalGroupsSequence[0]
    group: Dataset = holder[keyword].value[0]
    return group
