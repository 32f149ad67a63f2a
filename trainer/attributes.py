"""What is known of a patient and a scan beside the label: for the cohort table and for subgroups."""

import re
from collections.abc import Mapping
from typing import Final

from pydicom import Dataset

DECADE: Final = 10
OLDEST: Final = 90  # from here on ages are not told apart: they could identify a patient
_AGE: Final = re.compile(r"(\d{1,3})([YMWD])?")
_DATE: Final = re.compile(r"\d{8}")


def age_decade(years: int) -> str:
    """Return the decade of an age: "40-49", or "90+"."""
    if years >= OLDEST:
        return f"{OLDEST}+"
    first = years // DECADE * DECADE
    return f"{first}-{first + DECADE - 1}"


def scan_attributes(instance: Dataset, thickness_mm: float | None) -> dict[str, str]:
    """Return what the headers of a study say; what they do not is absent.

    Args:
        instance: One image of the study, without pixels.
        thickness_mm: Of its slices.
    """
    years = _years(instance)
    maker = str(instance.get("Manufacturer") or "").split()
    found = {
        "sex": str(instance.get("PatientSex") or "").strip().upper(),
        "age": "" if years is None else age_decade(years),
        # The same maker signs as "SIEMENS" and as "Siemens Healthineers".
        "manufacturer": maker[0].upper() if maker else "",
        "slice_thickness_mm": f"{thickness_mm:g}" if thickness_mm else "",
    }
    return {name: value for name, value in found.items() if value}


def listed_attributes(row: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that a line of a list has: its values, an age in years as its decade."""
    found = {name: value.strip() for name, value in row.items() if value and value.strip()}
    years = _age(found.get("age", ""))
    return found if years is None else found | {"age": age_decade(years)}


def _years(instance: Dataset) -> int | None:
    years = _age(str(instance.get("PatientAge") or "").strip())
    if years is not None:
        return years
    born, seen = (str(instance.get(keyword) or "").strip() for keyword in ("PatientBirthDate", "StudyDate"))
    if not (_DATE.fullmatch(born) and _DATE.fullmatch(seen)) or born > seen:
        return None
    return int(seen[:4]) - int(born[:4]) - (seen[4:] < born[4:])


def _age(text: str) -> int | None:
    """Read an age. Source: PS3.5 6.2, AS: three digits and D, W, M or Y; lists write plain years."""
    age = _AGE.fullmatch(text)
    if age is None:
        return None
    return int(age[1]) if age[2] in ("Y", None) else 0
