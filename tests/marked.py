"""Images in which every text that could tell who the patient is holds a mark, at every depth."""

from collections.abc import Iterator
from typing import Any, Final

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.tag import Tag

MARK: Final = "ZZMARK"
CODE: Final = "ZZCODE"  # in coded strings, of which some must stay
DATE: Final = "20210317"
UID_ROOT: Final = "1.2.826.0.1.3680043.9.4711."
PRIVATE_CREATOR: Final = f"{MARK} VENDOR"
# Names by Specific Character Set. Source: PS3.5 annexes H to K.
NAMES: Final = {
    "ISO_IR 192": "Ñandú^Łucja=山田^太郎=やまだ^たろう",
    "ISO_IR 100": "Äneas^Rüdiger",
    "ISO_IR 144": "Дюма^Александр",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 166": "นามสกุล",
    "GB18030": "王^小东",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
}
# A scanner writes them: they stay, and so they hold no mark here.
MACHINE: Final = frozenset(
    {
        "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "FilterType",
        "ImageFilter", "RescaleType", "StackID", "CodeValue", "LongCodeValue", "CodingSchemeDesignator",
        "CodingSchemeVersion", "CodeMeaning",
    }
)  # fmt: skip
# Without these it would be no CT image, or one that is refused.
_NEEDED: Final = frozenset(
    {
        "SpecificCharacterSet", "SOPClassUID", "Modality", "ImageType", "PhotometricInterpretation",
        "BurnedInAnnotation", "TransferSyntaxUID", "DirectoryRecordSequence",
    }
)  # fmt: skip
_TEXT: Final = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "AE", "UR"})
_IMAGE_GROUPS: Final = range(0x0008, 0x6000)


def add_everything(ds: Dataset, name: str) -> None:
    """Give a data set every text, date, UID and sequence that pydicom's dictionary knows, each marked."""
    for keyword, tag in keyword_dict.items():
        vr = dictionary_VR(tag)
        if Tag(tag).group not in _IMAGE_GROUPS or keyword in _NEEDED | MACHINE:
            continue
        if vr == "SQ":
            ds.add_new(tag, vr, [_item(name)])
        elif (value := mark(vr, name)) is not None:
            ds.add_new(tag, vr, value)
    _add_private(ds, name)
    _add_overlay(ds)


def mark_text(ds: Dataset, name: str) -> None:
    """Replace every text, date and UID that a data set holds, at every depth; nothing is added."""
    for number, element in enumerate(elements(ds)):
        value = f"{UID_ROOT}{number}" if element.VR == "UI" else mark(element.VR, name)
        stays = element.keyword in _NEEDED | MACHINE or element.VR == "CS" or element.is_empty
        if value is not None and not stays and not str(element.value).startswith("1.2.840.10008."):
            element.value = value


def mark(vr: str, name: str) -> Any:
    """Return a value that must not leave; None for numbers and bytes."""
    marks = {"PN": name, "DA": DATE, "DT": f"{DATE}101112", "UI": f"{UID_ROOT}1", "CS": CODE}
    return MARK if vr in _TEXT else marks.get(vr)


def elements(ds: Dataset) -> Iterator[DataElement]:
    """Yield every element, at every depth."""
    for element in ds:
        yield element
        for item in element.value if element.VR == "SQ" else ():
            yield from elements(item)


def _item(name: str) -> Dataset:
    item, deeper = Dataset(), Dataset()
    deeper.PatientName, deeper.PatientID, deeper.StudyDate = name, MARK, DATE
    item.PatientName, item.InstitutionName, item.ImageComments = name, MARK, MARK
    item.ReferencedSOPInstanceUID, item.AcquisitionDateTime = f"{UID_ROOT}2", f"{DATE}101112"
    item.TextValue, item.DerivationDescription, item.StudyDescription = MARK, MARK, MARK
    item.RequestAttributesSequence = item.ReferencedImageSequence = [deeper]
    _add_private(item, name)
    return item


def _add_private(ds: Dataset, name: str) -> None:
    block = ds.private_block(0x0029, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "PN", name)
    block.add_new(0x02, "LO", MARK)
    block.add_new(0x03, "UN", MARK.encode())
    nested = Dataset()
    nested.PatientID = MARK
    block.add_new(0x04, "SQ", [nested])


def _add_overlay(ds: Dataset) -> None:
    """An overlay plane, and a curve: groups that repeat."""
    ds.add_new(0x60000010, "US", 8)
    ds.add_new(0x60000011, "US", 8)
    ds.add_new(0x60000022, "LO", MARK)
    ds.add_new(0x60003000, "OW", MARK.encode() + b"12")
    ds.add_new(0x60004000, "LT", MARK)
    ds.add_new(0x50003000, "OW", MARK.encode() + b"12")
