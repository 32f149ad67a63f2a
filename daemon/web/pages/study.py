"""Page: one study."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import POLL_HEADER, Viewer
from daemon.web.api.common import Text, Uid, study_of
from daemon.web.audited import note_look
from daemon.web.node import Node, WebNode
from daemon.web.pages.heatmap import has_maps
from daemon.web.pages.stack import stack_of
from daemon.web.pages.stages import stage_of
from daemon.web.pages.story import is_finished, phases_of, sent_of
from daemon.web.rendering import render
from db.feedback import list_feedback
from db.models import Analysis, LabelValue, Study
from db.queries import SeriesSummary, list_series
from db.session import reading
from db.slices import list_images

router = APIRouter(include_in_schema=False)
# Modalities of objects without pictures. Source: PS3.3 C.7.3.1.1.1.
_DOCUMENTS: Final = ("SR", "KO", "PR", "DOC", "PLAN", "REG", "FID", "RTPLAN", "RTSTRUCT", "RTRECORD")
_LABELS: Final = {"positive": LabelValue.POSITIVE, "negative": LabelValue.NEGATIVE}


@dataclass(frozen=True)
class Asked:
    """Which revision and series are looked at; by default the last one, and the one that was analysed."""

    revision: int = 0
    series: str = ""


@router.get("/studies/{study_instance_uid}", name="study")
def show(
    request: Request,
    study_instance_uid: Uid,
    node: Node,
    caller: Viewer,
    revision: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    series: Text = "",
) -> Response:
    """Show everything that is known of a study."""
    is_poll = POLL_HEADER in request.headers
    with reading(node.engine) as session:
        study = study_of(session, study_instance_uid)
        values = _values(session, node, study, Asked(revision, series), with_slices=not is_poll)
    note_look(node, caller, "study viewed", study_instance_uid)
    return render(request, "study.html", values)


def _values(
    session: Session, node: WebNode, study: Study, asked: Asked, *, with_slices: bool
) -> dict[str, Any]:
    analyses = sorted(study.analyses, key=lambda each: each.revision)
    analysis = _chosen(analyses, asked.revision)
    series = list_series(session, study)
    pictures = [each for each in series if each.modality not in _DOCUMENTS]
    shown = _series_shown(pictures, analysis, asked.series)
    images = list_images(session, study, shown) if with_slices and shown else []
    return {
        "study": study,
        "labels": list(study.labels),
        "corrections": list(study.corrections),
        "feedback": list_feedback(session, study),
        "analysis": analysis,
        "analyses": analyses[::-1],
        "revisions": {each.id: each.revision for each in analyses},
        # What holds until a later revision has its result.
        "before": next((each for each in analyses[::-1] if each.verdict and each is not analysis), None),
        "is_last": analysis is None or analysis is analyses[-1],
        "series": series,
        "pictures": pictures,
        "stack": stack_of(shown, images, analysis),
        "stage": stage_of(study, analysis),
        **(_came_of(node, study, analysis) if analysis else _NOTHING),
    }


_NOTHING: Final[dict[str, Any]] = {
    "is_finished": True,
    "has_heatmaps": False,
    "phases": (),
    "sent": (),
    "report": "",
    "opinion": None,
}


def _came_of(node: WebNode, study: Study, analysis: Analysis) -> dict[str, Any]:
    reports = [each for each in analysis.outputs if each.group == "sr" and each.deleted_at is None]
    return {
        "is_finished": is_finished(analysis),
        "has_heatmaps": has_maps(node, study.study_instance_uid, analysis.revision),
        "phases": phases_of(analysis),
        "sent": sent_of(analysis, node.settings.delivery.max_attempts),
        "report": reports[0].sop_instance_uid if reports else "",
        "opinion": _LABELS.get(analysis.verdict),
    }


def _chosen(analyses: list[Analysis], revision: int) -> Analysis | None:
    """Return the analysis that is looked at.

    Raises:
        HTTPException: There is none of this revision.
    """
    if not revision:
        return analyses[-1] if analyses else None
    found = next((each for each in analyses if each.revision == revision), None)
    if found is None:
        raise HTTPException(404, f"The study has no analysis of revision {revision}.")
    return found


def _series_shown(pictures: list[SeriesSummary], analysis: Analysis | None, asked: str) -> str:
    """Return the series that the viewer shows: the one asked for, the analysed one, or the largest."""
    known = {each.series_instance_uid for each in pictures}
    analysed = analysis.details.get("series_instance_uid", "") if analysis else ""
    for wanted in (asked, analysed):
        if wanted in known:
            return wanted
    return max(pictures, key=lambda each: each.frames).series_instance_uid if pictures else ""
