"""The one seam where whatever a decoder raises on untrusted bytes becomes an UnusableError."""

from collections.abc import Iterator
from contextlib import contextmanager

from lungnode.errors import UnusableError


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
