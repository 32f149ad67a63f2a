"""Logging: one event a line with UIDs, never a name, an ID or a data set.

Warning: a peer is wrong. Error: we are.
"""

import logging
import sys
from typing import Final

# pynetdicom and pydicom log identifiers and values at debug level: patients' names would reach the log.
_TALKATIVE: Final = (
    "highdicom",
    "alembic",
    "kombu",
    "amqp",
    "h5py",
    "tensorflow",
    "PIL",
    "dicomweb_client",
    "urllib3",
    "hl7apy",
    "aiobotocore",
    "botocore",
    "fsspec",
    "s3fs",
)
_REPEATED: Final = ("pynetdicom",)  # we tell each failure of an association ourselves, in one line
# Their warnings quote the value that is wrong, which may be a name.
_QUOTING: Final = ("pydicom", "py.warnings")


def start_log(level: str) -> None:
    """Send this process's log to standard error, a line an event."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        force=True,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.captureWarnings(True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _QUOTING:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in _REPEATED:
        logging.getLogger(name).setLevel(logging.CRITICAL)
