"""What must not be found again: the identifying values of an original, as they may stand in bytes.

What an image keeps anyway, "SIEMENS" for example, is no identifier because a private attribute holds it too.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue

from lungnode.deidentify.kept import KEPT_TEXT, clean

SHORTEST: Final = 4  # characters; shorter ones are found everywhere by chance
_STANDARD_ROOT: Final = "1.2.840.10008."
_TEXT: Final = frozenset({"AE", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})
_MACHINE: Final = frozenset({"CS", "DS", "IS", "TM"})
_NAME_PARTS: Final = re.compile(r"[\^=\\]")
_NUMBER: Final = re.compile(r"[\d.]+")
# Every encoding that Specific Character Set (0008,0005) can name. Source: PS3.3 C.12.1.1.2.
_ENCODINGS: Final = (
    "utf-8", "latin-1", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6", "iso8859-7",
    "iso8859-8", "iso8859-9", "iso8859-15", "tis-620", "shift_jis", "euc_jp", "iso2022_jp_2", "euc_kr",
    "gb18030",
)  # fmt: skip


@dataclass(frozen=True)
class Identifier:
    """One value of an original that may not be found in its export."""

    keyword: str  # of the attribute that held it
    forms: re.Pattern[bytes]  # how it may be written

    def is_in(self, lowered: bytes) -> bool:
        """Tell whether it stands in bytes whose ASCII letters are small."""
        return self.forms.search(lowered) is not None


def identifiers(ds: Dataset) -> list[Identifier]:
    """Return the identifying values of a data set: nested, private and in any character set."""
    elements = list(_elements(ds))
    kept = _values_of(e for e in elements if e.keyword in KEPT_TEXT)
    # A Patient ID of 1000 is an exposure time as well: bytes cannot tell, so the rules alone judge it.
    plain = kept | _values_of(e for e in elements if e.VR in _MACHINE and not e.tag.is_private)
    found: dict[str, Identifier] = {}
    for element in elements:
        common = kept if element.VR == "PN" else plain
        for value in _candidates(element):
            if len(value) >= SHORTEST and value.casefold() not in common and clean(value) != value:
                name = element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})"
                found.setdefault(value, Identifier(name, _forms(value)))
    return list(found.values())


def _values_of(elements: Iterable[DataElement]) -> set[str]:
    return {value.casefold() for element in elements for value in values_of(element)}


def values_of(element: DataElement) -> list[str]:
    """Return the values of an element as text, empty ones left out."""
    value: Any = element.value
    values = value if isinstance(value, MultiValue | list) else [value]
    return [text for text in (str(one).strip() for one in values if one is not None) if text]


def _elements(ds: Dataset) -> Iterator[DataElement]:
    for element in ds:
        yield element
        for item in element.value if element.VR == "SQ" else ():
            yield from _elements(item)


def _candidates(element: DataElement) -> Iterator[str]:
    if element.VR == "UI":
        yield from (value for value in values_of(element) if not value.startswith(_STANDARD_ROOT))
    elif element.VR == "PN":
        for name in values_of(element):
            yield from (name, *_NAME_PARTS.split(name))
    elif element.VR in _TEXT and element.keyword not in KEPT_TEXT:
        yield from values_of(element)


def _forms(value: str) -> re.Pattern[bytes]:
    """Compile how a value may be written; it counts as a whole number or word only, for parts abound."""
    forms = set()
    for encoding in _ENCODINGS:
        try:
            forms.add(re.escape(value.encode(encoding).lower()))
        except UnicodeEncodeError:  # its letters are not in that character set
            continue
    pattern = b"|".join(sorted(forms)) or re.escape(value.encode("utf-8", "surrogateescape").lower())
    around = rb"[\d.+-]" if _NUMBER.fullmatch(value) else rb"[a-z]"
    return re.compile(rb"(?<!%b)(?:%b)(?!%b)" % (around, pattern, around))
