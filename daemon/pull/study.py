"""Fetches the CT series of a study, or single instances of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from daemon.pull.count import Missing
from daemon.pull.retrieve import Progress, Retriever, Suboperations, retrieving
from lungnode.errors import UnavailableError, UnusableError
from lungnode.scu.association import describe
from lungnode.scu.find import SeriesMatch, StudyMatch, is_ct, querying
from lungnode.settings import Peer, Settings

_BATCH: Final = 100  # instances named in one request; each takes 65 bytes


@dataclass(frozen=True)
class Fetched:
    """What became of a retrieval."""

    study: StudyMatch
    series: int = 0
    count: Suboperations = field(default_factory=Suboperations)
    reason: str = ""  # why it is not all there

    @property
    def is_whole(self) -> bool:
        """Whether the peer says that it sent everything."""
        return not self.reason and not self.count.failed


def find_studies(peer: Peer, settings: Settings, keys: Mapping[str, str]) -> list[StudyMatch]:
    """Return what a peer has that matches all keys.

    Raises:
        LungnodeError: As `querying` and the questions raise it.
    """
    with querying(peer, _ae_title(peer, settings)) as query:
        return query.studies(keys)


def fetch_study(peer: Peer, settings: Settings, study: StudyMatch, progress: Progress) -> Fetched:
    """Have a peer send every CT series of a study; what went wrong is in the result.

    Raises:
        SettingsError: The peer may not be asked or fetched from.
    """
    fetched = Fetched(study)
    try:
        with querying(peer, _ae_title(peer, settings)) as query:
            series = _some(query.series(study.study_instance_uid, study.patient_id), peer)
        with retrieving(peer, settings) as retriever:
            for each in series:
                keys = _keys(peer, study, each.series_instance_uid)
                fetched = _with(fetched, retriever, "SERIES", keys, progress)
    except (UnavailableError, UnusableError) as error:
        fetched = Fetched(study, fetched.series, fetched.count, str(error))
    return fetched


def fetch_missing(peer: Peer, settings: Settings, study: StudyMatch, missing: Sequence[Missing]) -> Fetched:
    """Have a peer send the images that are missing, or all of a series where it does not tell which ones.

    Raises:
        LungnodeError: As `retrieving` and the retrievals raise it.
    """
    fetched = Fetched(study)
    with retrieving(peer, settings) as retriever:
        for each in missing:
            keys = _keys(peer, study, each.series_instance_uid)
            if not each.sop_instance_uids:
                fetched = _with(fetched, retriever, "SERIES", keys, _no_progress)
            for batch in _batches(each.sop_instance_uids):
                named = keys | {"SOPInstanceUID": "\\".join(batch)}
                fetched = _with(fetched, retriever, "IMAGE", named, _no_progress)
    return fetched


def _some(series: list[SeriesMatch], peer: Peer) -> list[SeriesMatch]:
    found = [each for each in series if is_ct(each)]
    if not found:
        raise UnusableError(f"{describe(peer)} has no CT series of this study.")
    return found


def _with(
    fetched: Fetched, retriever: Retriever, level: str, keys: Mapping[str, str], progress: Progress
) -> Fetched:
    before = fetched.count
    count = before + retriever.fetch(level, keys, lambda now: progress(before + now))
    return Fetched(fetched.study, fetched.series + 1, count)


def _keys(peer: Peer, study: StudyMatch, series_instance_uid: str) -> dict[str, str]:
    keys = {"StudyInstanceUID": study.study_instance_uid, "SeriesInstanceUID": series_instance_uid}
    return keys | ({"PatientID": study.patient_id} if peer.query == "patient_root" else {})


def _batches(uids: Sequence[str]) -> list[Sequence[str]]:
    return [uids[start : start + _BATCH] for start in range(0, len(uids), _BATCH)]


def _no_progress(_count: Suboperations) -> None:
    """Show nothing."""


def _ae_title(peer: Peer, settings: Settings) -> str:
    return peer.calling_ae_title or settings.receiver.ae_title
