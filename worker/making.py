"""From a finding to everything that may be sent of it."""

from collections.abc import Sequence

from pydicom import Dataset

from lungnode.loading import Images
from lungnode.rules import destinations_of
from lungnode.runtime import Model
from lungnode.series import choose
from lungnode.settings import Settings
from worker.analysis import Seen
from worker.outputs.compose import Composed, GrayOf, compose
from worker.outputs.header import kind_of
from worker.result import Context, StudyFinding, Verdict
from worker.results import groups_to_compose
from worker.study import Revision


def compose_results(
    finding: StudyFinding,
    revision: Revision,
    images: Images,
    settings: Settings,
    model: Model,
    gray: GrayOf,
) -> list[Composed]:
    """Compose every group that a destination of the study may need."""
    if finding.verdict is Verdict.ERROR and not finding.series_instance_uid:
        return []  # nothing says that it is a chest CT
    sources = _sources(finding, images)
    if not sources:
        return []
    groups = groups_to_compose(destinations_of(settings, revision.rule), finding.verdict)
    context = _context(revision, settings, model)
    if context.stated:  # it corrects the report alone: pictures say what the revision before showed
        groups = tuple(group for group in groups if kind_of(group).modality == "SR")
    return compose(finding, context, sources, gray, groups)


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


def _context(revision: Revision, settings: Settings, model: Model) -> Context:
    info = model.info
    return Context(
        study_instance_uid=revision.study_instance_uid,
        revision=revision.revision,
        created_at=revision.created_at.isoformat(),
        completeness=revision.completeness,
        predecessors=revision.predecessors,
        corrected=revision.corrected,
        reading=revision.reading,
        model_name=info.name,
        model_version=info.version,
        model_digest=info.digest,
        runtime=model.runtime,
        qualification=settings.analysis.qualification,
        heatmaps=settings.analysis.heatmaps,
        summary_identification=settings.analysis.summary_identification,
    )


def gray_of(seen: Sequence[Seen]) -> GrayOf:
    """Return what finds an analysed slice as it was decoded."""
    grays = {
        (header.sop_instance_uid, header.frame): gray
        for each in seen
        for header, gray in zip(each.headers, each.grays, strict=True)
    }
    return lambda item: grays[item.sop_instance_uid, item.frame]
