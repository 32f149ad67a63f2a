"""Bytes that nobody vouches for: what decoders raise on them is one error, and they may not grow at will."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lungnode.errors import UnusableError

# Lossless CT shrinks to a third and an empty image to a thousandth, but then it is small. What a peer sends
# in a second must not keep us busy for an hour.
_SMALL: Final = 16 << 20
_MOST: Final = 100


_NO_CONTROLS: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)))


def plain(value: object) -> str:
    """Return a value as text that every database and terminal takes.

    Lone surrogates are replaced; control characters go: NUL, and what would move a terminal's cursor.
    """
    return str(value).encode("utf-8", "replace").decode("utf-8").translate(_NO_CONTROLS).strip()


def may_grow_to(packed: int) -> int:
    """Return how many bytes may come out of so many compressed ones; more is a decompression bomb."""
    return max(_SMALL, _MOST * packed)


class BoundedFile(io.BufferedReader):
    """A file for reading, of which never more is asked than it has.

    An element of 100 bytes may claim four billion; asked for them, Python takes the memory before it looks.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: It cannot be opened.
        """
        super().__init__(io.FileIO(path))
        self._bytes = self.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes, or as many as there are."""
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:  # few are; looking where we are takes time
            size = min(size, max(0, self._bytes - self.tell()))
        return super().read(size)


@contextmanager
def untrusted(problem: str) -> Iterator[None]:
    """Turn every exception of the block into one sentence; our own errors pass.

    Args:
        problem: What could not be done, for example "The pixels cannot be decoded".

    Raises:
        UnusableError: The block raised.
    """
    try:
        yield
    except UnusableError:
        raise
    except Exception as error:  # pydicom, Pillow and the codecs raise nearly everything on damaged bytes
        detail = str(error).strip().rstrip(".") or "no detail"
        raise UnusableError(f"{problem}: {type(error).__name__}, {detail}.") from error
