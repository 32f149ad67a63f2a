"""Which objects may be de-identified at all: images of CT whose pixels show the patient's inside only."""

from typing import Final

from pydicom import Dataset

from lungnode.deidentify.kept import SOP_CLASSES
from lungnode.errors import UnusableError

# Terms of Image Type (0008,0008) that vendors give to dose sheets and captured screens sent as CT images.
_SCREENS: Final = ("SCREEN", "DOSE", "PROTOCOL", "REPORT", "PASTE")
_OVERLAY_GROUPS: Final = range(0x6000, 0x6020, 2)
_REQUIRED: Final = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PixelData")


def check_admissible(ds: Dataset) -> None:
    """Refuse what cannot be made anonymous without changing its pixels.

    Raises:
        UnusableError: It is no CT image, lacks what makes it one, or its pixels may show text.
    """
    sop_class = str(ds.get("SOPClassUID", ""))
    if sop_class not in SOP_CLASSES:
        name = getattr(ds.get("SOPClassUID"), "name", "") or "no SOP Class UID"
        raise UnusableError(f"only CT images are de-identified, and it is of class {name}")
    for keyword in _REQUIRED:
        if not ds.get(keyword):
            raise UnusableError(f"{keyword} is missing or empty")
    _check_burned_in(ds)
    _check_overlays(ds)


def _check_burned_in(ds: Dataset) -> None:
    """Source: PS3.15 E.1.1, pixels with burned-in identification; we clean none, we keep them here."""
    burned_in = str(ds.get("BurnedInAnnotation", ""))
    if burned_in not in {"", "NO"}:
        raise UnusableError(f"Burned In Annotation is {burned_in}; its pixels may name the patient")
    terms = [str(term).upper() for term in ds.get("ImageType") or ()]
    screens = [term for term in terms if any(word in term for word in _SCREENS)]
    if screens:
        raise UnusableError(f"Image Type holds {screens[0]}: a captured screen or sheet, which may show text")
    if ds.get("SamplesPerPixel", 1) != 1:
        raise UnusableError(f"Samples per Pixel is {ds.SamplesPerPixel}: a colour image, which may show text")


def _check_overlays(ds: Dataset) -> None:
    """Refuse overlays in the spare bits of the pixels; those in Overlay Data are removed with their group.

    Source: PS3.3 C.9.2 and its retired form, Overlay Bit Position.
    """
    for group in _OVERLAY_GROUPS:
        if (group, 0x0010) in ds and (group, 0x3000) not in ds:
            raise UnusableError(f"its pixels carry an overlay, group {group:04X}, in their spare bits")
