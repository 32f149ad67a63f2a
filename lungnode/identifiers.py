"""Identifiers that can be derived again: the same study, model, revision and kind give the same UID.

Source: PS3.5 B.2, a UUID under the root 2.25; RFC 4122 4.3, UUIDs from names.
"""

from typing import Final
from uuid import NAMESPACE_OID, UUID, uuid5

from pydicom.uid import UID

# Changing it would give every result a second identity.
_NAMESPACE: Final = uuid5(NAMESPACE_OID, "lungnode")

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that is taken for another


def derive_uid(*parts: str | int) -> UID:
    """Return the UID of `parts`, in their order.

    Floating-point values are kept out by type: their last digits differ between hosts.
    """
    # JSON-like separation: ("a", "bc") and ("ab", "c") must not meet.
    name = "\0".join(f"{len(str(part))}:{part}" for part in parts)
    return to_uid(uuid5(_NAMESPACE, name))


def short_identifier(*parts: str | int) -> str:
    """Return 20 letters and digits for `parts`, for systems that take no longer identifier.

    They hold 100 bits of a UUID, 94 of which are its name's.
    """
    number = int(derive_uid(*parts).removeprefix("2.25."))
    return "".join(_DIGITS[number >> shift & 31] for shift in range(0, 100, 5))


def to_uid(value: UUID) -> UID:
    """Return `value` as a UID under 2.25.

    Source: PS3.5 B.2.
    """
    return UID(f"2.25.{value.int}")
