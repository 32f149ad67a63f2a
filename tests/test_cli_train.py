"""`lungnode train` as a person runs it."""

import json
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.command_line import CommandLine, Result
from tests.nodes import command, variables, wait_for
from tests.training_data import SMALL_RECIPE, draw_slices
from trainer.manifest import write_manifest

Run = Callable[..., Result]


@pytest.fixture
def train(command_line: CommandLine, tmp_path: Path) -> Run:
    (tmp_path / "recipe.toml").write_text(SMALL_RECIPE, encoding="utf-8")
    return partial(command_line.run, tmp_path / "data", "train", "--recipe", tmp_path / "recipe.toml")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twenty pictures, and the lists that name them."""
    folder = tmp_path / "images"
    samples = draw_slices(folder, 20)
    for name, wanted in (("positives.txt", True), ("negatives.txt", False)):
        names = [sample.path.name for sample in samples if sample.positive is wanted]
        (folder / name).write_text("\n".join(names), encoding="utf-8")
    write_manifest(samples, folder / "manifest.csv")
    return folder


def lists(images: Path) -> list[str]:
    return [
        f"--images={images}",
        f"--positives={images / 'positives.txt'}",
        f"--negatives={images / 'negatives.txt'}",
    ]


def written(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.name not in ("recipe.toml", "images"))


def test_lists_give_a_candidate_and_one_json_document(train: Run, images: Path, tmp_path: Path) -> None:
    result = train(*lists(images), "--json", "--name", "ours", "--set", "training.epochs=1")

    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["name"] == "ours"
    assert found["training"]["epochs"] == 1
    model = Path(found["model"])
    assert model == Path(found["run"]) / "model"
    assert Path(found["run"]).parent == tmp_path / "data" / "runs"
    assert load_file(model / "weights.safetensors")["class_map.weight"].shape == (1, 256, 1, 1)
    assert json.loads((model / "recipe.json").read_bytes())["training"]["epochs"] == 1
    assert "each of the 20 images counts as a patient" in result.stderr


def test_a_manifest_keeps_its_splits_and_a_finished_run_can_be_resumed(
    train: Run, command_line: CommandLine, images: Path, tmp_path: Path
) -> None:
    result = train("--manifest", images / "manifest.csv", "--out", tmp_path / "run")

    assert result.returncode == 0, result.stderr
    assert f"lungnode models promote {tmp_path / 'run'}" in result.stdout
    assert (tmp_path / "run/samples.csv").read_text(encoding="utf-8").count(",validation,") == 4
    again = command_line.run(tmp_path / "data", "train", "--resume", tmp_path / "run", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["name"] == "small"


@pytest.mark.usefixtures("train")  # it writes the recipe
def test_sigterm_stops_a_training_so_that_it_can_go_on(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ("--recipe", tmp_path / "recipe.toml", "--set", "training.epochs=100000", "--out", run)
    asked = command(tmp_path / "data", "train", *map(str, (*arguments, *lists(images))))
    training = subprocess.Popen(asked, stderr=subprocess.PIPE, text=True, env=variables())

    wait_for(lambda: (run / "history.csv").exists() or None, limit_s=120, what="the first epoch")
    training.send_signal(signal.SIGTERM)
    _, told = training.communicate(timeout=60)

    assert training.returncode == 1
    assert told.rstrip().endswith(f"Stopped. To go on: lungnode train --resume {run}")
    assert json.loads((run / "run.json").read_bytes())["state"] == "stopped"


def test_folds_print_figures_and_leave_no_run(train: Run, images: Path, tmp_path: Path) -> None:
    result = train(*lists(images), "--folds", "2", "--json")

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["n"] == 20
    assert not (tmp_path / "data" / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--set", "training.epoch=3"], 1, "there is no key training.epoch"),
        (["--recipe", "worst"], 1, "There is no recipe 'worst'"),
        (["--init", "nowhere.npz"], 1, "There are no initial weights"),
        (["--folds", "1"], 2, "--folds is at least 2"),
        (["--name", "../mine"], 1, "name '../mine' cannot name a folder"),
        (["--folds", "2", "--out", "run"], 2, "goes with none of --resume, --name and --out"),
        (["--resume", "nowhere"], 2, "--resume knows its slices"),
        (["--manifest", "list.csv"], 2, "Name either --manifest"),
    ],
)
def test_wrong_use_is_one_sentence_and_writes_nothing(
    train: Run, images: Path, tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    result = train(*lists(images), *arguments)

    assert result.returncode == code
    assert sentence in " ".join(result.stderr.replace("│", " ").split())
    assert written(tmp_path) == []


@pytest.mark.parametrize("changed", [["--set", "training.epochs=9"], ["--name", "x"], ["--init", "random"]])
def test_a_run_that_goes_on_cannot_be_changed(
    command_line: CommandLine, tmp_path: Path, changed: list[str]
) -> None:
    result = command_line.run(tmp_path / "data", "train", "--resume", tmp_path, *changed)

    assert result.returncode == 2
    assert "A run has its recipe" in result.stderr


def test_an_archive_without_labels_says_how_to_label(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line.run(tmp_path / "data", "db", "upgrade").returncode == 0

    result = command_line.run(tmp_path / "data", "train")

    assert result.returncode == 1
    assert "No study of the archive can be trained on; `lungnode labels import` labels them." in result.stderr
    assert not (tmp_path / "data" / "cache").exists()


def test_an_empty_class_is_refused(train: Run, images: Path, tmp_path: Path) -> None:
    (images / "positives.txt").write_text("", encoding="utf-8")

    result = train(*lists(images))

    assert result.returncode == 1
    assert "has no positive image" in result.stderr
    assert written(tmp_path) == []


def test_a_patient_in_two_splits_is_refused(train: Run, images: Path, tmp_path: Path) -> None:
    path = images / "manifest.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("patient 6,", "patient 5,"), encoding="utf-8")

    result = train("--manifest", path)

    assert result.returncode == 1
    assert "patient 5 is in two splits" in result.stderr
    assert written(tmp_path) == []


def test_an_image_that_cannot_be_read_is_refused(train: Run, images: Path, tmp_path: Path) -> None:
    (images / "3.png").write_bytes(b"no picture")

    result = train(*lists(images))

    assert result.returncode == 1
    assert "3.png cannot be used" in result.stderr
    assert written(tmp_path) == []


def test_weights_of_another_topology_are_refused(
    train: Run, images: Path, tmp_path: Path, shared_data: Path
) -> None:
    weights = shared_data / "weights/resnet50-imagenet.npz"

    result = train(*lists(images), "--init", weights, "--set", "network.topology=v1")

    assert result.returncode == 1
    assert "are of topology v1.5 (torchvision), the recipe's network is v1 (Keras)" in result.stderr
    assert written(tmp_path) == []


def test_a_folder_that_is_there_is_not_written_over(train: Run, images: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()

    result = train(*lists(images), "--out", tmp_path / "run")

    assert result.returncode == 1
    assert f"go on with --resume {tmp_path / 'run'}" in result.stderr
    assert not any((tmp_path / "run").iterdir())
