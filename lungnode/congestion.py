"""A word of a host's clerk to its receiver: that too much waits, so that senders should keep the rest.

It is a file in the spool that the clerk renews as long as it is so. What a clerk that died said is forgotten.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE: Final = ".congested"  # in the spool: a stray file for whoever looks for associations
FORGOTTEN_S: Final = 60.0  # several sweeps of a clerk


def tell(spool: Path) -> None:
    """Say that too much waits, or say so again.

    Raises:
        OSError: The spool cannot be written.
    """
    spool.mkdir(parents=True, exist_ok=True)
    (spool / FILE).touch()


def take_back(spool: Path) -> None:
    """Say that the receiver may take more.

    Raises:
        OSError: The spool cannot be written.
    """
    (spool / FILE).unlink(missing_ok=True)


def is_told(spool: Path) -> bool:
    """Tell whether the clerk said lately that too much waits."""
    with suppress(OSError):
        return time.time() - (spool / FILE).stat().st_mtime < FORGOTTEN_S
    return False
