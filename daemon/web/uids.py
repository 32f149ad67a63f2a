"""What a UID in an address looks like."""

from typing import Final

UID_PATTERN: Final = r"^[0-9]+(\.[0-9]+)*$"  # Source: PS3.5 9.1
