"""`lungnode train` with slices that cannot be trained on: one sentence, exit code 1, nothing written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from tests.training_data import draw_slices
from trainer.manifest import write_manifest

Train = Callable[..., str]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twenty-four pictures of as many patients, with splits."""
    path = tmp_path / "slices.csv"
    write_manifest(draw_slices(tmp_path / "images", 24), path)
    return path


@pytest.fixture
def train(tmp_path: Path, command_line: CommandLine) -> Train:
    """Run the command, see that it fails in one sentence and wrote nothing; returns the sentence."""

    def run(*arguments: str | Path) -> str:
        result = command_line.run(tmp_path / "data", "train", *arguments)
        assert result.returncode == 1
        assert not (tmp_path / "data/runs").exists()
        assert result.stderr.startswith("lungnode: ")
        assert result.stderr.count("\n") == 1
        return result.stderr

    return run


def change(manifest: Path, old: str, new: str) -> None:
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))


def test_a_patient_in_two_splits(train: Train, manifest: Path) -> None:
    change(manifest, "patient 7,validation", "patient 1,validation")

    assert "The patient patient 1 is in two splits, with 1.png in train" in train("--manifest", manifest)


def test_an_empty_class(train: Train, manifest: Path) -> None:
    change(manifest, ",positive,", ",negative,")

    assert "The train split has no positive image" in train("--manifest", manifest)


def test_an_image_that_cannot_be_read(train: Train, manifest: Path) -> None:
    (manifest.parent / "images/3.png").write_bytes(b"\x89PNG no picture")

    said = train("--manifest", manifest)

    assert "images/3.png cannot be used: The picture is neither JPEG nor PNG" in said
    assert "Take it off the list" in said


def test_images_that_cannot_be_read_are_left_out_when_asked_for(train: Train, manifest: Path) -> None:
    for picture in (manifest.parent / "images").iterdir():
        picture.write_bytes(b"")

    said = train("--manifest", manifest, "--skip-unreadable")

    assert "The train split has no positive image" in said
    assert "24 were left out; the first," in said


def test_a_line_of_a_manifest_that_cannot_be_used(train: Train, manifest: Path) -> None:
    change(manifest, "images/3.png,positive", "images/3.png,sick")

    assert "line 5: label is 'sick'; it must be positive or negative" in train("--manifest", manifest)


def test_the_same_picture_in_two_splits(train: Train, manifest: Path) -> None:
    images = manifest.parent / "images"
    (images / "7.png").write_bytes((images / "1.png").read_bytes())

    assert "7.png of split validation is the same file as" in train("--manifest", manifest)


def test_a_name_without_an_image(train: Train, tmp_path: Path, manifest: Path) -> None:
    (tmp_path / "p.txt").write_text("1.png\n3.png\nno.png\n")
    (tmp_path / "n.txt").write_text("0.png\n2.png\n")

    lists = ("--positives", tmp_path / "p.txt", "--negatives", tmp_path / "n.txt")
    said = train("--images", manifest.parent / "images", *lists)

    assert "p.txt names no.png in line 3, and there is no such file below" in said


def test_no_archive(train: Train) -> None:
    assert "There is no database" in train()
