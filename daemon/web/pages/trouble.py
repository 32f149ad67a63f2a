"""Everything that is wrong with a node: what operators are told of, and what only the page says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from daemon.web.alerts.conditions import Facts, Wrong, what_is_wrong
from lungnode.certificates import SOON, expires_at
from lungnode.errors import UnavailableError
from lungnode.settings import Settings


@dataclass(frozen=True)
class Known:
    """What is known of a node when its page is asked for."""

    facts: Facts
    silent: Sequence[str]  # destinations that did not answer the last C-ECHO
    has_destinations: bool


def all_trouble(known: Known, settings: Settings, now: datetime) -> Iterator[Wrong]:
    """Yield it, in no order."""
    yield from what_is_wrong(known.facts, settings)
    yield from _certificates(settings, now)
    for program in known.facts.programs:
        if program.alive and not program.ready:
            yield Wrong("program waits", program.name, f"{program.name} on {program.host} {program.waits}")
    for name in known.silent:
        yield Wrong("destination silent", name, f"{name} did not answer the last C-ECHO")
    if not known.has_destinations:
        yield Wrong("no destination", "settings", "No destination is set")
    count = known.facts.numbers.quarantined_files
    if count:
        what = (
            "1 file cannot be indexed and was" if count == 1 else f"{count} files cannot be indexed and were"
        )
        yield Wrong("files set aside", "quarantine", f"{what} set aside")


def _certificates(settings: Settings, now: datetime) -> Iterator[Wrong]:
    ours = {settings.receiver.tls.certificate: "receiver", settings.web.certificate: "web"}
    for peer in (*settings.peers, *settings.destinations):
        tls = getattr(peer, "tls", None)
        ours.setdefault(tls.certificate if tls else None, f"connection to {peer.name}")
    for path, place in ours.items():
        if path is not None:
            yield from _certificate(path, place, now)


def _certificate(path: Path, place: str, now: datetime) -> Iterator[Wrong]:
    try:
        left = expires_at(path) - now
    except UnavailableError as error:
        yield Wrong("certificate", place, str(error))
        return
    if left < SOON:
        when = f"expires in {left.days} days" if left.days >= 0 else "has expired"
        yield Wrong("certificate", place, f"The certificate of the {place} {when}")
