"""A guard for Deflated Explicit VR Little Endian, whose files may grow a thousandfold when they are read."""

import zlib
from pathlib import Path
from typing import Final

from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lungnode.errors import UnusableError
from lungnode.untrusted import may_grow_to

MAX_BYTES: Final = 1 << 30  # whatever the file has
_CHUNK: Final = 1 << 20
# Source: PS3.10 7.1: preamble, prefix and the group length itself precede what the group length counts.
_BEFORE_META: Final = 128 + 4 + 12


def check_inflated_size(path: Path, limit: int | None = None) -> None:
    """See that a data set fits into memory; of files in other transfer syntaxes only the head is read.

    Args:
        path: The file.
        limit: In bytes; None: what an honest file of this size may hold, and MAX_BYTES at most.

    Raises:
        UnusableError: It inflates to more.
    """
    with path.open("rb") as file:
        if DeflatedExplicitVRLittleEndian.encode() not in file.read(_BEFORE_META + 1024):
            return
        meta = read_file_meta_info(str(path))
        if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
            return
        if limit is None:
            limit = min(MAX_BYTES, may_grow_to(path.stat().st_size))
        file.seek(_BEFORE_META + int(meta.FileMetaInformationGroupLength))
        inflater, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, file.read(_CHUNK)
        while rest and not inflater.eof:
            size += len(inflater.decompress(rest, _CHUNK))
            if size > limit:
                raise UnusableError(f"The deflated data set is larger than {limit} bytes.")
            rest = inflater.unconsumed_tail or file.read(_CHUNK)
