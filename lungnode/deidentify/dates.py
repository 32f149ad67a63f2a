"""Dates that move together: intervals stay, days are lost.

Source: PS3.15 E.3.6, Retain Longitudinal Temporal Information With Modified Dates Option.
"""

import re
from datetime import datetime, timedelta
from typing import Final

# Source: PS3.5 Table 6.2-1, DA and DT; the dotted form is DA's of ACR-NEMA.
_DATE: Final = re.compile(r"(\d{4})(\.?)(\d{2})\2(\d{2})(.*)", re.DOTALL)
_TIME: Final = re.compile(r"([\d.]*)([+-]\d{4})?")


def shifted(value: str, days: int) -> str:
    """Return a DA or DT value `days` later; empty where it holds no whole date."""
    parts = _DATE.fullmatch(value.strip())
    if parts is None:
        return ""
    year, _, month, day, rest = parts.groups()
    try:
        moved = datetime(int(year), int(month), int(day)) + timedelta(days=days)  # noqa: DTZ001 - a DA has no zone
    except (ValueError, OverflowError):
        return ""
    # strftime writes years before 1000 without their zeros.
    return f"{moved.year:04}{moved:%m%d}{rest if _TIME.fullmatch(rest) else ''}"
