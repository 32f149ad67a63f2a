"""Keeps a peer's answers for whoever asked.

pynetdicom 3.0.4 runs a thread for each association that takes messages as well, to serve what a peer
requests, and pauses it while a request of ours is open. But when that thread leaves a pause, it says for
a moment that it is still paused. If our next request starts in that moment, the thread may take the
answer, which it drops, and we wait until the time limit.
"""

from queue import Empty, Queue

from pynetdicom import evt
from pynetdicom.dimse_primitives import DimseServiceType

_Message = tuple[None, None] | tuple[int, DimseServiceType]  # context ID and message; none: the end


class Answers(Queue[_Message]):
    """The messages of a peer, for those who wait: pynetdicom's thread asks without waiting and gets none."""

    def get(self, block: bool = True, timeout: float | None = None) -> _Message:
        """Return the next message, or none at all without `block`.

        Raises:
            Empty: None came in time.
        """
        if not block:
            raise Empty
        return super().get(block, timeout)


def keep_answers(event: evt.Event) -> None:
    """Give a new connection such a queue: a handler of EVT_CONN_OPEN.

    A request of the peer is then served only by whoever waits for answers: pynetdicom does so for the C-STORE
    sub-operations of a C-GET, in the thread that asked. No other request may come, for of all other SOP
    classes we propose to be SCU alone.
    """
    event.assoc.dimse.msg_queue = Answers()
