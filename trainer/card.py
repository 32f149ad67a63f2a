"""The model card: what a person must know before using a model, with the figures that were measured.

`metrics` is what `metrics.json` holds: `evaluations`, a document of `trainer.document` by title in the order
to be shown; `samples`, the counts of `describe_samples`; and, if there is more to say, `notes`, sentences.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lungnode.model_folder import Manifest
from lungnode.recipe import Recipe
from trainer.samples import Sample

FIGURES: Final = ("acc", "sens", "spe", "iou", "f1", "auc")

_CARD: Final = """# {name} {version}

**Research use only. Not for diagnostic use.** It says how much a chest CT slice, and by its slices a study,
looks like {findings}.

{network} `recipe.json` holds every number chosen before the training (recipe `{recipe}`), `model.json` what
the training found, `metrics.json` every figure below. Weights are half-precision, in torchvision's names and
layout.

## Data

{data}

Slices are cropped {crop}, resized to {size} x {size} and were encoded as JPEG of quality {quality} for the
training, all alike, so that a file's type tells nothing.{views}{digests}

## Decision

A probability from **{threshold:.3f}** on is positive. Probabilities are calibrated on validation data
(logit x {slope:.3g} {intercept:+.3g}); the threshold was chosen there, too. A study is judged by the most
suspicious {share:.0%} of its lung's slices, its logit lowered by {offset:.3g}.

## Figures

In brackets: 95 % interval, by a bootstrap over patients.

{figures}

## Limits

- Figures are of the data named above. **Do not expect them on other scanners, protocols and populations**:
  evaluate and calibrate on your own labelled studies first (`lungnode evaluate`).
- A finding that the data did not hold is not told from {findings}: bacterial pneumonia, oedema, fibrosis,
  tumours. Children are not covered unless the data above say so.
- Class maps show what the logit is made of, not where a lesion ends.
{notes}
## Licence

{licence}
"""

_LICENCE: Final = {
    "imagenet": "The first weights are Keras' own, trained on ImageNet: its terms of use apply to them.",
    "random": "The first weights are random: no others' licence travels with the network.",
}
_FILE: Final = (
    "The weights derive from those of `{init}` and were changed by this training. The licence of those holds "
    "for these: its file is in this folder where one lay beside them; otherwise ask their publisher."
)


def describe_samples(samples: Iterable[Sample]) -> dict[str, dict[str, dict[str, int]]]:
    """Count slices, positive ones and groups, by split and source."""
    counted: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        counted.setdefault(sample.split or "all", {}).setdefault(sample.source, []).append(sample)
    return {
        split: {source: _count(found) for source, found in sources.items()}
        for split, sources in counted.items()
    }


def _count(samples: list[Sample]) -> dict[str, int]:
    return {
        "n": len(samples),
        "positive": sum(sample.positive for sample in samples),
        "groups": len({sample.group for sample in samples}),
    }


def render_card(recipe: Recipe, manifest: Manifest, metrics: Mapping[str, Any]) -> str:
    """Return the card of a trained model as Markdown."""
    decision, init = manifest.decision, recipe.network.init
    findings = " or ".join(name.upper() for name in manifest.findings)
    return _CARD.format(
        name=manifest.name,
        version=manifest.version,
        findings=findings,
        recipe=recipe.name,
        network=_network(recipe),
        data=_data(metrics.get("samples", {})),
        crop="to the lung's bounding box"
        if recipe.input.crop == "lung"
        else "by 50 of 512 rows at each edge",
        size=recipe.input.size,
        quality=recipe.input.jpeg_quality,
        views=_views(recipe),
        digests=_digests(manifest),
        threshold=decision.threshold,
        slope=decision.slope,
        intercept=decision.intercept,
        share=recipe.study.suspicious_share,
        offset=decision.study_offset,
        figures=figures_table(metrics.get("evaluations", {})),
        notes="".join(f"- {note}\n" for note in metrics.get("notes", ())),
        licence=_LICENCE.get(init) or _FILE.format(init=init.rpartition("/")[2]),
    )


def _network(recipe: Recipe) -> str:
    network = recipe.network
    read = " and ".join(str(stage) for stage in network.stages)
    topology = f" ({network.topology})" if network.backbone == "resnet50" else ""
    lesions = (
        f" A second one finds lesions: the mean of its {network.lesion_cells} highest cells is added."
        if network.lesion_cells
        else ""
    )
    return (
        f"{network.backbone}{topology}, first weights: {network.init.rpartition('/')[2]}; an added 1x1 "
        f"convolution reads stage {read} and makes the class map that gives the logit.{lesions}"
    )


def _views(recipe: Recipe) -> str:
    if len(recipe.input.views) == 1:
        return ""
    return (
        f" A picture that stands alone is looked at {', '.join(recipe.input.views)}; the mean logit counts."
    )


def _data(samples: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    if not samples:
        return "Not recorded."
    rows = [
        (split, source, *(str(found[key]) for key in ("n", "positive", "groups")))
        for split, sources in samples.items()
        for source, found in sources.items()
    ]
    return _table(("used for", "source", "slices", "positive", "patients, or what stands for one"), rows)


def _digests(manifest: Manifest) -> str:
    if not manifest.data:
        return ""
    return (
        " SHA-256 of the lists: "
        + ", ".join(f"{split} `{digest[:16]}`" for split, digest in manifest.data.items())
        + "."
    )


def figures_table(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures of several evaluations as a Markdown table."""
    if not evaluations:
        return "Not measured yet."
    rows = [
        (title, str(found["n"]), *(cell(found[key], found["confidence_intervals"][key]) for key in FIGURES))
        for title, found in evaluations.items()
    ]
    return _table(("measured on", "n", *FIGURES), rows)


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(headings)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def cell(value: float | None, bounds: list[float | None]) -> str:
    """Write a figure and its interval."""
    low, high = bounds
    if value is None:
        return "n/a"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.2f}-{high:.2f})"
