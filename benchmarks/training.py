"""What an epoch costs, and whether reading or computing limits it: `python -m benchmarks.training`.

For each network: making examples (decoding, cropping, JPEG), making features of the frozen part, reading
batches, and the step, in images a second. Slices are a phantom's; an epoch is measured after a first one
that traces and warms up. `--slices` and `--networks` shorten it.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lungnode.phantom import phantom_study
from lungnode.recipe import Network, Recipe
from lungnode.runtime import load_tensorflow
from trainer.examples import View, make_example
from trainer.grays import file_digest, read_gray
from trainer.progress import Silence
from trainer.samples import Sample, Split

NETWORKS: Final[dict[str, dict[str, Any]]] = {
    "resnet50, all trained (paper)": {"backbone": "resnet50", "topology": "v1"},
    "vgg16, all trained (paper)": {"backbone": "vgg16"},
    "googlenet, all trained (paper)": {"backbone": "googlenet"},
    "resnet50, stage 3 trained": {"backbone": "resnet50", "topology": "v1.5", "stages": [3], "frozen": 2},
    "resnet50, head on stage 3 trained": {
        "backbone": "resnet50",
        "topology": "v1.5",
        "stages": [3],
        "frozen": 3,
    },
}


def main(arguments: Sequence[str]) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("--slices", type=int, default=48)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), help=" | ".join(NETWORKS))
    wanted = parser.parse_args(arguments)
    tensorflow = load_tensorflow()
    devices = [device.name for device in tensorflow.config.list_physical_devices("GPU")] or ["CPU"]
    print(f"{_cpu()}, {len(os.sched_getaffinity(0))} cores; {', '.join(devices)}")
    print(f"Python {platform.python_version()}, TensorFlow {version('tensorflow')}, Keras {version('keras')}")
    print("\n| network | examples made/s | features made/s | read/s | step/s | epoch of 1,000 images, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        samples = draw(Path(folder) / "slices", wanted.slices)
        for name in wanted.networks:
            print(f"| {name} | {' | '.join(measure(NETWORKS[name], samples, Path(folder)))} |", flush=True)
    return 0


def draw(folder: Path, count: int) -> list[Sample]:
    """Write a phantom's slices as PNG pictures."""
    folder.mkdir()
    study = phantom_study(folder / "study", count)
    return [_sample(path, folder / f"{number}.png", number) for number, path in enumerate(study.paths)]


def _sample(source: Path, path: Path, number: int) -> Sample:
    Image.fromarray(read_gray(source)).save(path)
    split = Split.VALIDATION if number % 8 == 0 else Split.TRAIN
    return Sample("phantom", path, number % 3 == 0, str(number), split, digest=file_digest(path))


def measure(network: dict[str, Any], samples: Sequence[Sample], folder: Path) -> list[str]:
    """Return the cells of one network's row."""
    from trainer.bench import make_task  # noqa: PLC0415 - TensorFlow
    from trainer.workbench import open_bench  # noqa: PLC0415

    parts = {"network": Network(init="random", **network), "name": "benchmark"}
    recipe = Recipe.model_validate(parts | {"training": {"epochs": 2, "patience": 2}})
    made = _rate(samples, recipe)
    bench = open_bench(recipe, folder / "features", Silence())
    task = make_task(samples, recipe)
    begin = time.perf_counter()
    bench.prepare(task)
    features = len(samples) / (time.perf_counter() - begin)
    last = bench.fit(task).history[-1]
    cells = (made, features, last.pipeline_images_per_s, last.step_images_per_s)
    return [*(f"{cell:.1f}" for cell in cells), f"{1000 / last.step_images_per_s:.0f}"]


def _rate(samples: Sequence[Sample], recipe: Recipe) -> float:
    """Return how many examples one thread makes in a second."""
    begin = time.perf_counter()
    for sample in samples:
        make_example(sample, View(), recipe, sample.digest)
    return len(samples) / (time.perf_counter() - begin)


def _cpu() -> str:
    from trainer.environment import describe_environment  # noqa: PLC0415 - TensorFlow

    return str(describe_environment()["cpu"])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
