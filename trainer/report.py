"""The HTML report of an evaluation: one file, the paper's tables and figures, nothing from elsewhere."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from lungnode.durable import replaced
from lungnode.errors import UnavailableError
from lungnode.heatmap import Color
from trainer import report_figures as draw
from trainer import report_tables as tabulate
from trainer.compression import Price
from trainer.document import Level, name, scored
from trainer.evaluate import Evaluation, main_split, part
from trainer.localization import Localization, Picture, localize, pictures
from trainer.samples import Sample

TEMPLATES: Final = Path(__file__).parent / "templates"
PICTURE_SIDE: Final = 320  # pixels; enough to see a lesion, and the report stays small
PICTURE_QUALITY: Final = 85


@dataclass(frozen=True)
class Extras:
    """What a report holds beside the evaluations."""

    samples: Sequence[Sample] = ()  # for the tables of the data; empty: what was evaluated
    prices: Mapping[str, Sequence[Price]] = field(default_factory=dict)  # of compression, by model digest
    notes: Sequence[str] = ()  # sentences about the data
    now: datetime | None = None  # when it is made; None: it does not say


@dataclass(frozen=True)
class Drawing:
    """A figure with its title."""

    title: str
    drawn: str
    note: str = ""

    @property
    def svg(self) -> Markup:
        """The drawing, to be taken as it is."""
        return Markup(self.drawn)  # noqa: S704 - our own; Matplotlib has escaped what is written in it


def write_report(evaluations: Sequence[Evaluation], path: Path, extras: Extras | None = None) -> None:
    """Write the report of one or several models that were evaluated on the same samples.

    Raises:
        UnavailableError: The file cannot be written; none is left half-written.
    """
    page = render_report(evaluations, extras or Extras())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            file.write(page.encode())
    except OSError as error:
        raise UnavailableError(f"The report {path} cannot be written: {error.strerror}.") from error


def render_report(evaluations: Sequence[Evaluation], extras: Extras) -> str:
    """Return the report's page."""
    names = _names(evaluations)
    split = main_split(evaluations[0].samples)
    shown = [part(evaluation, split) for evaluation in evaluations]
    samples = extras.samples or evaluations[0].samples
    levels: tuple[Level, ...] = ("slices", "studies") if shown[0].studies else ("slices",)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        title=", ".join(names),
        made=f"Made {extras.now:%Y-%m-%d %H:%M %Z}." if extras.now else "",
        notes=extras.notes,
        test_set=shown[0].test_set,
        digest=shown[0].digest,
        data_tables=[tabulate.cohort(samples), tabulate.splits(samples)],
        data_figures=[Drawing("Figure 5: distribution", draw.distribution(samples))],
        model_tables=[tabulate.models(evaluations, names, level) for level in levels],
        model_figures=[_roc(shown, names, level) for level in levels if _has_both(shown[0], level)],
        models=[_model(each, title, extras) for each, title in zip(shown, names, strict=True)],
    )


def _names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return a short name of each model; the same name twice gets its version, too."""
    names = [evaluation.info.name for evaluation in evaluations]
    return [
        name if names.count(name) == 1 else f"{name} {each.info.version}"
        for name, each in zip(names, evaluations, strict=True)
    ]


def _has_both(evaluation: Evaluation, level: Level) -> bool:
    labels = scored(evaluation, level).labels
    return bool(labels.any() and not labels.all())


def _roc(evaluations: Sequence[Evaluation], names: Sequence[str], level: Level) -> Drawing:
    note = "Band: 95 %, by a bootstrap over patients. Dot: the threshold in use."
    return Drawing(f"Figure 6: ROC, {level}", draw.roc_curves(evaluations, names, level), note)


def _model(evaluation: Evaluation, title: str, extras: Extras) -> dict[str, Any]:
    """Return what is told of one model alone."""
    levels: tuple[Level, ...] = ("slices", "studies") if evaluation.studies else ("slices",)
    prices = extras.prices.get(evaluation.info.digest)
    found = localize(evaluation)
    tables = [tabulate.confusions(evaluation, level) for level in levels]
    tables += [tabulate.asymptomatic(evaluation), tabulate.localization(found)]
    tables += [tabulate.parts(evaluation, level) for level in levels]
    tables += [tabulate.compression(prices)] if prices is not None else []
    return {
        "name": title,
        "full_name": name(evaluation.info),
        "threshold": evaluation.info.threshold,
        "tables": tables,
        "figures": [*_score_figures(evaluation, levels), *_share_figure(found)],
        "pictures": [_embedded(picture) for picture in pictures(evaluation)],
    }


def _score_figures(evaluation: Evaluation, levels: Sequence[Level]) -> list[Drawing]:
    threshold = evaluation.info.threshold
    drawings = [
        Drawing(f"Probabilities, {level}", draw.histogram(scored(evaluation, level), threshold))
        for level in levels
    ]
    note = "The area of a dot is the share of the slices. On the line: what is said comes true as often."
    return [*drawings, Drawing("Reliability, slices", draw.reliability_plot(evaluation), note)]


def _share_figure(found: Localization) -> list[Drawing]:
    if not found.inside.size:
        return []
    return [Drawing("Class maps inside the lung", draw.shares(found))]


def _embedded(picture: Picture) -> dict[str, Any]:
    return vars(picture) | {"plain": _data_url(picture.plain), "shown": _data_url(picture.shown)}


def _data_url(color: Color) -> str:
    image = Image.fromarray(color)
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    encoded = BytesIO()
    image.save(encoded, "JPEG", quality=PICTURE_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
