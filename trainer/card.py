"""The model card: what a person must know before using the model, with the figures that were measured."""

from collections.abc import Mapping
from typing import Any, Final

from lungnode.recipe import Recipe

_COLUMNS: Final = ("acc", "sens", "spe", "iou", "f1", "auc")

_CARD: Final = """# {name} {version}

**Research use only. Not for diagnostic use.** It says how much a chest CT slice looks like COVID-19
pneumonia.

ResNet50 (v1.5) with ImageNet weights, kept as they are, up to residual stage {last_stage}; one added 1x1
convolution reads stages {stages} and makes a class map, whose mean is the logit. Stage 4 is left out: it
made the figures worse (docs/training.md). The convolution alone was trained, as a regularised logistic
regression. Weights are half-precision, in torchvision's names and layout. `recipe.json` holds every
number, `metrics.json` every figure.

## Data

| source | slices | sick | what stands for a patient |
|---|---|---|---|
{data}

- `covid-ct`: UCSD COVID-CT (Yang et al., arXiv:2003.13865), figures cropped from publications.
- `sars-cov-2-ct`: SARS-CoV-2 CT (Soares et al. 2020); patients are not known, so blocks of 50 numbers
  stand for them.
- `luna16`: LUNA16, scans from before 2020, one slice each; with lesions painted into them as sick
  examples.
- `covid-ct-md`: the lung slices of two studies of COVID-CT-MD (Afshar et al., Sci Data 2021, doi
  10.1038/s41597-021-00900-3), one with COVID-19 and slice labels, one normal (lesions painted into that
  as well).

Every image is cropped to the lung's bounding box and encoded again as JPEG; each is used once more with
window, sharpness, noise, crop, side and compression disturbed.

## Figures

A probability from **{threshold}** on is positive. In brackets: 95 % interval, by a bootstrap over
patients.

### Held-out patients of the same sources ({folds}-fold cross-validation)

{cross_validation}

### Official validation list of COVID-CT (trained on all else)

{official}

### A source that was left out of the training: what to expect elsewhere

{left_out}

Of the healthy slices of COVID-CT, {png} of the PNG and {jpg} of the JPEG files are called positive (all
sick ones are PNG): file types should not matter.

Study probabilities of the two real studies: {studies} when other blocks of the same study were in the
training, and {studies_left_out} when `covid-ct-md` was left out.

## Limits

- Figures on a left-out source are poor. **Do not expect this model to work on scanners, protocols and
  populations that it was not trained on**; calibrate and validate on your own studies first.
- "Healthy" slices of COVID-CT include other diseases, those of LUNA16 only nodules: the model was hardly
  shown bacterial pneumonia, oedema, fibrosis or tumours and cannot tell COVID-19 from them. No children.
- Two real studies are no test of studies: the study rule rests on reasons, not on figures.
- Threshold, calibration and study offset were set on the same held-out slices that the cross-validated
  figures are of.
- Class maps show what the logit is made of, not where a lesion ends.

## Licence

The weights derive from ImageNet weights under a **non-commercial licence**
(`resnet50-imagenet.LICENSE.txt`, arXiv 2010.15703), which travels with them. They were changed: rounded
to half precision, the classifier and stage 4 removed, a class-map convolution added, November 2026. The
images were used under their owners' terms: see above.
"""


def render_card(recipe: Recipe, figures: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    held_out, left_out = figures["cross_validation"], figures["left_out_source"]
    by_type = figures["healthy_share_called_positive_by_file_type"]
    rows = [f"| {s} | {f['n']} | {f['positive']} | {f['groups']} |" for s, f in held_out.items()]
    return _CARD.format(
        name=recipe.name,
        version=recipe.version,
        last_stage=max(recipe.stages),
        stages=" and ".join(str(stage) for stage in recipe.stages),
        data="\n".join(rows),
        threshold=recipe.threshold,
        folds=recipe.folds,
        cross_validation=_table(held_out),
        official=_table({"covid-ct": figures["official_validation_list"]}),
        left_out=_table(left_out),
        png=f"{by_type['.png']:.0%}",
        jpg=f"{by_type['.jpg']:.0%}",
        studies=_studies(figures["studies_cross_validation"]),
        studies_left_out=_studies(figures["studies_left_out_source"]),
    )


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"| source | {' | '.join(_COLUMNS)} |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for source, figures in rows.items():
        cells = [_cell(figures[name], figures["confidence_intervals"][name]) for name in _COLUMNS]
        lines.append(f"| {source} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, bounds: list[float | None]) -> str:
    low, high = bounds
    if value is None or low is None or high is None:
        return "n/a"
    return f"{value:.3f} ({low:.2f}-{high:.2f})"


def _studies(found: Mapping[str, float]) -> str:
    return ", ".join(f"{study} {value:.2f}" for study, value in found.items())
