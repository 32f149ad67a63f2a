"""A STOW-RS user agent: one request an instance, so that each is stored or not by itself.

Source: PS3.18 10.5 Store Transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread

from lungnode.errors import LungnodeError
from lungnode.settings import StowDestination
from worker.answers import Answer, answer_of, silence
from worker.carriers.dimse import uncompressed
from worker.carriers.limits import PACE
from worker.carriers.web import WebSession, judged, web_session
from worker.parcel import Item

_CONFLICT: Final = 409  # the answer says of each instance why it was not stored
_TRANSFER_SYNTAX_NOT_SUPPORTED: Final = "0xC122"  # Source: PS3.18 Table I.2-2
_UNSAID: Final = silence("the server did not say what became of it")


@contextmanager
def stowing(destination: StowDestination, pace: int = PACE) -> Iterator["OriginServer"]:
    """Hold connections to a server while the block runs.

    Raises:
        UnavailableError: A file with a secret or a certificate cannot be read.
    """
    with web_session(destination, pace) as session:
        yield OriginServer(destination, session)


class OriginServer:
    """A server that stores instances. Nothing is negotiated: what it does not take it says of each."""

    is_there = True

    def __init__(self, destination: StowDestination, session: WebSession) -> None:
        """Prepare requests."""
        session.headers["Accept"] = "application/dicom+json"
        self._destination = destination
        self._client = DICOMwebClient(destination.url.rstrip("/"), session=session)
        self._client.set_http_retry_params(retry=False)  # the row is what tries again
        self._client.set_chunk_size(1 << 62)  # not every server takes a body of unknown length
        self._client.host = urlsplit(destination.url).netloc  # else its Host header lacks the port

    def accepts(self, _sop_class_uid: str) -> bool:
        """Hope so."""
        return True

    def send(self, item: Item) -> Answer:
        """Send an instance as it is, or decompressed where the server takes nothing else.

        Raises:
            OSError: Its file cannot be read.
            UnavailableError: The server is not there for now.
            UnusableError: It will never take anything as things are.
        """
        answer = self._store(dcmread(item.path))
        if answer.status == _TRANSFER_SYNTAX_NOT_SUPPORTED:
            answer = self._store(uncompressed(item.path))
        return answer

    def _store(self, instance: Dataset) -> Answer:
        uid = str(instance.SOPInstanceUID)
        try:
            return _found(self._client.store_instances([instance]), uid)
        except requests.HTTPError as error:
            if error.response.status_code == _CONFLICT:
                told = _conflict(error.response, uid)
                if told is not None:
                    return told
            return judged(error.response, self._destination)
        except LungnodeError:
            raise
        except Exception as error:  # noqa: BLE001 - an answer that is no answer: parsers raise anything
            return silence(f"the server's answer cannot be read: {type(error).__name__}")


def _conflict(response: requests.Response, uid: str) -> Answer | None:
    try:
        told = _found(Dataset.from_json(response.json()), uid)
    except Exception:  # noqa: BLE001 - untrusted bytes: pydicom and json raise anything
        return None
    return told if told.status else None


def _found(result: Dataset, uid: str) -> Answer:
    """Return what became of an instance. Source: PS3.18 Table 10.5.3-2 and Annex I."""
    for item in result.get("FailedSOPSequence") or ():
        if item.get("ReferencedSOPInstanceUID") == uid:
            return answer_of(int(item.FailureReason), "")
    for item in result.get("ReferencedSOPSequence") or ():
        if item.get("ReferencedSOPInstanceUID") == uid:
            return answer_of(int(item.get("WarningReason") or 0), "")
    return _UNSAID
