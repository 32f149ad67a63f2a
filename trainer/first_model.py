"""Train the model that Lungnode ships: ImageNet features as they are, and a class-map convolution.

`python -m trainer.first_model --data ../shared/data --out lungnode/model` makes the folder again. What was
tried and why it is done so is in docs/training.md.
"""

import argparse
import json
import logging
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from lungnode.activation import smooth
from lungnode.network import HEAD, Weights
from lungnode.recipe import Recipe, save_recipe
from lungnode.runtime import CARD_FILE, METRICS_FILE, WEIGHTS_FILE, load_model
from trainer.card import render_card
from trainer.examples import make_examples
from trainer.features import Images, pooled_features
from trainer.figures import collect_figures
from trainer.head import Head
from trainer.samples import collect_samples
from trainer.table import Table, calibrate, cross_validate, make_table

RECIPE: Final = Recipe(name="lungnode-resnet50", version="0.1.0")
INITIAL: Final = "weights/resnet50-imagenet.npz"
INITIAL_LICENSE: Final = "weights/resnet50-imagenet.LICENSE.txt"
TESTED: Final = ("covid-ct", "sars-cov-2-ct", "covid-ct-md")  # sources with sick and healthy slices
CLASSIFIER: Final = "fc."  # the initial weights' layer that names photographs
SHOWN_SLICES: Final = 200  # on which the heatmap's scale is measured
FULL_STRENGTH: Final = 99.0  # percentile of their activations


@dataclass(frozen=True)
class Paths:
    """Where a training reads and writes."""

    data: Path
    out: Path
    cache: Path


def main(arguments: list[str]) -> int:
    """Train, measure and write the folder."""
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(message)s")
    paths = _parse(arguments)
    weights = read_initial(paths.data / INITIAL)
    table, images = build_table(paths, weights, RECIPE)
    held_out = cross_validate(table, RECIPE)
    calibration = calibrate(table, held_out, RECIPE, TESTED)
    recipe = replace(
        RECIPE, threshold=round(calibration.threshold, 3), study_offset=round(calibration.study_offset, 3)
    )
    head = table.fit(np.ones(len(table.labels), np.bool_), recipe)
    write_model(paths.out, head.scaled(calibration.slope, calibration.intercept), weights, recipe)
    sick = images[table.genuine & table.labels]
    recipe = replace(recipe, map_scale=full_strength(paths.out, sick))
    save_recipe(recipe, paths.out)
    figures = collect_figures(table, held_out, calibration, recipe, TESTED)
    text = json.dumps(figures, indent=2) + "\n"
    (paths.out / METRICS_FILE).write_text(text, encoding="utf-8")
    (paths.out / CARD_FILE).write_text(render_card(recipe, figures), encoding="utf-8")
    shutil.copyfile(paths.data / INITIAL_LICENSE, paths.out / Path(INITIAL_LICENSE).name)
    sys.stdout.write(text)
    return 0


def read_initial(path: Path) -> Weights:
    """Read the initial weights as they will be shipped: features are computed with rounded ones already."""
    return {name: value.astype(np.float16).astype(np.float32) for name, value in np.load(path).items()}


def build_table(paths: Paths, weights: Weights, recipe: Recipe) -> tuple[Table, Images]:
    """Read all samples and compute the features of their examples."""
    examples = list(make_examples(collect_samples(paths.data), recipe))
    images: Images = np.stack([example.image for example in examples])
    return make_table(pooled_features(images, weights, recipe, paths.cache), examples), images


def write_model(folder: Path, head: Head, weights: Weights, recipe: Recipe) -> None:
    """Write weights, in half precision, and recipe; what the network does not use is left out."""
    last = max(recipe.stages)
    kept = {name: value for name, value in weights.items() if _is_used(name, last)}
    kept |= {f"{HEAD}.weight": head.kernel.reshape(1, -1, 1, 1), f"{HEAD}.bias": np.array([head.bias])}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.astype(np.float16) for name, value in kept.items()}, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)
    save_recipe(recipe, folder)


def _is_used(name: str, last_stage: int) -> bool:
    stage = int(name[5]) if name.startswith("layer") else 0
    return not name.startswith(CLASSIFIER) and stage <= last_stage


def full_strength(folder: Path, sick: Images) -> float:
    """Return the activation that a heatmap shows at full strength."""
    _, class_maps = load_model(folder).predict(sick[:: max(1, len(sick) // SHOWN_SLICES)])
    return round(float(np.percentile(smooth(class_maps), FULL_STRENGTH)), 2)


def _parse(arguments: list[str]) -> Paths:
    parser = argparse.ArgumentParser(prog="python -m trainer.first_model", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument(
        "--cache", type=Path, default=Path(gettempdir()) / "lungnode-features", help="folder for features"
    )
    wanted = parser.parse_args(arguments)
    return Paths(wanted.data, wanted.out, wanted.cache)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
