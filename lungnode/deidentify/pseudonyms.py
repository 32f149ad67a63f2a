"""Who a patient becomes: everything new is an HMAC of what it replaces, under a secret of this node.

The same study exported twice, or two studies of one patient, therefore agree without a table to look up, and
nobody without the secret can test a guess. What became of what is noted beside the secret, see `linkage`.
"""

import hmac
import os
import secrets
from base64 import b32encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from lungnode.errors import UnusableError
from lungnode.identifiers import to_uid

FOLDER: Final = "deidentification"  # below the data folder, never below what is exported
SHIFT_DAYS: Final = (365, 3650)  # into the past; at least a year, so that no season or week gives it away
_STANDARD_ROOT: Final = "1.2.840.10008."  # UIDs of the Standard itself: classes, syntaxes, known frames
_SECRET_BYTES: Final = 32


@dataclass(frozen=True)
class Person:
    """What stands for a patient in everything that leaves."""

    patient_id: str  # also the name
    shift_days: int  # added to every date; negative


class Pseudonyms:
    """New UIDs and persons, the same ones for the same secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def uid(self, original: str) -> str:
        """Return the UID that replaces `original`; the Standard's own stay.

        Source: PS3.15 E.1.1, action U; PS3.5 B.2, UIDs from UUIDs.
        """
        if original.startswith(_STANDARD_ROOT) or not original:
            return original
        return str(to_uid(UUID(bytes=self._digest("uid", original)[:16], version=4)))

    def person(self, patient: str) -> Person:
        """Return who a patient becomes; `patient` is the Patient ID, or what stands for one."""
        digest = self._digest("patient", patient)
        first, last = SHIFT_DAYS
        shift = first + int.from_bytes(digest[16:]) % (last - first + 1)
        return Person("LN" + b32encode(digest[:10]).decode(), -shift)

    def reader(self, name: str) -> str:
        """Return what stands for the reader of a label; nobody stays nobody."""
        return name and "R" + b32encode(self._digest("reader", name)[:5]).decode()

    def _digest(self, kind: str, original: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}\0{original}".encode(), "sha256")


def open_pseudonyms(data: Path) -> Pseudonyms:
    """Return the node's pseudonyms; the first call makes its secret, readable by the owner alone.

    Raises:
        UnusableError: The secret is damaged or readable by others.
    """
    folder = data / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _secret_file(data)
    if not path.exists():
        _create(path)
    if path.stat().st_mode & 0o077:
        raise UnusableError(f"{path} can be read by others; nothing is exported until its mode is 0600.")
    secret = path.read_bytes()
    if len(secret) != _SECRET_BYTES:
        raise UnusableError(f"{path} holds {len(secret)} bytes instead of {_SECRET_BYTES}; restore it.")
    return Pseudonyms(secret)


def has_pseudonyms(data: Path) -> bool:
    """Tell whether the node ever needed any."""
    return _secret_file(data).exists()


def _secret_file(data: Path) -> Path:
    return data / FOLDER / "secret"


def _create(path: Path) -> None:
    """Write a new secret, whole or not at all; of two programs that do so at once, the first one's stays."""
    part = path.with_name(f".secret.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_SECRET_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(part)
    except FileExistsError:
        pass
    finally:
        part.unlink()
