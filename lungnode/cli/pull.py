"""Commands: pull."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lungnode.cli import settings_of
from lungnode.cli.studies import DATES, open_database
from lungnode.errors import LungnodeError, SettingsError, UnusableError
from lungnode.settings import Peer, Settings

if TYPE_CHECKING:
    from daemon.pull.study import Fetched
    from lungnode.scu.find import StudyMatch

_LOG = logging.getLogger(__name__)
_UID: Final = re.compile(r"[0-9.]{1,64}")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(pull)


def pull(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    source: Annotated[str, typer.Option("--from", help="Name of the peer, as in the settings.")],
    study: Annotated[str, typer.Option(help="Study Instance UID.")] = "",
    accession: Annotated[str, typer.Option(help="Accession Number.")] = "",
    patient: Annotated[str, typer.Option(help="Patient ID.")] = "",
    date: Annotated[str, typer.Option(help="Study Date YYYYMMDD, or a range: 20260101-20260131.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Fetch all studies that match.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Fetch studies from a PACS; what comes is indexed and analysed as if it had been sent."""
    from daemon.pull.study import find_studies  # noqa: PLC0415 - when called

    settings = settings_of(context)
    peer = peer_named(settings, source)
    keys = _keys(study, accession, patient, date)
    _check(peer, keys)
    _note(settings, peer, keys)
    found = find_studies(peer, settings, keys)
    if not found:
        raise UnusableError(f"Peer {peer.name} has no study of this {' and '.join(keys)}.")
    if len(found) > 1 and not every:
        _print_matches(peer, found, as_json=as_json)
        raise UnusableError(f"{len(found)} studies match: say more of the one you want, or --all.")
    fetched = _fetch(settings, peer, found)
    _print_fetched(peer, fetched, as_json=as_json)
    if not all(each.is_whole for each in fetched):
        raise typer.Exit(1)


def _note(settings: Settings, peer: Peer, keys: dict[str, str]) -> None:
    """Let the audit trail know; a node that was never started has none, and fetches all the same."""
    from daemon.pull.audited import note_query  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called
    from lungnode.audit.events import account  # noqa: PLC0415 - when called

    try:
        with transaction(open_database(settings)) as session:
            note_query(session, account(), peer, keys, datetime.now(UTC))
    except LungnodeError as error:
        _LOG.warning("the question is not in the audit trail: %s", error)


def peer_named(settings: Settings, name: str) -> Peer:
    """Return a peer or destination by its name.

    Raises:
        SettingsError: There is none.
    """
    known = {each.name: each for each in (*settings.destinations, *settings.peers) if isinstance(each, Peer)}
    if name not in known:
        names = ", ".join(known) or "none"
        raise SettingsError(f"The settings name no peer {name!r}; there are: {names}.")
    return known[name]


def _keys(study: str, accession: str, patient: str, date: str) -> dict[str, str]:
    if study and not _UID.fullmatch(study):
        raise typer.BadParameter(f"{study}: a UID has digits and dots, 64 at most.")
    if date and not DATES.fullmatch(date):
        raise typer.BadParameter(f"{date}: a date is YYYYMMDD, a range 20260101-20260131.")
    asked = {
        "StudyInstanceUID": study,
        "AccessionNumber": accession,
        "PatientID": patient,
        "StudyDate": date,
    }
    if not any(asked.values()):
        raise typer.BadParameter("Say which study: --study, --accession, --patient or --date.")
    return {name: value for name, value in asked.items() if value}


def _check(peer: Peer, keys: dict[str, str]) -> None:
    if peer.retrieve == "none" or peer.query == "none":
        raise SettingsError(
            f'Peer {peer.name} may not be fetched from: set its query = "study_root" and '
            'its retrieve = "get" or "move".'
        )
    # Source: PS3.4 C.4.1.2.1, a unique key for each level above the one of the query.
    if peer.query == "patient_root" and "PatientID" not in keys:
        raise typer.BadParameter(f"Peer {peer.name} is asked by patient (patient_root): say --patient, too.")


def _fetch(settings: Settings, peer: Peer, found: list["StudyMatch"]) -> list["Fetched"]:
    from rich.console import Console  # noqa: PLC0415 - when called
    from rich.progress import Progress  # noqa: PLC0415

    from daemon.pull.retrieve import Suboperations  # noqa: PLC0415
    from daemon.pull.study import fetch_study  # noqa: PLC0415

    fetched = []
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        for number, study in enumerate(found, 1):
            task = bar.add_task(f"Study {number} of {len(found)}", total=study.instances)

            def show(count: Suboperations, task: Any = task) -> None:
                done = count.completed + count.failed + count.warning
                bar.update(task, completed=done, total=done + count.remaining)

            fetched.append(fetch_study(peer, settings, study, show))
    return fetched


def _print_matches(peer: Peer, found: list["StudyMatch"], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"peer": peer.name, "matches": [_study(each) for each in found]}, indent=2))
        return
    from rich.markup import escape  # noqa: PLC0415 - when called
    from rich.table import Table  # noqa: PLC0415

    from lungnode.cli.study_views import wide_console  # noqa: PLC0415

    table = Table("Study", "Patient ID", "Accession", "Date", "Description", "Modalities", "Images")
    for each in found:
        told = {name: value for name, value in _study(each).items() if name != "modalities"}
        cells = [*map(str, told.values())]
        cells.insert(-1, ", ".join(each.modalities))
        table.add_row(*map(escape, cells))
    wide_console().print(table)


def _study(match: "StudyMatch") -> dict[str, Any]:
    return {**vars(match), "modalities": list(match.modalities)}


def _print_fetched(peer: Peer, fetched: list["Fetched"], *, as_json: bool) -> None:
    if as_json:
        records = [
            _study(each.study)
            | {
                "completed": each.count.completed,
                "failed": each.count.failed,
                "warning": each.count.warning,
                "reason": each.reason,
            }
            for each in fetched
        ]
        typer.echo(json.dumps({"peer": peer.name, "studies": records}, indent=2))
        return
    for each in fetched:
        typer.echo(f"Study {each.study.study_instance_uid}: {_counts(each)}.")
        if each.reason:
            typer.echo(each.reason, err=True)
        elif each.count.failed:
            typer.echo(
                f"Peer {peer.name} could not send all of it; its log may say why. Try again.", err=True
            )


def _counts(fetched: "Fetched") -> str:
    count = fetched.count
    parts = [f"{count.completed} instances fetched"]
    parts += [f"{count.warning} with a warning"] if count.warning else []
    parts += [f"{count.failed} failed"] if count.failed else []
    return ", ".join(parts)
