"""The check of `lungnode check` on the object store of archive and outputs."""

from collections.abc import Iterator

from lungnode.cli._check import Check, Status
from lungnode.errors import UnavailableError
from lungnode.settings import Settings
from lungnode.store import open_archive, open_outputs

_MEND = (
    "Look at store.url and store.endpoint, at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the host's "
    "role: they have to list, read, write and delete there."
)


def check_store(settings: Settings) -> Iterator[Check]:
    """Write, read and delete a small object in archive and outputs; folders are looked at as such."""
    if not settings.store.url:
        return
    try:
        for store in (open_archive(settings), open_outputs(settings)):
            store.probe()
    except UnavailableError as error:
        yield Check("store", Status.WRONG, str(error), error.advice or _MEND)
        return
    yield Check("store", Status.OK, f"{settings.store.url} takes, gives back and deletes.")
