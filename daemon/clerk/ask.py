"""Which source a study has, what it is asked and when, and what its answer is worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from daemon.clerk.completeness import Told
from db import inquiries
from db.inquiries import Question
from db.models import Inquiry, InquiryKind, InquiryState, Study
from lungnode.errors import UnusableError
from lungnode.rules import like, rule_named
from lungnode.settings import Peer, Settings

Inquiries = Mapping[tuple[int, str], Inquiry]


def may_ask(settings: Settings) -> bool:
    """Whether the settings allow any question at all."""
    return any(isinstance(each, Peer) and each.query != "none" for each in _known(settings))


def source_of(settings: Settings, study: Study) -> Peer | None:
    """Return the peer that is asked about a study: the sender itself, or one that answers for it."""
    if asking_of(settings, study) == "no":
        return None
    sender = study.calling_ae_title
    for peer in _known(settings):
        if isinstance(peer, Peer) and peer.query != "none" and _knows(peer, sender):
            return peer
    return None


def source_named(settings: Settings, name: str) -> Peer:
    """Return the peer that a question names.

    Raises:
        UnusableError: The settings do not name it any more.
    """
    for peer in _known(settings):
        if isinstance(peer, Peer) and peer.name == name:
            return peer
    raise UnusableError(f"The settings name no peer {name!r} any more.")


def asking_of(settings: Settings, study: Study) -> str:
    """Return what the clerk may do about a study: no, count, fetch."""
    return rule_named(settings, study.rule).ask or settings.clerk.ask


def _known(settings: Settings) -> tuple[object, ...]:
    return (*settings.peers, *settings.destinations)


def _knows(peer: Peer, ae_title: str) -> bool:
    return peer.ae_title == ae_title or any(like(pattern, ae_title) for pattern in peer.answers_for)


class Questions:
    """Makes questions due, and says what the answers are worth."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._may_ask = may_ask(settings)

    def asked(self, session: Session) -> Inquiries:
        """Return what was asked about the studies that are being received."""
        return inquiries.current_inquiries(session) if self._may_ask else {}

    def consult(
        self, session: Session, case: "Case", asked: Inquiries, now: datetime
    ) -> tuple[Told | None, datetime | None]:
        """Ask what should be asked about a study that nobody sends at the moment.

        Returns:
            What its source told, unless an instance has come since; and since when the source is being asked,
            while the first attempt has not ended.
        """
        peer = source_of(self._settings, case.study)
        if peer is None:
            return None, None
        row = asked.get((case.study.id, InquiryKind.COUNT))
        if row is None or row.newest != case.newest:
            due_at = case.study.changed_at + timedelta(seconds=self._settings.clerk.ask_after_s)
            question = Question(InquiryKind.COUNT, peer.name, case.newest, due_at)
            return None, inquiries.ask(session, case.study, row, question, now).asked_at
        told = _told(row)
        if told is not None and told.present < told.expected:
            return told, self._fetch(session, case, peer, asked, now)
        return told, _first_attempt(row)

    def postpone(self, study: Study, asked: Inquiries, now: datetime) -> None:
        """Let what waits to be asked about a study that is being sent begin to wait when that is over."""
        for kind in InquiryKind:
            row = asked.get((study.id, kind))
            if row is not None and row.state == InquiryState.PENDING:
                row.asked_at = now

    def _fetch(
        self, session: Session, case: "Case", peer: Peer, asked: Inquiries, now: datetime
    ) -> datetime | None:
        """Have the missing images fetched once nothing has come for the quiet period."""
        is_wanted = asking_of(self._settings, case.study) == "fetch" and peer.retrieve != "none"
        if not is_wanted or now < case.study.changed_at + case.quiet:
            return None
        row = asked.get((case.study.id, InquiryKind.FETCH))
        question = Question(InquiryKind.FETCH, peer.name, case.newest, now)
        if row is None or (row.newest != case.newest and row.attempts < self._settings.clerk.ask_attempts):
            row = inquiries.ask(session, case.study, row, question, now)
        return _first_attempt(row)


@dataclass(frozen=True)
class Case:
    """A study to be judged."""

    study: Study
    newest: int  # instances.id of its newest one
    quiet: timedelta  # its quiet period while nothing is known to be missing


def _told(row: Inquiry) -> Told | None:
    if row.state != InquiryState.ANSWERED or row.present is None or row.expected is None:
        return None
    return Told(row.peer, row.present, row.expected)


def _first_attempt(row: Inquiry) -> datetime | None:
    """Return when a question was asked whose first attempt has not ended; later ones hold nothing back."""
    is_waiting = row.state == InquiryState.PENDING and row.attempts == 0
    is_first = is_waiting or (row.state == InquiryState.ASKING and row.attempts <= 1)
    return row.asked_at if is_first else None
