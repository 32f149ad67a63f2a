"""The Basic Application Level Confidentiality Profile on one data set, by dicom-anonymizer's Table E.1-1.

The library brings the table and its actions, for the attributes at the top. What it leaves to its caller is
here: the items of sequences, the choice among X, Z and D by the object's own types, UIDs and dates that agree
among files, and the options.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import dicomanonymizer.simpledicomanonymizer as library
from pydicom import DataElement, Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes

from lungnode import __version__
from lungnode.deidentify.dates import shifted
from lungnode.deidentify.kept import (
    BIRTH,
    CHARACTERISTICS,
    DESCRIPTORS,
    KEPT_TEXT,
    attributes_of,
    clean,
    limit_age,
)
from lungnode.deidentify.pseudonyms import Person, Pseudonyms

Tag = tuple[int, int]
Action = Callable[[Dataset, Tag], None]
Path = tuple[str, ...]

EDITION: Final = "2026c"  # of PS3.15, whose Table E.1-1 is applied
METHOD: Final = (
    f"Lungnode {__version__}",
    f"dicom-anonymizer {version('dicom-anonymizer')}",
    f"PS3.15 {EDITION} Basic Application Confidentiality Profile",
)
# Source: PS3.16 CID 7050, De-identification Method.
METHODS: Final = (
    codes.DCM.BasicApplicationConfidentialityProfile,
    codes.DCM.CleanDescriptorsOption,
    codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption,
    codes.DCM.RetainPatientCharacteristicsOption,
)
_TEXT: Final = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "UN"})
# X, and X where the object's own type allows it.
_REMOVING: Final = frozenset(
    {
        library.delete,
        library.delete_or_empty,
        library.delete_or_replace,
        library.delete_or_empty_or_replace,
    }
)


class Deidentifier:
    """Replaces, empties and removes, for one person; data sets are changed in place."""

    def __init__(self, pseudonyms: Pseudonyms, person: Person) -> None:
        self._pseudonyms, self._person = pseudonyms, person
        self.uids: dict[str, str] = {}  # what was replaced by what, as it goes
        self._table: dict[Tag, Action] = library.initialize_actions(f"dicomfields_{EDITION}")

    def apply(self, ds: Dataset) -> None:
        """De-identify one image of CT; only its pixels and numbers stay what they were.

        Source: PS3.15 E.1.1, De-identifier; Table E.1-1.
        """
        self._visit(ds, attributes_of(ds.SOPClassUID), ())
        ds.PatientID = ds.PatientName = self._person.patient_id
        ds.PatientIdentityRemoved = "YES"
        ds.LongitudinalTemporalInformationModified = "MODIFIED"
        ds.DeidentificationMethod = list(METHOD)
        ds.DeidentificationMethodCodeSequence = [_item(code) for code in METHODS]
        ds.file_meta = _file_meta(ds)
        ds.preamble = b"\0" * 128

    def _visit(self, ds: Dataset, types: dict[Path, str], above: Path) -> None:
        rules = {}
        for element in list(ds):
            path = (*above, element.keyword)
            if path in types:
                rules[element.tag.group, element.tag.element] = self._rule(element, types[path])
            else:
                del ds[element.tag]  # private, or of another kind of object
        library.anonymize_dataset(ds, base_rules_gen=lambda: rules)
        for element in ds:
            for item in element.value if element.VR == "SQ" else ():
                self._visit(item, types, (*above, element.keyword))

    def _rule(self, element: DataElement, of_type: str) -> Action:
        """Return what happens to one attribute: an option's rule, the table's, or that of a text it lacks."""
        keyword, vr = element.keyword, element.VR
        if keyword in BIRTH:
            return _empty
        by_vr: dict[str, Action] = {"UI": self._replace_uid, "DA": self._shift, "DT": self._shift}
        rule = _OPTIONS.get(keyword) or by_vr.get(vr)
        if rule is not None:
            return rule
        listed = self._table.get((element.tag.group, element.tag.element))
        if vr == "TM" or keyword in _REFERENCES or (listed is None and not _is_loose_text(keyword, vr)):
            return _keep
        return _by_type(of_type) if listed is None or listed in _REMOVING else _unless_empty(listed)

    def _replace_uid(self, ds: Dataset, tag: Tag) -> None:
        ds[tag].value = _each(ds[tag].value, self._uid)

    def _uid(self, original: str) -> str:
        return self.uids.setdefault(original, self._pseudonyms.uid(original))

    def _shift(self, ds: Dataset, tag: Tag) -> None:
        ds[tag].value = _each(ds[tag].value, lambda value: shifted(value, self._person.shift_days))


def _is_loose_text(keyword: str, vr: str) -> bool:
    """Tell whether an attribute that Table E.1-1 does not list may hold what somebody typed."""
    return vr in _TEXT and keyword not in KEPT_TEXT


def _by_type(of_type: str) -> Action:
    """Return what X means for an attribute that its object needs. Source: PS3.15 Table E.1-1a, X/Z/D."""
    by_type: dict[str, Action] = {"1": library.replace, "2": _empty}
    return by_type.get(of_type, _remove)


def _unless_empty(action: Action) -> Action:
    return lambda ds, tag: None if ds[tag].is_empty else action(ds, tag)


def _remove(ds: Dataset, tag: Tag) -> None:
    # The library's own `delete` leaves dates in place, with the value 00010101.
    del ds[tag]


def _empty(ds: Dataset, tag: Tag) -> None:
    # The library's own `empty` writes 00010101 into dates.
    ds[tag].value = None


def _keep(ds: Dataset, tag: Tag) -> None:
    pass


def _clean(ds: Dataset, tag: Tag) -> None:
    ds[tag].value = _each(ds[tag].value, clean)
    if not any(_values(ds[tag].value)):
        del ds[tag]  # they are all of type 3


def _limit_age(ds: Dataset, tag: Tag) -> None:
    ds[tag].value = _each(ds[tag].value, limit_age)


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, MultiValue | list) else [value]


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Return the value or values changed one by one; an empty value stays empty."""
    changed = [change(str(one)) if one else one for one in _values(value)]
    return changed if len(changed) > 1 else changed[0]


def _item(code: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = code.value, code.meaning
    item.CodingSchemeDesignator = code.scheme_designator
    return item


def _file_meta(ds: Dataset) -> FileMetaDataset:
    """Return new File Meta Information; the old one names the sender's and receiver's AE titles."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
    return meta


_OPTIONS: Final[dict[str, Action]] = {
    **dict.fromkeys(CHARACTERISTICS, _keep),
    **dict.fromkeys(DESCRIPTORS, _clean),
    "PatientAge": _limit_age,
}
# X/Z/U*: their items stay, for the UIDs in them are replaced like all others.
_REFERENCES: Final = frozenset({"ReferencedImageSequence", "SourceImageSequence"})
