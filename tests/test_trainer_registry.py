from pathlib import Path

import pytest

from lungnode.errors import UnavailableError, UnusableError
from lungnode.model_folder import SHIPPED_MODEL, describe_model
from tests.model_folders import variant
from trainer.registry import candidate_folder, keep_model


def test_a_kept_model_is_the_whole_folder_under_its_name_and_version(tmp_path: Path) -> None:
    info = variant(tmp_path / "new", 0.4)

    kept, path = keep_model(tmp_path / "new", tmp_path / "models")

    assert (kept, path) == (info, "candidate-2")
    files = {file.name: file.read_bytes() for file in (tmp_path / "models/candidate-2").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()}
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["candidate-2"]


def test_keeping_it_again_changes_nothing(tmp_path: Path) -> None:
    first = keep_model(SHIPPED_MODEL, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    assert keep_model(SHIPPED_MODEL, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    variant(tmp_path / "one", 0.4)
    variant(tmp_path / "two", 0.6)
    keep_model(tmp_path / "one", tmp_path / "models")

    with pytest.raises(UnusableError, match="give the new one another version"):
        keep_model(tmp_path / "two", tmp_path / "models")
    assert describe_model(tmp_path / "models/candidate-2").threshold == 0.4


@pytest.mark.parametrize("name", ["../outside", "", ".hidden", "two words"])
def test_a_name_that_leaves_the_models_is_refused(tmp_path: Path, name: str) -> None:
    variant(tmp_path / "new", 0.4, name=name)

    with pytest.raises(UnusableError, match="cannot name a folder"):
        keep_model(tmp_path / "new", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_folder_that_is_no_model_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(UnusableError, match=r"recipe.json cannot be used"):
        keep_model(tmp_path / "empty", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_models_that_cannot_be_written_are_told_and_nothing_is_half_there(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file is in the way")

    with pytest.raises(UnavailableError, match="cannot be kept in"):
        keep_model(SHIPPED_MODEL, tmp_path / "models")


def test_the_candidate_of_a_run_folder_is_its_model(tmp_path: Path) -> None:
    (tmp_path / "run/model").mkdir(parents=True)

    assert candidate_folder(tmp_path / "run") == tmp_path / "run/model"
    assert candidate_folder(tmp_path / "run/model") == tmp_path / "run/model"
