"""A training from slices to a candidate: the same again, killed and continued, moved."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungnode.errors import UnavailableError, UnusableError
from lungnode.model_folder import WEIGHTS_FILE, describe_model, read_metrics
from lungnode.runtime import load_model, load_tensorflow
from tests.training_data import draw_slices, exact_recipe, small_recipe
from trainer.progress import Silence
from trainer.samples import Sample

TIMES = ("seconds", "cpu_seconds", "pipeline_images_per_s", "step_images_per_s")
CHILD = """
import os, signal, sys
from pathlib import Path
from lungnode.runtime import load_tensorflow
load_tensorflow()
from trainer.progress import Silence
from trainer.run_folder import RunFolder
from trainer.train import train

class Killed(Silence):
    what = ""
    def begin(self, what, total):
        self.what = what
    def advance(self, steps=1):
        self.meet("in " + self.what)
    def say(self, line):
        self.meet("after " + line)
    def meet(self, moment):
        if moment.startswith(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

run = RunFolder(Path(sys.argv[1]))
train(run, run.samples(), Path(sys.argv[2]), Killed())
"""


@dataclass(frozen=True)
class Place:
    """Where a run and its cache are."""

    run: Path
    cache: Path


@pytest.fixture(scope="module")
def trainer() -> Any:
    load_tensorflow()
    import trainer.train as module  # noqa: PLC0415 - TensorFlow takes seconds to import

    return module


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return draw_slices(tmp_path_factory.mktemp("slices"), 32)


def begin(trainer: Any, path: Path, samples: Sequence[Sample], **training: Any) -> Any:
    recipe = small_recipe(augmentation=True, average=0.5, momentum=0.5, **training)
    from trainer.run_folder import RunInfo  # noqa: PLC0415 - TensorFlow

    return trainer.begin(path, RunInfo(name="small", version="1"), recipe, samples, Path())


@pytest.fixture(scope="module")
def whole(trainer: Any, samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run = begin(trainer, folder / "run", samples)
    trainer.train(run, samples, folder / "cache", Silence())
    return run


def outcome(run: Any) -> tuple[list[dict[str, Any]], bytes, str]:
    """What a run came to: its history without times, the weights, the manifest."""
    from trainer.checkpoint import load_checkpoint  # noqa: PLC0415 - TensorFlow

    history = [asdict(record) for record in load_checkpoint(run.checkpoint).history]
    for record in history:
        for name in TIMES:
            del record[name]
    weights = (run.model / WEIGHTS_FILE).read_bytes()
    return history, weights, (run.model / "model.json").read_text(encoding="utf-8")


def test_a_training_learns_and_leaves_a_model_that_a_worker_can_load(whole: Any) -> None:
    model = load_model(whole.model)

    assert (model.info.name, model.info.version) == ("small", "1")
    assert whole.info().state == "done"
    figures = read_metrics(whole.model)
    assert figures["training"]["epochs"] == 3
    [validation] = figures["evaluations"].values()
    assert validation["auc"] > 0.9
    assert (whole.path / "curves.png").stat().st_size > 1000
    assert len((whole.path / "history.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(
    trainer: Any, samples: list[Sample], whole: Any, tmp_path: Path
) -> None:
    again = begin(trainer, tmp_path / "again", samples)
    other = begin(trainer, tmp_path / "other", samples, seed=1, epochs=1)

    trainer.train(again, samples, tmp_path / "cache", Silence())
    trainer.train(other, samples, tmp_path / "cache", Silence())

    assert outcome(again) == outcome(whole)
    assert outcome(other)[1] != outcome(whole)[1]


@pytest.mark.parametrize("moment", ["in Features", "in Epoch 2", "after epoch 2"])
def test_a_killed_training_goes_on_to_the_same_end(
    trainer: Any, samples: list[Sample], whole: Any, tmp_path: Path, moment: str
) -> None:
    run = begin(trainer, tmp_path / "run", samples)
    arguments = [str(run.path), str(tmp_path / "cache"), moment]
    killed = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not run.model.exists()

    trainer.train(run, run.samples(), tmp_path / "cache", Silence())

    assert outcome(run) == outcome(whole)


def test_an_exact_fit_that_is_killed_goes_on_to_the_same_end(
    trainer: Any, samples: list[Sample], tmp_path: Path
) -> None:
    from trainer.run_folder import RunInfo  # noqa: PLC0415 - TensorFlow

    recipe = exact_recipe(lesion_cells=2)
    scans = [replace(sample, healthy_scan=not sample.positive) for sample in samples]
    runs = [
        trainer.begin(tmp_path / name, RunInfo(name="exact", version="1"), recipe, scans, Path())
        for name in ("whole", "killed")
    ]
    trainer.train(runs[0], scans, tmp_path / "cache", Silence())
    arguments = [str(runs[1].path), str(tmp_path / "cache"), "in Cross-validation"]
    killed = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=False, timeout=120)

    trainer.train(runs[1], runs[1].samples(), tmp_path / "other cache", Silence())

    assert killed.returncode == -signal.SIGKILL
    assert outcome(runs[1]) == outcome(runs[0])


def test_a_run_goes_on_in_another_place_with_its_slices_there(
    trainer: Any, samples: list[Sample], whole: Any, tmp_path: Path
) -> None:
    run = begin(trainer, tmp_path / "here", samples)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(run, samples, tmp_path / "cache", StopsAfterEpoch(1))
    assert run.info().state == "stopped"
    shutil.copytree(samples[0].path.parent, tmp_path / "there" / "slices")
    shutil.move(run.path, tmp_path / "there" / "run")
    moved = replace(run, path=tmp_path / "there" / "run")

    trainer.train(moved, moved.samples(tmp_path / "there" / "slices"), tmp_path / "other cache", Silence())

    assert outcome(moved) == outcome(whole)


class StopsAfterEpoch(Silence):
    """Presses Ctrl-C after an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def say(self, line: str) -> None:
        """Stop the program, as the signal does."""
        if line.startswith(f"epoch {self._epoch}:"):
            raise KeyboardInterrupt


def test_a_finished_run_is_left_as_it_is(trainer: Any, whole: Any) -> None:
    before = describe_model(whole.model).digest

    trainer.train(whole, [], Path(os.devnull), Silence())

    assert describe_model(whole.model).digest == before


def test_two_programs_do_not_train_one_run(trainer: Any, samples: list[Sample], tmp_path: Path) -> None:
    run = begin(trainer, tmp_path / "run", samples)

    with run.locked(), pytest.raises(UnavailableError, match="Another program trains"):
        trainer.train(run, samples, tmp_path / "cache", Silence())


def test_first_weights_that_do_not_fit_leave_no_run_behind(
    trainer: Any, samples: list[Sample], tmp_path: Path
) -> None:
    from trainer.run_folder import RunInfo  # noqa: PLC0415 - TensorFlow

    np.savez(tmp_path / "weights.npz", nothing=np.zeros(1))
    recipe = small_recipe()
    recipe = recipe.model_copy(update={"network": recipe.network.model_copy(update={"init": "weights.npz"})})

    with pytest.raises(UnusableError, match=r"weights\.npz"):
        trainer.begin(tmp_path / "run", RunInfo(name="small", version="1"), recipe, samples, tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["weights.npz"]


def test_the_licence_of_the_first_weights_travels_and_their_folder_does_not(
    trainer: Any, samples: list[Sample], whole: Any, tmp_path: Path
) -> None:
    from trainer.run_folder import RunInfo  # noqa: PLC0415 - TensorFlow

    shutil.copy(whole.first_weights, tmp_path / "weights.safetensors")
    (tmp_path / "weights.LICENSE.txt").write_text("non-commercial", encoding="utf-8")
    recipe = small_recipe()
    network = recipe.network.model_copy(update={"init": str(tmp_path / "weights.safetensors")})
    recipe = recipe.model_copy(update={"network": network})

    run = trainer.begin(tmp_path / "run", RunInfo(name="small", version="1"), recipe, samples, Path())

    assert [path.read_text(encoding="utf-8") for path in run.licenses] == ["non-commercial"]
    assert run.recipe().network.init == "weights.safetensors"
    assert run.first_weights.read_bytes() == whole.first_weights.read_bytes()


def test_the_licence_in_a_models_folder_travels_with_its_weights(
    trainer: Any, samples: list[Sample], whole: Any, tmp_path: Path
) -> None:
    from trainer.run_folder import RunInfo  # noqa: PLC0415 - TensorFlow

    shutil.copytree(whole.model, tmp_path / "model")
    (tmp_path / "model/weights.LICENSE.txt").write_text("non-commercial", encoding="utf-8")
    network = small_recipe().network.model_copy(update={"init": str(tmp_path / "model")})
    recipe = small_recipe().model_copy(update={"network": network})

    run = trainer.begin(tmp_path / "run", RunInfo(name="small", version="1"), recipe, samples, Path())

    assert [path.read_text(encoding="utf-8") for path in run.licenses] == ["non-commercial"]


def test_a_run_without_its_first_weights_is_refused_by_name(
    trainer: Any, samples: list[Sample], tmp_path: Path
) -> None:
    run = begin(trainer, tmp_path / "run", samples)
    shutil.rmtree(run.path / "state")

    with pytest.raises(UnusableError, match=r"run cannot be taken up: its initial\.safetensors is gone"):
        trainer.train(run, samples, tmp_path / "cache", Silence())


def test_a_slice_that_changed_fails_the_run_and_the_run_says_so(trainer: Any, tmp_path: Path) -> None:
    samples = draw_slices(tmp_path / "slices", 16)
    samples[0] = replace(samples[0], digest="0" * 64)
    run = begin(trainer, tmp_path / "run", samples)

    with pytest.raises(UnusableError, match="has changed"):
        trainer.train(run, samples, tmp_path / "cache", Silence())

    assert run.info().state == "failed"
    assert "has changed" in run.info().reason
    assert not run.model.exists()
