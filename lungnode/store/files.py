"""What every kind of store can do; archive and outputs are one each.

A store holds files that never change, at paths `<study>/…`, which the rows of the database name. Whoever
reads one gets a local path: in a folder it is the file, of an object store a copy whose digest was checked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from lungnode.errors import UnavailableError

_AT_ONCE: Final = 32  # files that are fetched ahead of whoever reads one after the other


class StoreAwayError(UnavailableError):
    """The store itself does not answer: nothing is known of any file, so no attempt counts."""


class Row(Protocol):
    """A row that names a file."""

    @property
    def path(self) -> str:
        """Below the store."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal."""


@dataclass(frozen=True)
class StoredFile:
    """A file as its row says it is."""

    path: str  # below the store
    size: int = -1  # bytes; -1: the row does not say
    digest: str = ""  # SHA-256, hexadecimal; empty: the row does not say

    @classmethod
    def of(cls, row: Row) -> "StoredFile":
        """Return the file that a row names."""
        return cls(row.path, row.size, row.digest)


@dataclass(frozen=True)
class Arrival:
    """A received file on its way into the archive."""

    source: Path
    study: str
    sop_instance_uid: str
    name: str  # that it gets in a folder, unless another file has it
    digest: str


class Trash(Protocol):
    """Files of one study that are on their way out: deleted, or about to be when a program was killed."""

    @property
    def name(self) -> str:
        """The study."""

    def paths(self) -> list[str]:
        """Return which files, below the store."""

    def put_back(self, path: str) -> None:
        """Keep a file after all: a row names it."""

    def empty(self) -> bool:
        """Delete the rest, and tell whether it is gone."""


class Bin(Protocol):
    """Where folders of studies leave their place in one step."""

    def throw_away(self, study: str) -> Trash | None:
        """Take a study's files from their place, durably; None where there are none."""

    def trash(self) -> Sequence[Trash]:
        """Return what is on its way out."""


class Store(Bin, Protocol):
    """Archive or outputs. What is away raises StoreAwayError or OSError."""

    @property
    def root(self) -> Path:
        """Folder of the files, or of their local copies."""

    def place_of(self, path: str) -> str:
        """Return where a file is, in words of the operator's."""

    def check(self) -> None:
        """Make sure that the store is there."""

    def probe(self) -> None:
        """Write something small, read it back and delete it."""

    def keep(self, arrivals: Sequence[Arrival]) -> list[str]:
        """Take received files, durably; return their paths. A repeat finds the first one's work."""

    def present(self, paths: Sequence[str]) -> set[str]:
        """Return those that are there and not on their way out."""

    def path_for(self, folder: str, stem: str, digest: str) -> str:
        """Return the path of a file that is composed."""

    def prepare(self, files: Mapping[str, Path]) -> None:
        """Take composed files, by path, as far as that harms nobody whose files these paths may be."""

    def place(self, files: Mapping[str, Path]) -> None:
        """Give files that were prepared their places, durably, within the transaction that names them."""

    def fetch(self, files: Sequence[StoredFile]) -> list[Path]:
        """Return local paths, which last for an hour at least; a file that is gone is not there.

        Raises:
            UnavailableError: The store is away, or a file is not what its row says.
        """

    def studies(self) -> Iterator[str]:
        """Yield each study of which there are files."""

    def sizes(self, study: str) -> dict[str, int]:
        """Return path and bytes of each DICOM file of a study."""

    def read_back(self, path: str, into: Path | None = None) -> tuple[int, str] | None:
        """Read a file in the store itself, to its end: its bytes and SHA-256; None where it is gone.

        Where a file is named, the content is written there, with the time at which it was received.
        """


def fetched(store: Store, files: Sequence[StoredFile]) -> Iterator[Path | UnavailableError]:
    """Yield local paths in their order, some files ahead; the error stands in for a file that is damaged.

    Raises:
        StoreAwayError: The store does not answer.
    """
    waiting = iter(files)
    while piece := list(islice(waiting, _AT_ONCE)):
        try:
            yield from store.fetch(piece)
        except StoreAwayError:
            raise
        except UnavailableError:
            yield from (_fetched_alone(store, file) for file in piece)


def _fetched_alone(store: Store, file: StoredFile) -> Path | UnavailableError:
    try:
        return store.fetch([file])[0]
    except StoreAwayError:
        raise
    except UnavailableError as error:
        return error
