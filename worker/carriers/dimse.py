"""A Storage SCU: one association that sends files as they are stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import SHUT_RDWR, socket
from time import monotonic
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config, build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from lungnode.scu.association import associated
from lungnode.scu.watch import Watch
from lungnode.settings import DicomDestination
from lungnode.untrusted import plain
from worker.answers import ASK, Answer, answer_of, silence
from worker.carriers.limits import PACE, cut_after, limit_of
from worker.parcel import Item

_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_GRACE_S: Final = 1.0  # for the abort to reach a peer that reads
_ABORTED: Final = f"{ASK} Some abort where they do not know our AE title."
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122  # Source: PS3.7 Annex C.5.6


class StorageScp:
    """An open association with a destination."""

    def __init__(self, association: Association, timeout_s: float, pace: int) -> None:
        self._association, self._timeout_s, self._pace = association, timeout_s, pace
        self._watch = Watch()
        for handler in self._watch.handlers():
            association.bind(*handler)

    @property
    def is_there(self) -> bool:
        """Whether the association is still open."""
        return bool(self._association.is_established)

    def accepts(self, sop_class_uid: str) -> bool:
        """Tell whether instances of a class may be sent, in some transfer syntax."""
        return any(c.abstract_syntax == sop_class_uid for c in self._association.accepted_contexts)

    def send(self, item: Item) -> Answer:
        """Send an instance.

        Raises:
            OSError: The file cannot be read.
        """
        return self.store(item.path, item.transfer_syntax_uid, item.sop_class_uid)

    def store(self, path: Path, transfer_syntax_uid: str, sop_class_uid: str) -> Answer:
        """Send the bytes of a file as they are, or decompressed where the peer takes nothing else.

        Raises:
            OSError: The file cannot be read.
        """
        if not self.is_there:
            return silence("the association was gone")
        instance: Path | Dataset = path
        if not self._takes(sop_class_uid, transfer_syntax_uid):
            instance = uncompressed(path)
        limit_s = limit_of(self._timeout_s, path.stat().st_size, self._pace)
        try:
            with cut_after(limit_s + _GRACE_S, self._cut):
                return self._answer(instance, limit_s)
        except RuntimeError:  # the association ended between the question above and the sending
            return silence("the association was gone")
        except ValueError:  # no accepted context fits
            return answer_of(_SOP_CLASS_NOT_SUPPORTED, "no transfer syntax was accepted that we can send")

    def _answer(self, instance: Path | Dataset, limit_s: float) -> Answer:
        self._association.dimse_timeout = limit_s  # it runs from the first byte that is sent
        self._association.network_timeout = limit_s + 2 * _GRACE_S  # to it, who only listens is idle
        began = monotonic()
        response = self._association.send_c_store(instance)
        if "Status" in response:
            return answer_of(response.Status, plain(response.get("ErrorComment", "")))
        if self._watch.aborted:
            return silence("the peer aborted the association", _ABORTED)
        if monotonic() - began >= limit_s:
            busy = "See what keeps the peer busy, or raise timeout_s."
            return silence(f"nothing came within {round(limit_s, 1):g} s", busy)
        return silence("the connection was lost")

    def _cut(self) -> None:
        """End the connection: pynetdicom waits until all that it was to send has gone, then for its abort."""
        transport = self._association.dul.socket
        if transport is None or transport.socket is None:
            return
        try:
            # Not the method of an SSLSocket, which takes the state away from the thread that uses it.
            socket.shutdown(transport.socket, SHUT_RDWR)
        except OSError:
            return  # it is closed already

    def _takes(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        return any(
            c.abstract_syntax == sop_class_uid and transfer_syntax_uid in c.transfer_syntax
            for c in self._association.accepted_contexts
        )


def uncompressed(path: Path) -> Dataset:
    """Return an instance whose pixels every peer can take."""
    instance = dcmread(path)
    if instance.file_meta.TransferSyntaxUID.is_compressed:
        instance.decompress(generate_instance_uid=False)
    return instance


@contextmanager
def storing(
    destination: DicomDestination,
    calling_ae_title: str,
    proposed: dict[str, set[str]],
    pace: int = PACE,
) -> Iterator[StorageScp]:
    """Hold an association while the block runs; every step has the destination's time limit.

    Args:
        destination: Whom to call.
        calling_ae_title: Our AE title.
        proposed: Transfer syntaxes of the instances to send, by SOP class.
        pace: Bytes a second that the peer must take.

    Raises:
        UnavailableError: No association for now.
        UnusableError: The peer will never accept it.
    """
    # Without this, pynetdicom decodes and encodes each file again; what we committed is what is sent.
    _config.STORE_SEND_CHUNKED_DATASET = True
    with associated(destination, calling_ae_title, _contexts(proposed)) as association:
        yield StorageScp(association, destination.timeout_s, pace)


def _contexts(proposed: dict[str, set[str]]) -> list[PresentationContext]:
    # A peer chooses one transfer syntax for each context, so compressed ones get a context of their own.
    contexts = []
    for sop_class_uid, transfer_syntaxes in proposed.items():
        contexts += [
            build_context(sop_class_uid, [uid]) for uid in sorted(transfer_syntaxes - {*_UNCOMPRESSED})
        ]
        contexts.append(build_context(sop_class_uid, list(_UNCOMPRESSED)))
    return contexts
