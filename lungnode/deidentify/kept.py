"""What may leave: the tables of what is kept beyond PS3.15 Table E.1-1, which only says what may not.

Text is the danger: a text attribute is named here or goes, and what people type is reduced to known words.
"""

import re
from functools import cache
from typing import Final

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

SOP_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

# Written by machines, and needed to read the pixels or to tell scanners and kernels apart.
KEPT_TEXT: Final = frozenset(
    {
        "Manufacturer", "ManufacturerModelName", "SoftwareVersions",
        "ConvolutionKernel", "FilterType", "ImageFilter", "RescaleType", "StackID",
        "CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning",
    }
)  # fmt: skip

# Typed by people, useful to choose a series: Clean Descriptors Option.
DESCRIPTORS: Final = frozenset(
    {"StudyDescription", "SeriesDescription", "ProtocolName", "AcquisitionProtocolDescription"}
)

# Retain Patient Characteristics Option. It keeps the Ethnic Group as well, which people type: that goes.
CHARACTERISTICS: Final = frozenset(
    {
        "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "PatientSexNeutered",
        "SmokingStatus", "PregnancyStatus",
    }
)  # fmt: skip
OLDEST: Final = 89  # years; those above become 090Y, for few are as old

# The profile empties them whatever option holds.
BIRTH: Final = frozenset({"PatientBirthDate", "PatientBirthTime"})

# Of the object's own modules, yet of persons, of places, or of no use without what is removed.
_MODULES_LEFT_OUT: Final = frozenset(
    {
        "clinical-trial-subject", "clinical-trial-study", "clinical-trial-series", "specimen", "device",
        "overlay-plane", "icc-profile",
    }
)  # fmt: skip
_LEFT_OUT: Final = frozenset(
    {
        "EncryptedAttributesSequence", "DigitalSignaturesSequence", "MACParametersSequence",
        "OriginalAttributesSequence", "ContributingEquipmentSequence", "ICCProfile", "IconImageSequence",
        "HL7StructuredDocumentReferenceSequence", "ConversionSourceAttributesSequence",
    }
)  # fmt: skip

WORDS: Final = frozenset(
    {
        "ct", "hrct", "ldct", "cta", "ctpa", "chest", "thorax", "thoracic", "thor", "lung", "lungs",
        "pulmonary", "mediastinum", "mediastinal", "abdomen", "abdominal", "pelvis", "neck", "head",
        "brain", "body", "trunk", "heart", "cardiac", "aorta", "upper", "lower", "whole", "routine",
        "standard", "std", "low", "dose", "ultra", "high", "resolution", "hires", "thin", "thick",
        "slice", "slices", "axial", "ax", "coronal", "cor", "sagittal", "sag", "oblique", "helical",
        "spiral", "sequence", "volume", "vol", "scout", "topogram", "localizer", "surview", "scanogram",
        "mpr", "mip", "minip", "recon", "reconstruction", "reformat", "kernel", "sharp", "soft",
        "smooth", "bone", "tissue", "parenchyma", "window", "inspiration", "inspiratory", "insp",
        "expiration", "expiratory", "exp", "supine", "prone", "contrast", "native", "noncontrast",
        "plain", "enhanced", "unenhanced", "arterial", "venous", "portal", "delayed", "phase", "pre",
        "post", "with", "without", "iv", "wo", "wc", "nc", "ce", "adult", "child", "pediatric",
        "screening", "follow", "followup", "control", "covid", "pneumonia", "mm", "iterative", "safire",
        "admire", "asir", "idose", "fbp",
    }
)  # fmt: skip
_AGE: Final = re.compile(r"\d{3}[DWMY]")

# A kernel (B70f, Br40), a thickness (1.0, 5 mm), a word. Other digits may be a date or an ID.
_TOKEN: Final = re.compile(
    r"\b(?:[BDHIU]\d\d[fshu]|[BHQ][rvflp]\d\d)\b"
    r"|(?<![\d.,-])(?:\d\.\d(?![\d.])|\d{1,2}(?:\.\d{1,2})?(?= ?mm\b))"
    r"|[A-Z]?[a-z]+|[A-Z]+(?![a-z])"
)


def clean(text: str) -> str:
    """Return the known words, thicknesses and kernels of a description, in their order.

    Source: PS3.15 E.3.5, Clean Descriptors Option.
    """
    tokens: list[str] = _TOKEN.findall(text)
    return " ".join(token for token in tokens if not token.isalpha() or token.lower() in WORDS)[:64].strip()


def limit_age(age: str) -> str:
    """Return an Age String in which nobody is older than 90; empty where it is none."""
    if not _AGE.fullmatch(age):
        return ""
    return f"{OLDEST + 1:03}Y" if age.endswith("Y") and int(age[:3]) > OLDEST else age


@cache
def attributes_of(sop_class_uid: str) -> dict[tuple[str, ...], str]:
    """Return every attribute of an IOD that may leave, by its path, with its type: 1, 2 or another.

    Where several modules hold it, the strictest type counts. Source: PS3.3, by highdicom's copy.
    """
    types: dict[tuple[str, ...], str] = {}
    for module in get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]:
        if module["key"] in _MODULES_LEFT_OUT:
            continue
        for row in get_module_attribute_map()[module["key"]]:
            path = (*row["path"], row["keyword"])
            if not _LEFT_OUT.intersection(path):
                types[path] = min(types.get(path, "3"), row["type"])
    return types
