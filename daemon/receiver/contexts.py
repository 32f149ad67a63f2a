"""Which presentation contexts we accept: a table of classes, a table of transfer syntaxes, one rule.

The rule: an abstract syntax of Verification or Storage is accepted with the first of these that the peer
proposes: a reversibly compressed transfer syntax (the peer's first), Explicit VR Little Endian, Implicit VR
Little Endian, Explicit VR Big Endian, one that may lose information (the peer's first). What was compressed
stays compressed, nothing goes through a lossy codec on our account, and private attributes keep their VR.
Storage Commitment, which has no pixels, is accepted with the same rule among the uncompressed ones.
"""

from collections.abc import Iterable
from typing import Final

from pynetdicom import AllStoragePresentationContexts
from pynetdicom.service_class import ServiceClass
from pynetdicom.sop_class import uid_to_service_class

from daemon.receiver.associate import ContextResult, NegotiatedContext, ProposedContext
from lungnode.commitment import PUSH_MODEL

VERIFICATION: Final = "1.2.840.10008.1.1"  # PS3.4 A.4
_STORAGE: Final = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)

# Source: PS3.6 A, Registry of UIDs. Rank 0 is taken first; within a rank the peer's order counts.
TRANSFER_SYNTAX_RANKS: Final = {
    "1.2.840.10008.1.2.1.99": 0,  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.5": 0,  # RLE Lossless
    "1.2.840.10008.1.2.4.57": 0,  # JPEG Lossless, Process 14
    "1.2.840.10008.1.2.4.70": 0,  # JPEG Lossless, Process 14, Selection Value 1
    "1.2.840.10008.1.2.4.80": 0,  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90": 0,  # JPEG 2000, lossless only
    "1.2.840.10008.1.2.4.201": 0,  # HTJ2K, lossless only
    "1.2.840.10008.1.2.4.202": 0,  # HTJ2K, lossless with RPCL
    "1.2.840.10008.1.2.1": 1,  # Explicit VR Little Endian
    "1.2.840.10008.1.2": 2,  # Implicit VR Little Endian
    "1.2.840.10008.1.2.2": 3,  # Explicit VR Big Endian
    "1.2.840.10008.1.2.4.50": 4,  # JPEG Baseline, Process 1
    "1.2.840.10008.1.2.4.51": 4,  # JPEG Extended, Processes 2 and 4
    "1.2.840.10008.1.2.4.81": 4,  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.91": 4,  # JPEG 2000
    "1.2.840.10008.1.2.4.203": 4,  # HTJ2K
}
_UNCOMPRESSED_RANKS: Final = (1, 2, 3)


def negotiate(
    proposed: Iterable[ProposedContext], *, unknown_sop_classes: bool, commitment: bool = True
) -> tuple[NegotiatedContext, ...]:
    """Answer each proposed context by the rule above; `commitment` also accepts Storage Commitment."""
    return tuple(
        _answer(context, unknown_sop_classes=unknown_sop_classes, commitment=commitment)
        for context in proposed
    )


def is_storage(sop_class_uid: str, *, unknown_sop_classes: bool) -> bool:
    """Tell whether instances of this class are stored.

    With `unknown_sop_classes` that includes private and future classes, but never one that pynetdicom knows
    to belong to another service.
    """
    if sop_class_uid in _STORAGE:
        return True
    return unknown_sop_classes and uid_to_service_class(sop_class_uid) is ServiceClass


def _answer(context: ProposedContext, *, unknown_sop_classes: bool, commitment: bool) -> NegotiatedContext:
    uid = context.abstract_syntax
    chosen = choose_transfer_syntax(context.transfer_syntaxes)
    if uid == PUSH_MODEL:
        chosen = choose_transfer_syntax(tuple(filter(_is_uncompressed, context.transfer_syntaxes)))
    is_served = (
        uid == VERIFICATION
        or (uid == PUSH_MODEL and commitment)
        or is_storage(uid, unknown_sop_classes=unknown_sop_classes)
    )
    if not is_served:
        result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif chosen is None:
        result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    else:
        result = ContextResult.ACCEPTANCE
    return NegotiatedContext(context.context_id, result, uid, chosen or context.transfer_syntaxes[0])


def _is_uncompressed(transfer_syntax_uid: str) -> bool:
    return TRANSFER_SYNTAX_RANKS.get(transfer_syntax_uid) in _UNCOMPRESSED_RANKS


def choose_transfer_syntax(proposed: tuple[str, ...]) -> str | None:
    """Return the transfer syntax we accept of those proposed, or None."""
    known = [uid for uid in proposed if uid in TRANSFER_SYNTAX_RANKS]
    return min(known, key=TRANSFER_SYNTAX_RANKS.__getitem__, default=None)
