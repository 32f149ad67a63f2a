"""A node whose clerk has archived studies, its backups, and the node that is restored from them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, make_url, text

from db.backup.make import Node, make_backup
from db.backup.objects import Objects
from db.backup.restore import Place, Restored, restore_backup
from db.session import open_engine
from lungnode.settings import Settings
from lungnode.store import open_archive, open_outputs
from tests.spooling import NOON, ClerkNode


def nothing(*_: int) -> None:
    """Show no progress."""


@dataclass
class BackedUp:
    """A node, the folder of its backups, and places to restore to."""

    clerk: ClerkNode
    folder: Path
    made: list[Path] = field(default_factory=list)
    _databases: int = 0

    @property
    def data(self) -> Path:
        """The node's data folder."""
        return self.clerk.settings.data

    @property
    def objects(self) -> Objects:
        """What of the data folder is in an object store."""
        settings = self.clerk.settings
        stores = {"archive": open_archive(settings), "outputs": open_outputs(settings)}
        return Objects(stores if settings.store.url else {})

    def back_up(self, during: Callable[[int], None] = nothing, *, leaves_objects: bool = False) -> Path:
        """Make a backup; `during` is called with the number of files so far."""
        now = NOON + timedelta(days=len(self.made))
        node = Node(self.data, self.clerk.engine, None, self.objects, leaves_objects)
        self.made.append(make_backup(node, self.folder, now, during))
        return self.made[-1]

    @contextmanager
    def other_database(self, data: Path) -> Iterator[Engine]:
        """Yield an empty database of the same kind."""
        self._databases += 1
        url = self.clerk.engine.url
        name = f"{url.database}_{self._databases}"
        if url.get_backend_name() == "sqlite":
            engine = open_engine(f"sqlite:///{data}/lungnode.sqlite3")
        else:
            _execute(self.clerk.engine, f'CREATE DATABASE "{name}" TEMPLATE template0')
            engine = open_engine(make_url(str(url)).set(database=name).render_as_string(hide_password=False))
        try:
            yield engine
        finally:
            engine.dispose()
            if url.get_backend_name() != "sqlite":
                _execute(self.clerk.engine, f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextmanager
    def restored(
        self, backup: Path, data: Path, now: datetime = NOON + timedelta(days=30)
    ) -> Iterator[tuple[ClerkNode, Restored]]:
        """Yield a node that was restored to an empty folder and an empty database."""
        data.mkdir(exist_ok=True)
        with self.other_database(data) as engine:
            found = restore_backup(backup, Place(data, engine), now, replace=False, progress=nothing)
            node = ClerkNode(engine, Settings(data=data))
            node.clock.now = now
            yield node, found


def _execute(engine: Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
