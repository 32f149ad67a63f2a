"""Archive and outputs, wherever they are kept: in folders, on a mount, in an S3-compatible store.

`files` says what each kind can do, `folder` and `objects` do it. Which kind it is, `store.url` says alone.
"""

from collections.abc import Iterator
from functools import cached_property

from lungnode.settings import Settings
from lungnode.store.files import Arrival, Bin, Store, StoreAwayError, StoredFile, Trash, fetched
from lungnode.store.folder import FolderStore
from lungnode.trash import FolderBin

__all__ = [
    "Arrival",
    "Bin",
    "Store",
    "StoreAwayError",
    "StoredFile",
    "Stores",
    "Trash",
    "fetched",
    "local_bins",
    "open_archive",
    "open_outputs",
]


def open_archive(settings: Settings) -> Store:
    """Return where instances are kept; nothing is connected yet."""
    return _open(settings, "archive")


def open_outputs(settings: Settings) -> Store:
    """Return where what we compose is kept; nothing is connected yet."""
    return _open(settings, "outputs")


class Stores:
    """What opens archive and outputs when it needs them, as its settings say."""

    settings: Settings

    @cached_property
    def archive(self) -> Store:
        """Where instances are."""
        return open_archive(self.settings)

    @cached_property
    def outputs(self) -> Store:
        """Where what we compose is."""
        return open_outputs(self.settings)


def local_bins(settings: Settings) -> Iterator[Bin]:
    """Yield every cache of this host in which a study has a folder of its own."""
    yield from (FolderBin(path) for path in sorted(settings.cache.glob("*")) if path.is_dir())


def _open(settings: Settings, tree: str) -> Store:
    own = settings.store
    if not own.url:
        return FolderStore(settings.data / tree)
    from lungnode.store.bucket import Bucket  # noqa: PLC0415 - nobody without an object store loads it
    from lungnode.store.copies import Copies  # noqa: PLC0415
    from lungnode.store.objects import ObjectStore  # noqa: PLC0415

    copies = Copies(settings.cache, tree, own.cache_bytes)
    return ObjectStore(Bucket(own), f"{own.prefix}{tree}/", copies)
