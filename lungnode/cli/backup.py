"""Commands: backup and restore."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress

from lungnode.cli import settings_of
from lungnode.errors import UnavailableError

if TYPE_CHECKING:
    from db.backup.objects import Objects
    from db.backup.restore import Restored
    from lungnode.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_SHOWN: Final = 10  # names of a list; all of them are in --json


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(backup)
    app.command()(restore)


def backup(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of the backups, on another disk.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the newest backup there instead, and say what is wrong.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Then delete all but so many, the newest.", show_default="all")
    ] = None,
    without_store: Annotated[
        bool, typer.Option("--without-store", help="Leave an object store to its own versions and copies.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back up database, studies, results and models while the node runs; only what is new is copied."""
    if verify:
        _verify(folder, as_json=as_json)
        return
    from db import audit  # noqa: PLC0415 - when called
    from db.backup.make import Node, drop_oldest, make_backup  # noqa: PLC0415
    from db.backup.record import read_record  # noqa: PLC0415
    from db.session import transaction  # noqa: PLC0415
    from lungnode.cli.studies import open_database  # noqa: PLC0415

    settings = settings_of(context)
    engine = open_database(settings)
    named = os.environ.get("LUNGNODE_CONFIG")
    node = Node(settings.data, engine, Path(named) if named else None, _objects(settings), without_store)
    with _counter("Backing up") as count:
        made = make_backup(node, folder, datetime.now(UTC), lambda done: count(done, None))
    record = read_record(made)
    with transaction(engine) as session:
        audit.record(session, "backup made", made.name, datetime.now(UTC), files=record.files)
    engine.dispose()
    dropped = drop_oldest(folder, keep) if keep else 0
    if as_json:
        typer.echo(
            json.dumps({"path": str(made), "deleted": dropped, **record.model_dump(mode="json")}, indent=2)
        )
        return
    typer.echo(f"The backup {made} has {record.files} files, {record.bytes / 1e9:.3f} GB.")
    if made.stat().st_dev == settings.data.stat().st_dev:
        typer.echo(
            "It is on the same disk as the node: copy it elsewhere, or it is lost with that disk.", err=True
        )
    _tell("The node has lost files that its database names", record.absent)
    _tell("Files of the node are not those of its database", record.changed)


def _objects(settings: "Settings") -> "Objects":
    from db.backup.objects import Objects  # noqa: PLC0415 - when called
    from db.backup.tree import ARCHIVE, OUTPUTS  # noqa: PLC0415
    from lungnode.store import open_archive, open_outputs  # noqa: PLC0415

    stores = {ARCHIVE: open_archive(settings), OUTPUTS: open_outputs(settings)}
    return Objects(stores if settings.store.url else {})


def _verify(folder: Path, *, as_json: bool) -> None:
    from db.backup.record import find_backup, read_record  # noqa: PLC0415 - when called
    from db.backup.verify import verify_backup  # noqa: PLC0415

    found = find_backup(folder)
    with _counter("Reading") as count:
        wrong = list(verify_backup(found, lambda done: count(done, None)))
    if as_json:
        typer.echo(json.dumps({"path": str(found), "ok": not wrong, "wrong": wrong}, indent=2))
    elif wrong:
        _tell(f"The backup {found} is damaged", wrong)
    else:
        typer.echo(f"The backup {found} is whole: {read_record(found).files} files.")
    if wrong:
        raise typer.Exit(1)


def restore(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A backup, or a folder of backups: then the newest.")],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Put aside what is in the data folder, and drop the database's tables."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty data folder and an empty database; say what is missing."""
    from db import audit  # noqa: PLC0415 - when called
    from db.backup.record import find_backup  # noqa: PLC0415
    from db.backup.restore import Place, restore_backup  # noqa: PLC0415
    from db.session import open_engine, transaction  # noqa: PLC0415
    from lungnode.cli._programs import running_programs  # noqa: PLC0415
    from lungnode.supervisor import sole_owner  # noqa: PLC0415

    settings = settings_of(context)
    found, engine, now = find_backup(folder), open_engine(settings.database), datetime.now(UTC)
    with sole_owner(settings.data), _counter("Restoring") as count:
        running = running_programs(settings.data)
        if running:
            raise UnavailableError(f"{', '.join(running)} runs on {settings.data}: stop it first.")
        place = Place(settings.data, engine, _objects(settings))
        restored = restore_backup(found, place, now, replace=replace, progress=count)
        with transaction(engine) as session:
            audit.record(session, "node restored", found.name, now, files=restored.files)
    engine.dispose()
    if as_json:
        typer.echo(json.dumps(_described(found, restored), indent=2))
    else:
        _tell_restored(found, restored, settings.data)
    if restored.damaged or restored.absent:
        raise typer.Exit(1)


def _described(found: Path, restored: "Restored") -> dict[str, Any]:
    values = {name: getattr(restored, name) for name in ("files", "damaged", "absent", "released")}
    return {"path": str(found), "made_at": restored.record.made_at.isoformat(), **values}


def _tell_restored(found: Path, restored: "Restored", data: Path) -> None:
    from db.backup.record import SETTINGS_FILE  # noqa: PLC0415 - when called

    typer.echo(
        f"{restored.files} files and the database of {found} are in {data}; "
        f"{restored.released} pieces of work that were under way begin again."
    )
    typer.echo(
        "Not in a backup: variables (passwords), what settings name outside of the data folder, the cache."
    )
    if (found / SETTINGS_FILE).exists():
        typer.echo(f"The settings file of then is {found / SETTINGS_FILE}.")
    _tell("Damaged in the backup, and left out", restored.damaged)
    _tell("Named by the database, and not there", restored.absent)


def _tell(what: str, names: list[str] | tuple[str, ...]) -> None:
    if not names:
        return
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    typer.echo(f"{what}: {', '.join(names[:_SHOWN])}{more}", err=True)


@contextmanager
def _counter(what: str) -> Iterator[Callable[[int, int | None], None]]:
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
