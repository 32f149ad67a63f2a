"""`lungnode paper` as a person runs it: three networks, one report."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.command_line import CommandLine, Result
from tests.training_data import SMALL_RECIPE, draw_slices
from trainer.manifest import write_manifest
from trainer.samples import Split

Run = Callable[..., Result]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twenty-four pictures of as many patients, eight of them for the test."""
    samples = draw_slices(tmp_path / "images", 24)
    path = tmp_path / "slices.csv"
    write_manifest([*samples[:16], *(replace(sample, split=Split.TEST) for sample in samples[16:])], path)
    return path


@pytest.fixture
def paper(command_line: CommandLine, tmp_path: Path) -> Run:
    (tmp_path / "recipe.toml").write_text(SMALL_RECIPE, encoding="utf-8")
    out = (f"--recipe={tmp_path / 'recipe.toml'}", f"--out={tmp_path / 'out'}")
    return partial(command_line.run, tmp_path / "data", "paper", *out)


def test_three_networks_are_trained_tested_and_reported_and_a_repeat_only_measures(
    paper: Run, manifest: Path, tmp_path: Path
) -> None:
    asked = (f"--manifest={manifest}", "--json", "--set=googlenet:training.new_statistics=true")

    first = paper(*asked)

    assert first.returncode == 0, first.stderr
    measured = [first.document, *first.document["others"]]
    assert [each["model"].split()[0] for each in measured] == ["resnet50", "vgg16", "googlenet"]
    assert {each["n"] for each in measured} == {8}
    report = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    for shown in ("Table 1", "Table 2", "Table 3", "Figure 5", "Figure 6", "googlenet"):
        assert shown in report
    assert "<td>2 / 0 / 2</td><td>2 / 0 / 2</td>" in report  # the validation split of table 2
    statistics = {
        name: '"new_statistics": true' in (tmp_path / "out" / name / "recipe.json").read_text()
        for name in ("resnet50", "vgg16", "googlenet")
    }
    assert statistics == {"resnet50": False, "vgg16": False, "googlenet": True}

    again = paper(*asked)

    assert again.document == first.document


def test_a_run_of_another_recipe_is_not_taken_up(paper: Run, manifest: Path) -> None:
    asked = (f"--manifest={manifest}", "--network=resnet50")
    assert paper(*asked).returncode == 0

    other = paper(*asked, "--set=training.seed=7")

    assert other.returncode == 1
    assert "is of another recipe or of other slices" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "Name either --manifest or --test-set."),
        (["--network=alexnet", "--test-set=x"], 2, "There is no network 'alexnet'"),
        (["--test-set=x"], 1, "There is no database"),
    ],
)
def test_wrong_use_is_one_sentence_and_writes_nothing(
    paper: Run, tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    result = paper(*arguments)

    assert result.returncode == code
    assert sentence in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_list_without_a_test_is_refused_before_anything_is_trained(paper: Run, tmp_path: Path) -> None:
    path = tmp_path / "slices.csv"
    write_manifest(draw_slices(tmp_path / "images", 16), path)

    result = paper(f"--manifest={path}")

    assert result.returncode == 1
    assert "no positive slice" in result.stderr
    assert not (tmp_path / "out").exists()
