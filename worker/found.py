"""Looks for a delivery's instances at its destination (C-FIND)."""

from collections.abc import Iterable

from db.models import Output, Study
from lungnode.errors import UnusableError
from lungnode.scu.find import FIND_MODELS, Query, querying
from lungnode.settings import Peer


def not_found(peer: Peer, calling_ae_title: str, study: Study, outputs: Iterable[Output]) -> list[str]:
    """Return the SOP Instance UIDs that the peer does not have; it is asked by series.

    A peer whose settings name no information model is asked by the Study Root's, which most have.

    Raises:
        UnavailableError: It does not answer for now.
        UnusableError: It will never answer.
    """
    if peer.query not in FIND_MODELS:
        peer = peer.model_copy(update={"query": "study_root"})
    series: dict[str, list[str]] = {}
    for output in outputs:
        series.setdefault(output.series_instance_uid, []).append(output.sop_instance_uid)
    with querying(peer, calling_ae_title) as query:
        return [uid for key, sent in series.items() for uid in _not_in(query, study, key, sent)]


def _not_in(query: Query, study: Study, series_instance_uid: str, sent: list[str]) -> list[str]:
    try:
        matches = query.instances(study.study_instance_uid, series_instance_uid, study.patient_id)
    except UnusableError:  # some peers know no level below the series: counting must do
        counted = query.series(study.study_instance_uid, study.patient_id)
        count = sum(m.instances or 0 for m in counted if m.series_instance_uid == series_instance_uid)
        return [] if count >= len(sent) else sent
    found = {match.sop_instance_uid for match in matches}
    return [uid for uid in sent if uid not in found]
