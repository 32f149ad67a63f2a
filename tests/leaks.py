"""Looks for a patient where none may be: a node at debug level, marked studies, and everything it writes.

To extend it, give the node another part in `tests/test_no_patient_leaks.py`: whatever the program then writes
outside of what `ALLOWED` names is searched.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pydicom import Dataset
from pydicom.datadict import dictionary_VR

# Each attribute has a mark of its own, so that a find says what leaked.
MARKS: Final = {
    "PatientName": "ZZNACHNAME^ZZVORNAME",
    "PatientID": "ZZPID4711",
    "PatientBirthDate": "19210317",
    "AccessionNumber": "ZZACC0815",
    "OtherPatientIDs": "ZZOTHERID",
    "PatientComments": "ZZPATIENTCOMMENT",
    "PatientAddress": "ZZADDRESS",
    "ReferringPhysicianName": "ZZREFERRER",
    "OperatorsName": "ZZOPERATOR",
    "InstitutionName": "ZZINSTITUTION",
    "StationName": "ZZSTATION",
    "StudyDescription": "ZZSTUDYDESCRIPTION",
    "SeriesDescription": "ZZSERIESDESCRIPTION",
    "ProtocolName": "ZZPROTOCOL",
    "ImageComments": "ZZIMAGECOMMENT",
    "StudyID": "ZZSTUDYID",
}
COMMENT: Final = "ZZPEERSAYS"  # in the Error Comment of a peer
TYPED: Final = "ZZTYPED"  # what somebody typed into a form
TOKENS: Final = (
    *(part for mark in MARKS.values() for part in mark.split("^")),
    "1921-03-17",
    COMMENT,
    TYPED,
)
# What is kept of patients on purpose. Source: docs/architecture.md, The data folder.
ALLOWED: Final = (
    "archive/*", "outputs/*", "quarantine/*", "lungnode.sqlite3*", "deidentification/*",
    "spool/*.dcm", "spool/*.part",
)  # fmt: skip


def mark(ds: Dataset) -> Dataset:
    """Give a data set every mark."""
    for keyword, value in MARKS.items():
        ds.add_new(keyword, dictionary_VR(keyword), value)
    return ds


def forms_of(token: str) -> Iterator[tuple[str, bytes]]:
    """Yield how a token may be written, each with its name."""
    plain = token.encode()
    yield "plain", plain
    yield "quoted", quote(token, safe="").encode()
    yield "UTF-16", token.encode("utf-16-le")
    yield "hexadecimal", plain.hex().encode()
    for before in range(3):  # base64 looks different at each of three places
        encoded = base64.b64encode(b"\0" * before + plain)
        # The first and the last group hold bits of their neighbours.
        yield "base64", encoded[4 if before else 0 : 4 * ((before + len(plain)) // 3)]


def leaks(folder: Path, allowed: tuple[str, ...] = ALLOWED) -> list[str]:
    """Say where a token stands in the names and contents of the files below a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if any(path.relative_to(folder).match(pattern) or _below(name, pattern) for pattern in allowed):
            continue
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found += [f"{name}: {told}" for told in _tokens_in(name.encode() + b"\n" + content)]
    return found


def _below(name: str, pattern: str) -> bool:
    return pattern.endswith("/*") and name.startswith(pattern[:-1])


def _tokens_in(content: bytes) -> Iterator[str]:
    lines = content.splitlines()
    for token in TOKENS:
        for form, value in forms_of(token):
            if value and value in content:
                where = next((line for line in lines if value in line), b"")
                yield f"{token} ({form}) in {where[:200]!r}"
                break
