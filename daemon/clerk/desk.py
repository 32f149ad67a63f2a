"""The clerk's desk for storage commitment: requests are verified, and their reports handed on."""

import logging
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from daemon.clerk import spool
from daemon.clerk.rendezvous import Rendezvous, as_held, is_open
from daemon.clerk.verify import Request, look_up, may_still_come, verify
from db import commitments
from db.models import CommitmentRequest, CommitmentState, Study
from db.session import transaction
from db.work import VERIFICATIONS, Claim, claim, finish, give_back, new_owner, renew
from lungnode.commitment import Reference
from lungnode.errors import UnavailableError
from lungnode.settings import Peer, Settings
from lungnode.store import open_archive

_log = logging.getLogger(__name__)
_LOOK: Final = timedelta(seconds=1)  # between two looks at a request that waits for the spool
_BREATH: Final = timedelta(seconds=2)  # of reading files, between which associations are attended to


class CommitmentDesk:
    """One clerk's; what it does may be repeated after a crash at any point."""

    def __init__(
        self, engine: Engine, settings: Settings, stopping: Callable[[], bool], clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._archive = open_archive(settings)
        self._stopping = stopping
        self._clock = clock
        self._host = socket.gethostname()
        self._rendezvous = Rendezvous(engine, settings.spool, self._host, settings.delivery)

    def round(self) -> tuple[int, bool]:
        """Work through what is there.

        Returns:
            How many reports are due for a courier now, and whether something waits that is the clerk's.

        Raises:
            UnavailableError: Database, spool or archive is away; nothing is lost.
        """
        waits = self._rendezvous.attend(self._clock())
        with transaction(self._engine) as session:
            requests = commitments.to_verify(session, self._host, self._clock())
        states = [self._verify(row_id) for row_id in requests if not self._stopping()]
        ours = (CommitmentState.REQUESTED, CommitmentState.REPORTING)
        return states.count(CommitmentState.VERIFIED), waits or any(state in ours for state in states)

    def _verify(self, row_id: int) -> str:
        """Verify one request; return its new state, empty when somebody else has it."""
        held = Claim(VERIFICATIONS, row_id, new_owner())
        request = self._claim(held)
        if request is None:
            return ""
        if self._waits(request):
            return self._postpone(held, request.row)
        try:
            return self._conclude(held, request, self._judge(held, request))
        except UnavailableError:
            with transaction(self._engine) as session:
                give_back(session, held, self._clock())
            raise

    def _claim(self, held: Claim) -> Request | None:
        with transaction(self._engine) as session:
            if not claim(session, held, self._clock(), self._settings.delivery.lease_s):
                return None
            return look_up(session, session.get_one(CommitmentRequest, held.row_id))

    def _waits(self, request: Request) -> bool:
        spooled = request.lacks and _has_older(self._settings.spool, request.row, self._clock())
        wait_s = self._settings.commitment.wait_s
        with transaction(self._engine) as session:
            return may_still_come(session, request, self._clock(), wait_s=wait_s, spooled=spooled)

    def _postpone(self, held: Claim, row: CommitmentRequest) -> str:
        state = CommitmentState.REQUESTED
        values = {"state": state, "attempts": row.attempts - 1, "due_at": self._clock() + _LOOK}
        with transaction(self._engine) as session:
            return state if finish(session, held, values) else ""

    def _judge(self, held: Claim, request: Request) -> list[Reference]:
        """Read all files; meanwhile the lease is renewed, and associations are attended to."""
        judged: list[Reference] = []
        unknown = self._settings.receiver.unknown_sop_classes
        breathed = self._clock()
        for reference in verify(request, self._archive, unknown_sop_classes=unknown):
            judged.append(reference)
            if self._stopping():
                raise UnavailableError("The clerk is stopping.")
            if self._clock() - breathed >= _BREATH:
                breathed = self._clock()
                self._rendezvous.attend(breathed)
                with transaction(self._engine) as session:
                    renew(session, held, breathed, self._settings.delivery.lease_s)
        return judged

    def _conclude(self, held: Claim, request: Request, judged: list[Reference]) -> str:
        row, now = request.row, self._clock()
        values = {
            "instances": [each.as_record() for each in judged],
            "verified_at": now,
            "due_at": now,
            "woken_at": None,
        }
        waits = self._reports_on(row) == "same" and is_open(self._settings.spool, row.association_id, now)
        if waits:
            values |= as_held(row.association_id, now)
        else:
            values |= {"state": CommitmentState.VERIFIED, "attempts": 0}
        with transaction(self._engine) as session:
            uids = [session.get_one(Study, id_).study_instance_uid for id_ in request.study_ids]
            commitments.link_studies(session, row, uids)
            if not finish(session, held, values):
                return ""
        self._tell(row, judged)
        if waits:
            self._rendezvous.attend(now)
        return str(values["state"])

    def _reports_on(self, row: CommitmentRequest) -> str:
        """Say which association the peer that asked wants its report on."""
        known = [*self._settings.peers, *self._settings.destinations]
        titled = [each for each in known if isinstance(each, Peer) and each.ae_title == row.calling_ae_title]
        wanted = [each.report_on for each in titled if each.report_on]
        return wanted[0] if wanted else self._settings.commitment.report_on

    def _tell(self, row: CommitmentRequest, judged: list[Reference]) -> None:
        failed = sum(each.failure_reason is not None for each in judged)
        _log.log(
            logging.WARNING if failed else logging.INFO,
            "commitment of %d instances for %s verified, transaction %s: %d failed",
            len(judged),
            row.calling_ae_title,
            row.transaction_uid,
            failed,
        )


def _has_older(folder: Path, row: CommitmentRequest, now: datetime) -> bool:
    """Whether the spool holds an association that began before the request and is not worked off."""
    return any(
        each.id != row.association_id and each.opened_at <= row.requested_at
        for each in spool.scan(folder, now)
    )
