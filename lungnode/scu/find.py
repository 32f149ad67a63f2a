"""Asks a peer what it has (C-FIND): studies, the series of one, the instances of one.

Source: PS3.4 C.6.1 (Patient Root) and C.6.2 (Study Root), PS3.4 C.4.1 (C-FIND).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID
from pynetdicom import _config, build_context
from pynetdicom.association import Association

from lungnode.errors import LungnodeError, SettingsError, UnavailableError, UnusableError
from lungnode.scu.association import associated, describe
from lungnode.settings import Peer
from lungnode.untrusted import plain, untrusted

MOST_MATCHES: Final = 20_000  # instances of the largest studies that there are, several times over
_PATIENCE: Final = 10  # times the peer's time limit that all answers to one question may take
_ASCII: Final = 128
# Source: PS3.4 Table B.5-1 and C.6, SOP Class UIDs of the FIND services.
FIND_MODELS: Final = {
    "patient_root": UID("1.2.840.10008.5.1.4.1.2.1.1"),
    "study_root": UID("1.2.840.10008.5.1.4.1.2.2.1"),
}
_STUDY_KEYS: Final = (
    "StudyInstanceUID",
    "PatientID",
    "AccessionNumber",
    "StudyDate",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
_SERIES_KEYS: Final = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")
_INSTANCE_KEYS: Final = ("SOPInstanceUID", "SOPClassUID")
# Source: PS3.4 Table C.4-1, C-FIND Response Status Values, and PS3.7 Annex C.
_PENDING: Final = (0xFF00, 0xFF01)
_PERMANENT: Final = (0x0122, 0x0124, 0xA900)


@dataclass(frozen=True)
class StudyMatch:
    """A study that a peer has; what it did not tell is empty."""

    study_instance_uid: str
    patient_id: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_description: str = ""
    modalities: tuple[str, ...] = ()
    instances: int | None = None  # Number of Study Related Instances (0020,1208)


@dataclass(frozen=True)
class SeriesMatch:
    """A series that a peer has."""

    series_instance_uid: str
    modality: str = ""
    instances: int | None = None  # Number of Series Related Instances (0020,1209)


@dataclass(frozen=True)
class InstanceMatch:
    """An instance that a peer has."""

    sop_instance_uid: str
    sop_class_uid: str = ""


class Query:
    """An association over which a peer is asked.

    Each question raises UnavailableError when the peer does not answer it for now, and UnusableError when it
    refuses, answers what cannot be read, or has more than MOST_MATCHES.
    """

    def __init__(self, peer: Peer, association: Association) -> None:
        self.peer = peer
        self._association = association

    def studies(self, keys: Mapping[str, str]) -> list[StudyMatch]:
        """Return the studies that match all `keys`, attribute keywords with the values to match."""
        wanted = dict.fromkeys(_STUDY_KEYS, "") | dict(keys)
        return [_study(each) for each in self._matches("STUDY", wanted)]

    def series(self, study_instance_uid: str, patient_id: str = "") -> list[SeriesMatch]:
        """Return the series of a study; in the Patient Root model its Patient ID is needed, too."""
        wanted = dict.fromkeys(_SERIES_KEYS, "") | self._above(study_instance_uid, patient_id)
        return [_series(each) for each in self._matches("SERIES", wanted)]

    def instances(
        self, study_instance_uid: str, series_instance_uid: str, patient_id: str = ""
    ) -> list[InstanceMatch]:
        """Return the instances of a series."""
        above = self._above(study_instance_uid, patient_id) | {"SeriesInstanceUID": series_instance_uid}
        wanted = dict.fromkeys(_INSTANCE_KEYS, "") | above
        return [_instance(each) for each in self._matches("IMAGE", wanted)]

    def _above(self, study_instance_uid: str, patient_id: str) -> dict[str, str]:
        above = {"StudyInstanceUID": study_instance_uid}
        return above | {"PatientID": patient_id} if self.peer.query == "patient_root" else above

    def _matches(self, level: str, wanted: Mapping[str, str]) -> list[Dataset]:
        """Return what the peer answers, without what it was not asked for."""
        deadline = monotonic() + _PATIENCE * self.peer.timeout_s
        found: list[Dataset] = []
        for status, identifier in self._ask(identifier_of(level, wanted)):
            if status not in _PENDING:
                if status != 0:
                    raise _refusal(self.peer, status)
                break
            if identifier is None:
                raise self._cut_off(UnusableError, "answered what cannot be read to a C-FIND")
            if len(found) >= MOST_MATCHES:
                raise self._cut_off(UnusableError, f"has more than {MOST_MATCHES} matches: ask for less")
            if monotonic() > deadline:
                raise self._cut_off(UnavailableError, "answers a C-FIND too slowly")
            found.append(identifier)
        return [each for each in found if _is_asked_for(each, wanted)]

    def _ask(self, identifier: Dataset) -> Iterator[tuple[int | None, Dataset | None]]:
        model = FIND_MODELS[self.peer.query]
        try:
            answers = self._association.send_c_find(identifier, model, priority=0)
            for status, found in answers:
                yield status.get("Status"), found
        except (RuntimeError, ValueError) as error:  # the association ended, or nothing was accepted
            raise UnavailableError(f"{describe(self.peer)} ended the association.") from error

    def _cut_off(self, kind: type[LungnodeError], what: str) -> LungnodeError:
        # Whatever still comes would be taken for the answer to the next question.
        self._association.abort()
        return kind(f"{describe(self.peer)} {what}.")


@contextmanager
def querying(peer: Peer, calling_ae_title: str) -> Iterator[Query]:
    """Hold an association for questions while the block runs; every step has the peer's time limit.

    Raises:
        SettingsError: The settings do not say that, or how, the peer may be asked.
        UnavailableError: No association for now.
        UnusableError: The peer will never accept it.
    """
    if peer.query not in FIND_MODELS:
        raise SettingsError(
            f'{describe(peer)} may not be asked: set its query = "study_root" or "patient_root".'
        )
    # pynetdicom would write what is asked and answered, names too, line by line into its log.
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    with associated(peer, calling_ae_title, [build_context(FIND_MODELS[peer.query])]) as association:
        yield Query(peer, association)


def is_ct(series: SeriesMatch) -> bool:
    """Whether a series may hold CT images: its modality says so, or nothing."""
    return series.modality in ("CT", "") and bool(series.series_instance_uid)


def identifier_of(level: str, values: Mapping[str, str]) -> Dataset:
    """Return the identifier of a query or retrieval: level, and attributes by keyword.

    Source: PS3.4 C.4.1.1.3.
    """
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    if any(ord(letter) >= _ASCII for value in values.values() for letter in value):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in values.items():
        setattr(identifier, keyword, value)
    return identifier


def _is_asked_for(found: Dataset, wanted: Mapping[str, str]) -> bool:
    """Whether an answer belongs to the study and series that were asked for: some peers ignore keys."""
    with untrusted("The peer's answer cannot be read"):
        return all(
            not wanted.get(keyword) or str(found.get(keyword) or wanted[keyword]) == wanted[keyword]
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID")
        )


def _study(found: Dataset) -> StudyMatch:
    return StudyMatch(
        study_instance_uid=_text(found, "StudyInstanceUID"),
        patient_id=_text(found, "PatientID"),
        accession_number=_text(found, "AccessionNumber"),
        study_date=_text(found, "StudyDate"),
        study_description=_text(found, "StudyDescription"),
        modalities=tuple(filter(None, _text(found, "ModalitiesInStudy").split("\\"))),
        instances=_number(found, "NumberOfStudyRelatedInstances"),
    )


def _series(found: Dataset) -> SeriesMatch:
    return SeriesMatch(
        series_instance_uid=_text(found, "SeriesInstanceUID"),
        modality=_text(found, "Modality"),
        instances=_number(found, "NumberOfSeriesRelatedInstances"),
    )


def _instance(found: Dataset) -> InstanceMatch:
    return InstanceMatch(_text(found, "SOPInstanceUID"), _text(found, "SOPClassUID"))


def _text(found: Dataset, keyword: str) -> str:
    with untrusted(f"The peer's {keyword} cannot be read"):
        value: Any = found.get(keyword)
        if value is None:
            return ""
        return "\\".join(map(plain, value)) if isinstance(value, MultiValue) else plain(value)


def _number(found: Dataset, keyword: str) -> int | None:
    """Return a count; None when the peer does not tell.

    Raises:
        UnusableError: What it tells is no count. Its words are left out: they may be anything.
    """
    try:
        value = found.get(keyword)
        number = None if value in (None, "") else int(value)
    except Exception as error:  # pydicom raises nearly everything on damaged values
        raise UnusableError(f"The peer's {keyword} is no number.") from error
    if number is not None and number < 0:
        raise UnusableError(f"The peer's {keyword} is {number}.")
    return number


def _refusal(peer: Peer, status: int | None) -> UnavailableError | UnusableError:
    """Say what a final status means. The peer's comment is left out: it may name a patient."""
    if status is None:
        return UnavailableError(f"{describe(peer)} gave no answer to a C-FIND in time.")
    text = f"{describe(peer)} answered 0x{status:04X} to a C-FIND."
    return UnusableError(text) if status in _PERMANENT else UnavailableError(text)
