"""All objects that an analysis sends, composed in one place.

The same arguments give the same bytes: no clock, no chance. What was composed is stored and sent as often as
needed, never composed again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from lungnode.heatmap import overlay, spread_highest, upsample
from lungnode.pixels import Gray
from worker.outputs.capture import SUMMARY_NUMBER, Picture, compose_capture, compose_summary
from worker.outputs.evidence import used_images
from worker.outputs.header import KINDS, SOURCE_CHARACTER_SET, encode
from worker.outputs.key_objects import compose_key_objects
from worker.outputs.legend import annotate
from worker.outputs.multiframe import compose_captures
from worker.outputs.parametric import compose_map
from worker.outputs.report import compose_report, report_of_class
from worker.outputs.rle import rle_bound
from worker.outputs.source import UTF_8, character_set, patient_and_study
from worker.outputs.summary import draw_summary
from worker.outputs.wording import identification, notice, slice_title
from worker.result import Context, SliceFinding, StudyFinding

# What one destination gets of a study, report, heatmaps and map together, is at most 20 MB; this is the
# heatmaps' share of it.
HEATMAP_BYTES: Final = 16_500_000

GrayOf = Callable[[SliceFinding], Gray]


@dataclass(frozen=True)
class Composed:
    """One object, and the group it is sent in."""

    group: str
    dataset: Dataset
    is_summary: bool = False  # the page in front of heatmaps


def compose(
    finding: StudyFinding,
    context: Context,
    sources: Mapping[str, Dataset],
    gray: GrayOf,
    groups: Collection[str],
) -> list[Composed]:
    """Return the objects of `groups`, reports first, in the order a peer should get them.

    Args:
        finding: Of the analysis.
        context: Of the analysis.
        sources: The study's images by SOP Instance UID, without pixels; all that the finding names.
        gray: Gives the whole matrix of a slice in the lung window.
        groups: Keys of `worker.outputs.header.KINDS`; ended by "+src" to be encoded in the source's character
            set.

    Raises:
        KeyError: A group or an image is not known.
    """
    named = sorted(groups, key=lambda name: (KINDS[_base(name)].series_number, name))
    reports = [group for group in named if _base(group).startswith("sr")]
    composed = _compose_reports(finding, context, sources, reports)
    images = [group for group in named if group not in reports]
    drawn = any(_is_heatmap(group) for group in images)
    pictures = draw_heatmaps(finding, context, sources, gray) if drawn else []
    for group in images:
        for number, made in enumerate(_compose_images(finding, context, sources, group, pictures)):
            _set_character_set(made, sources, finding, group)
            composed.append(Composed(group, made, is_summary=number == 0 and _is_heatmap(group)))
    return composed


def _is_heatmap(group: str) -> bool:
    return _base(group) in ("sc", "sc-multi")


def _compose_reports(
    finding: StudyFinding, context: Context, sources: Mapping[str, Dataset], groups: Sequence[str]
) -> list[Composed]:
    """Compose the content once for each character set."""
    composed = []
    encoded: dict[bool, bytes] = {}  # by whether the source's character set is kept
    for group in groups:
        kept = group.endswith(SOURCE_CHARACTER_SET)
        if kept not in encoded:
            made = compose_report(finding, context, sources, group)
            _set_character_set(made, sources, finding, group)
            encoded[kept] = encode(made)
        composed.append(Composed(group, report_of_class(encoded[kept], context, group)))
    return composed


def _base(group: str) -> str:
    return group.removesuffix(SOURCE_CHARACTER_SET)


def _compose_images(
    finding: StudyFinding,
    context: Context,
    sources: Mapping[str, Dataset],
    group: str,
    pictures: Sequence[Picture],
) -> list[Dataset]:
    base = _base(group)
    if base == "pm":
        made = compose_map(finding.slices, context, sources, group)
        return [made] if made else []
    if base == "kos":
        slices = reported_slices(finding, context, sources)
        return [compose_key_objects(finding, slices, context, sources, group)] if slices else []
    if not pictures:
        return []
    summary = _compose_page(finding, context, pictures, group)
    if base == "sc":
        numbered = enumerate(pictures, start=SUMMARY_NUMBER + 1)
        return [summary, *(compose_capture(picture, context, group, number) for number, picture in numbered)]
    stacks = enumerate(_by_size(pictures), start=SUMMARY_NUMBER + 1)
    return [summary, *(compose_captures(stack, context, group, number) for number, stack in stacks)]


def _compose_page(
    finding: StudyFinding, context: Context, pictures: Sequence[Picture], group: str
) -> Dataset:
    source = pictures[0].source
    drawn = ""
    if context.summary_identification:
        drawn = identification(patient_and_study(source, context.corrected))
    return compose_summary(draw_summary(finding, context, pictures, drawn), source, context, group)


def _by_size(pictures: Sequence[Picture]) -> list[list[Picture]]:
    sizes = dict.fromkeys(picture.pixels.shape for picture in pictures)
    return [[picture for picture in pictures if picture.pixels.shape == size] for size in sizes]


def draw_heatmaps(
    finding: StudyFinding, context: Context, sources: Mapping[str, Dataset], gray: GrayOf
) -> list[Picture]:
    """Return the reported slices, drawn, from top to bottom."""
    return [_draw(item, context, sources, gray) for item in reported_slices(finding, context, sources)]


def reported_slices(
    finding: StudyFinding, context: Context, sources: Mapping[str, Dataset]
) -> list[SliceFinding]:
    """Return the slices that are shown, from top to bottom."""
    count = affordable(finding, context, sources)
    chosen = spread_highest([item.probability for item in finding.slices], count)
    return [finding.slices[index] for index in chosen]


def affordable(finding: StudyFinding, context: Context, sources: Mapping[str, Dataset]) -> int:
    """Return how many heatmaps are made: the set number, or what surely fits into their share of bytes."""
    matrices = {
        (int(image.source.Rows), int(image.source.Columns)) for image in used_images(finding.slices, sources)
    }
    largest = max(rle_bound(rows, columns) for rows, columns in matrices)
    return min(context.heatmaps, max(1, HEATMAP_BYTES // largest))


def _draw(item: SliceFinding, context: Context, sources: Mapping[str, Dataset], gray: GrayOf) -> Picture:
    image = gray(item)
    activation = upsample(item.class_map, item.box, image.shape[0], image.shape[1])
    source = sources[item.sop_instance_uid]
    bare = overlay(image, activation)
    return Picture(item, source, annotate(bare, slice_title(item, source), notice(context)), bare)


def _set_character_set(
    made: Dataset, sources: Mapping[str, Dataset], finding: StudyFinding, group: str
) -> None:
    kept = group.endswith(SOURCE_CHARACTER_SET)
    names = character_set(used_images(finding.slices, sources)[0].source, made) if kept else UTF_8
    if names:
        made.SpecificCharacterSet = names
