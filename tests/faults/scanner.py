"""A scanner that sends a study until every instance is acknowledged, whatever happens to the node."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from tests.dicom_wire import CT_IMAGE_STORAGE, DEADLINE_S, Context, Instance, Peer, read_instance

_PAUSE_S: Final = 0.2  # before another association
_SUCCESS: Final = 0x0000


@dataclass
class Sent:
    """What a scanner may delete, and what it took."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # SOP Instance UID: SHA-256 of its data set
    associations: int = 0
    unsent: int = 0  # instances that nobody acknowledged in time


def send_study(
    paths: Sequence[Path],
    port: int,
    *,
    pause_s: float,
    limit_s: float,
    host: str = "127.0.0.1",
    patience_s: float = DEADLINE_S,
) -> Sent:
    """Send every file; after any failure, what is not acknowledged is sent again over a new association.

    Args:
        paths: DICOM files of one transfer syntax.
        port: Of the receiver.
        pause_s: Between two instances, so that something can happen between them.
        limit_s: In which all should be acknowledged.
        host: Of the receiver.
        patience_s: For each answer.
    """
    sent, deadline = Sent(), monotonic() + limit_s
    waiting = [read_instance(path) for path in paths]
    while waiting and monotonic() < deadline:
        sent.associations += 1
        try:
            with Peer(port, host=host) as peer:
                peer.socket.settimeout(patience_s)
                _send_some(waiting, sent, peer, pause_s)
        except (OSError, KeyError):  # refused, cut, silent, or closed within an answer
            sleep(_PAUSE_S)
    sent.unsent = len(waiting)
    return sent


def _send_some(waiting: list[Instance], sent: Sent, peer: Peer, pause_s: float) -> None:
    context: Context = (1, CT_IMAGE_STORAGE, (waiting[0].transfer_syntax_uid,))
    peer.associate([context])
    while waiting:
        instance = waiting[0]
        if peer.store(instance) != _SUCCESS:
            return  # a status is no loss: it comes again
        sent.acknowledged[instance.sop_instance_uid] = sha256(instance.data_set).hexdigest()
        del waiting[0]
        sleep(pause_s)
    peer.release()
