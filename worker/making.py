"""From a finding to everything that may be sent of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydicom import Dataset

from lungnode.loading import Images, read_gray
from lungnode.model_folder import ModelInfo
from lungnode.pixels import Gray
from lungnode.rules import destinations_of
from lungnode.series import choose
from lungnode.settings import Settings
from worker.outputs.compose import Composed, compose
from worker.result import Context, SliceFinding, StudyFinding, Verdict
from worker.results import groups_to_compose
from worker.study import Revision

_REPORT: Final = "sr"


def compose_results(
    finding: StudyFinding, revision: Revision, images: Images, settings: Settings, info: ModelInfo
) -> list[Composed]:
    """Compose every group that a destination of the study may need."""
    if finding.verdict is Verdict.ERROR and not finding.series_instance_uid:
        return []  # nothing says that it is a chest CT
    sources = _sources(finding, images)
    if not sources:
        return []
    groups = groups_to_compose(destinations_of(settings, revision.rule), finding.verdict)
    gray = _GrayOf(images)
    context = _context(revision, settings, info)
    composed = []
    for part in _by_predecessors(groups):
        named = revision.predecessors.get(part[0], ())
        composed += compose(finding, replace(context, predecessors=named), sources, gray, part)
    return composed


def failed_finding(revision: Revision, images: Images, threshold: float) -> StudyFinding:
    """Return what is reported after the last attempt; it names a series where that may be a chest CT."""
    choice = choose(images.headers)
    reason = f"The analysis was given up after {revision.attempts - 1} attempts."
    return StudyFinding(
        Verdict.ERROR, None, threshold, reason, choice.series_instance_uid or "", choice.reasons
    )


def _sources(finding: StudyFinding, images: Images) -> dict[str, Dataset]:
    """Return the images that the outputs may refer to: of the chosen series, else all."""
    chosen = {
        uid: source
        for uid, source in images.sources.items()
        if source.SeriesInstanceUID == finding.series_instance_uid
    }
    return chosen or images.sources


def _by_predecessors(groups: Sequence[str]) -> list[tuple[str, ...]]:
    """Split off each class of report, for each names its own predecessor; the rest is composed together."""
    rest = tuple(group for group in groups if not group.startswith(_REPORT))
    return [*((group,) for group in groups if group.startswith(_REPORT)), *([rest] if rest else [])]


def _context(revision: Revision, settings: Settings, info: ModelInfo) -> Context:
    return Context(
        study_instance_uid=revision.study_instance_uid,
        revision=revision.revision,
        created_at=revision.created_at.isoformat(),
        completeness=revision.completeness,
        model_name=info.name,
        model_version=info.version,
        model_digest=info.digest,
        qualification=settings.analysis.qualification,
        heatmaps=settings.analysis.heatmaps,
        summary_identification=settings.analysis.summary_identification,
    )


class _GrayOf:
    """Decodes the slices that are drawn once more: keeping all of them would cost hundreds of megabytes."""

    def __init__(self, images: Images) -> None:
        self._headers = {(h.sop_instance_uid, h.frame): h for h in images.headers}

    def __call__(self, item: SliceFinding) -> Gray:
        """Return the whole matrix of a slice in the lung window."""
        return read_gray(self._headers[item.sop_instance_uid, item.frame])
