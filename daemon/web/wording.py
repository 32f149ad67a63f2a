"""How values are shown to people; templates know these as filters. Everything is escaped by the templates."""

from collections.abc import Callable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from markupsafe import Markup
from pydicom.valuerep import PersonName

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_THOUSAND: Final = 1000
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_DATE: Final = 8  # digits
_SEX: Final = {"F": "female", "M": "male", "O": "other"}
VERDICTS: Final = MappingProxyType(
    {
        "positive": "positive",
        "negative": "negative",
        "undetermined": "undetermined",
        "not_applicable": "no chest CT",
        "error": "failed",
    }
)
GROUPS: Final = MappingProxyType(
    {"sr": "report", "sc": "heatmaps", "pm": "map", "kos": "key images", "fhir": "FHIR", "hl7": "HL7"}
)


def person(value: str) -> str:
    """Return a name as people write it: "Doe, John Q." and other scripts behind it in brackets.

    Source: PS3.5 6.2.1, component groups are divided by "=", components by "^".
    """
    groups = [shown for group in value.split("=") if (shown := _group(group))]
    if not groups:
        return ""
    others = [group for group in groups[1:] if group != groups[0]]
    return f"{groups[0]} ({', '.join(others)})" if others else groups[0]


def _group(text: str) -> str:
    name = PersonName(text)
    given = " ".join(filter(None, (name.name_prefix, name.given_name, name.middle_name)))
    whole = ", ".join(filter(None, (name.family_name.strip(), given.strip())))
    return f"{whole}, {name.name_suffix.strip()}" if name.name_suffix.strip() and whole else whole


def day(value: str) -> str:
    """Return a DICOM date as ISO 8601; what is none stays as it is. Source: PS3.5 6.2, DA."""
    is_date = len(value) == _DATE and value.isdigit()
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if is_date else value


def sex(value: str) -> str:
    """Return what Patient's Sex says. Source: PS3.3 C.2.3, (0010,0040)."""
    return _SEX.get(value, value)


def when(value: datetime | None, *, seconds: bool = False, ago: bool = False) -> Markup:
    """Return a time in UTC, which the page's script shows in the viewer's zone."""
    if value is None:
        return Markup("")
    utc = value.astimezone(UTC)
    told = f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    marks = Markup("").join(
        Markup(" {}").format(mark) for mark, on in (("data-seconds", seconds), ("data-ago", ago)) if on
    )
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(utc.isoformat(), told, marks, told)


def share(value: float | None, digits: int = 2) -> str:
    """Return a probability, or any share of 1."""
    return "" if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share in percent."""
    return "" if value is None else f"{value * 100:.{digits}f} %"


def count(value: int | None) -> str:
    """Return a whole number, thousands apart."""
    return "" if value is None else f"{value:,}"


def size(value: float | None) -> str:
    """Return so many bytes."""
    if value is None:
        return ""
    left = float(value)
    for unit in _UNITS:
        if left < _THOUSAND or unit == _UNITS[-1]:
            return f"{left:.0f} {unit}" if unit == "B" else f"{left:.1f} {unit}"
        left /= _THOUSAND
    return ""


def span(seconds: float | None) -> str:
    """Return a length of time."""
    if seconds is None:
        return ""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S:.0f} min {seconds % _MINUTE_S:.0f} s"
    if seconds < _DAY_S:
        return f"{seconds // _HOUR_S:.0f} h {seconds % _HOUR_S // _MINUTE_S:.0f} min"
    return f"{seconds // _DAY_S:.0f} d {seconds % _DAY_S // _HOUR_S:.0f} h"


def verdict(value: str) -> str:
    """Return a verdict in words."""
    return VERDICTS.get(value, value)


def group(value: str) -> str:
    """Return what an output group holds; a variant of one has its name behind a dash or a plus."""
    base = value.partition("-")[0].partition("+")[0]
    return GROUPS.get(base, base)


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    each.__name__: each
    for each in (person, day, sex, when, share, percent, count, size, span, verdict, group)
}
