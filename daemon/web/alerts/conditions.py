"""What is wrong with a node; pure. No sentence names a patient or a study."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from daemon.web.programs import Program
from db.models import AnalysisState, DeliveryState
from db.numbers import Numbers
from lungnode.settings import Settings

STORE_AWAY: Final = "store away"
_ENDED_BADLY: Final = (DeliveryState.DEAD, DeliveryState.REFUSED)


@dataclass(frozen=True)
class Wrong:
    """One thing that is wrong."""

    name: str  # what kind
    subject: str  # of what; the same name and subject are the same alert
    fact: str
    rest: str = ""  # what follows from it, or where to look

    @property
    def statement(self) -> str:
        """The fact as a sentence; an error's words are one already."""
        return f"{self.fact.rstrip('.')}."

    @property
    def sentence(self) -> str:
        """What operators are told who do not look at a page."""
        return f"{self.fact}: {self.rest}" if self.rest else self.statement


@dataclass(frozen=True)
class Facts:
    """What is known of a node."""

    numbers: Numbers
    programs: Sequence[Program]
    disk_free_bytes: int
    store_away: str = ""  # why the object store cannot be used; empty: it can, or there is none


def what_is_wrong(facts: Facts, settings: Settings) -> Iterator[Wrong]:
    """Yield everything that an operator should look at."""
    yield from _disk(facts.disk_free_bytes, settings)
    if facts.store_away:
        yield Wrong(STORE_AWAY, settings.store.url, facts.store_away)
    yield from _waiting(facts.numbers, settings)
    yield from _ended_badly(facts.numbers)
    for program in facts.programs:
        if not program.alive:
            subject = f"{program.name} on {program.host}"
            yield Wrong("program silent", subject, f"{subject} {program.wrong}")


def _disk(free: int, settings: Settings) -> Iterator[Wrong]:
    limits = settings.receiver
    told = f"{free / 1e9:.1f} GB are free"
    if free < limits.disk_reject_bytes:
        yield Wrong("disk full", "data folder", told, "senders are refused with 0xA700.")
    elif free < limits.disk_warn_bytes:
        yield Wrong("disk low", "data folder", f"{told}, less than receiver.disk_warn_bytes")


def _waiting(numbers: Numbers, settings: Settings) -> Iterator[Wrong]:
    limit_s = settings.notify.waiting_s
    if numbers.oldest_analysis_s > limit_s:
        told = f"An analysis has been due for {numbers.oldest_analysis_s / 60:.0f} minutes"
        yield Wrong("analyses wait", "queue", told, "is an analysis worker running?")
    if numbers.oldest_delivery_s > limit_s:
        told = f"A delivery has been due for {numbers.oldest_delivery_s / 60:.0f} minutes"
        yield Wrong("deliveries wait", "queue", told, "is a delivery worker running?")


def _ended_badly(numbers: Numbers) -> Iterator[Wrong]:
    quarantined = numbers.analyses.get(AnalysisState.QUARANTINED, 0)
    if quarantined:
        told = f"{quarantined} {'analysis is' if quarantined == 1 else 'analyses are'} quarantined"
        yield Wrong("analyses quarantined", "queue", told, "lungnode studies list shows which.")
    by_destination: dict[str, int] = {}
    for (destination, state), count in numbers.deliveries.items():
        if state in _ENDED_BADLY:
            by_destination[destination] = by_destination.get(destination, 0) + count
    for destination, count in sorted(by_destination.items()):
        what = "1 delivery" if count == 1 else f"{count} deliveries"
        told = f"{what} to {destination} {'is' if count == 1 else 'are'} dead or refused"
        yield Wrong("deliveries ended badly", destination, told, "lungnode deliveries list shows why.")
