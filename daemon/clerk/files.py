"""What the clerk's folders may raise, in words of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lungnode.errors import UnavailableError


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Translate what the file system raises.

    Raises:
        UnavailableError: It cannot be read or written, or its disk is full.
    """
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"The folder {folder} cannot be used: {error.strerror}.") from error
