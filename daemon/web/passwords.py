"""Passwords: what is accepted as one, how it is kept, how it is compared."""

from functools import cache
from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from db.sign_in import WINDOW
from lungnode.errors import UnusableError

SHORTEST: Final = 12  # characters; length is worth more than odd characters. Source: NIST SP 800-63B 5.1.1
LONGEST: Final = 256  # so that nobody lets us compute on a megabyte
# What a place of work hears that tried too often.
TOO_MANY: Final = "Too many wrong passwords; try again in a quarter of an hour."
WAIT: Final = {"Retry-After": str(int(WINDOW.total_seconds()))}
# A comparison takes 64 MiB: as many as there are threads would be a gigabyte.
_AT_ONCE: Final = BoundedSemaphore(2)


def hash_password(password: str) -> str:
    """Return what is kept of a password.

    Raises:
        UnusableError: It is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise UnusableError(f"A password has {SHORTEST} to {LONGEST} characters.")
    with _AT_ONCE:
        return PasswordHasher().hash(password)


def is_right(kept: str, password: str) -> bool:
    """Compare a password with what is kept; it takes as long where nothing is kept."""
    if len(password) > LONGEST:
        return False
    with _AT_ONCE:
        try:
            return PasswordHasher().verify(kept or _nobodys(), password) and bool(kept)
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(kept: str) -> bool:
    """Tell whether it was hashed with other numbers than today's."""
    return PasswordHasher().check_needs_rehash(kept)


@cache
def _nobodys() -> str:
    return PasswordHasher().hash("nobody has this password")
