"""What a C-GET brings is kept as the receiver keeps it: durable in the spool before it is a success."""

import logging
from datetime import UTC, datetime
from typing import Any

from pydicom import Dataset
from pynetdicom import evt

from daemon.receiver.associate import ContextResult, NegotiatedContext
from daemon.receiver.dimse import CommandField, Outcome, Request, Status
from daemon.receiver.disk import Disk
from daemon.receiver.file_meta import Origin
from daemon.receiver.spool import AssociationOutcome, SpoolFolder, identify
from daemon.receiver.store import Storage, out_of_resources
from lungnode.settings import Peer, Settings

logger = logging.getLogger(__name__)


class Keeper:
    """Serves the C-STORE sub-operations of one association; its folder is one like the receiver's."""

    def __init__(self, peer: Peer, called_ae_title: str, settings: Settings) -> None:
        self._peer = peer
        self._called_ae_title = called_ae_title
        self._settings = settings
        self._folder: SpoolFolder | None = None
        self._storage: Storage | None = None

    def on_store(self, event: evt.Event) -> Dataset:
        """Keep an instance, or say why not: a handler of EVT_C_STORE."""
        outcome = self._store(event)
        if outcome.status is not Status.SUCCESS:
            request: Any = event.request
            uid, name = request.AffectedSOPInstanceUID, outcome.status.name
            logger.warning("instance %s from %s refused: %s", uid, self._peer.name, name)
        answer = Dataset()
        answer.Status = int(outcome.status)
        if outcome.comment:
            answer.ErrorComment = outcome.comment
        return answer

    def end(self, outcome: AssociationOutcome) -> None:
        """Let the clerk know that nothing more comes."""
        if self._folder is None:
            return
        try:
            self._folder.end(outcome, datetime.now(UTC))
        except OSError as error:
            logger.error("the end of an association cannot be recorded: %s", error.strerror)  # noqa: TRY400 - one line

    def _store(self, event: evt.Event) -> Outcome:
        if self._storage is None:
            try:
                self._storage = self._open(event)
            except OSError as error:
                return out_of_resources(error)
        request: Any = event.request
        context = NegotiatedContext(
            event.context.context_id,
            ContextResult.ACCEPTANCE,
            str(event.context.abstract_syntax),
            str(event.context.transfer_syntax),
        )
        operation = self._storage.begin(
            Request(
                CommandField.C_STORE_RQ,
                request.MessageID,
                str(request.AffectedSOPClassUID or "").encode("ascii", "replace"),
                str(request.AffectedSOPInstanceUID or "").encode("ascii", "replace"),
                has_data_set=True,
            ),
            context,
        )
        with request.DataSet.getbuffer() as data_set:
            operation.append(data_set)
            operation.flush()
        return operation.finish()

    def _open(self, event: evt.Event) -> Storage:
        self._settings.spool.mkdir(parents=True, exist_ok=True)
        transport = event.assoc.dul.socket
        address = transport.socket.getpeername()[0] if transport and transport.socket else self._peer.host
        origin = Origin(self._peer.ae_title, self._called_ae_title)
        self._folder = SpoolFolder(
            self._settings.spool, identify(origin.calling_ae_title, origin.called_ae_title, address)
        )
        return Storage(self._folder, Disk(self._settings.spool, self._settings.receiver), origin)
