"""How long sending may take, and what ends it when the peer's own limits do not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Final

from lungnode.settings import DeliverySettings

PACE: Final[int] = DeliverySettings().slowest_bytes_s


def limit_of(timeout_s: float, size: int, pace: int) -> float:
    """Return the seconds that `size` bytes and their answer may take, at `pace` bytes a second."""
    return timeout_s + size / pace


@contextmanager
def cut_after(limit_s: float, cut: Callable[[], None]) -> Iterator[None]:
    """Call `cut` from another thread if the block takes longer.

    Limits on single reads and writes are not enough: a peer may take or give a byte now and then, for ever.
    """
    timer = Timer(limit_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
