"""Recipes by name and file, and values set one by one."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from lungnode.errors import UnusableError
from lungnode.recipe import Recipe
from trainer.recipes import load_recipe, recipe_names

RECIPES = Path(__file__).parents[1] / "trainer/recipes"


def every_key(model: type[BaseModel]) -> set[str]:
    """List the dotted keys of all values of a recipe."""
    keys = set()
    for name, field in model.model_fields.items():
        part: Any = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            keys |= {f"{name}.{key}" for key in every_key(part)}
        else:
            keys.add(name)
    return keys


def test_the_recipes_are_known_by_name() -> None:
    assert recipe_names() == ["best", "paper"]
    assert [load_recipe(name).name for name in recipe_names()] == recipe_names()


@pytest.mark.parametrize("name", ["best", "paper"])
def test_a_recipe_of_ours_writes_every_number_out(name: str) -> None:
    document = tomllib.loads((RECIPES / f"{name}.toml").read_text())
    parts = {key: value for key, value in document.items() if isinstance(value, dict)}
    written = {f"{part}.{key}" for part, values in parts.items() for key in values}

    assert written | (document.keys() - parts.keys()) == every_key(Recipe)


def test_every_number_of_the_papers_recipe_says_where_it_comes_from() -> None:
    values = re.findall(r"^(?!name)\w+ = .+$", (RECIPES / "paper.toml").read_text(), re.MULTILINE)

    assert [line for line in values if "#" not in line] in ([], ["seed = 0"])


def test_what_the_paper_states_is_what_its_recipe_says() -> None:
    recipe = load_recipe("paper")

    assert (recipe.network.backbone, recipe.network.topology, recipe.network.init) == (
        "resnet50",
        "v1",
        "imagenet",
    )
    assert (recipe.input.size, recipe.input.crop, recipe.training.augmentation) == (299, "paper", False)
    assert (recipe.data.positive_slices, recipe.data.negative_slices) == (6, 12)
    assert (recipe.training.optimizer, recipe.training.learning_rate) == ("sgd", 0.001)
    assert recipe.training.epochs == 50
    assert recipe == Recipe(name="paper")


def test_values_are_set_as_in_toml_and_words_need_no_quotes(tmp_path: Path) -> None:
    weights = tmp_path / "a b.npz"

    recipe = load_recipe(
        "paper",
        [
            "training.epochs=3",
            "training.learning_rate = 1e-2",
            "network.stages=[2, 3]",
            f"network.init={weights}",
            'network.topology="v1.5"',
            "training.augmentation=true",
            "data.source_weights.luna16=3",
        ],
    )

    assert (recipe.training.epochs, recipe.training.learning_rate, recipe.training.augmentation) == (
        3,
        0.01,
        True,
    )
    assert (recipe.network.stages, recipe.network.topology, recipe.network.init) == (
        (2, 3),
        "v1.5",
        str(weights),
    )
    assert dict(recipe.data.source_weights) == {"luna16": 3.0}


def test_a_file_is_a_recipe_whose_missing_values_are_the_papers(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\n[training]\nepochs = 7\n')

    recipe = load_recipe(str(tmp_path / "mine.toml"))

    assert (recipe.name, recipe.training.epochs) == ("mine", 7)
    assert recipe.input == load_recipe("paper").input


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.colour=1", r"there is no key training\.colour\."),
        ("colour=1", r"there is no key colour\."),
        ("training.epochs=no", r"training\.epochs: .* valid integer.* \(got 'no'\)\."),
        ("input.window_center=40", r"input\.window_center: .* \(got 40\)\."),
        ("training.optimizer=exact", r"an exact head needs network\.frozen to be the last"),
        ("network.lesion_cells=5", r"lesion_cells needs data\.painted"),
        ("training.epochs=0", r"training\.epochs: .* greater than or equal to 1 \(got 0\)\."),
        ("input.size=8", r"input\.size: .* greater than or equal to 32 \(got 8\)\."),
        ("data.positive_slices=0", r"data\.positive_slices: .* greater than or equal to 1 \(got 0\)\."),
        ("training.seed=-1", r"training\.seed: .* greater than or equal to 0 \(got -1\)\."),
        ("network.backbone=alexnet", r"network\.backbone: .*'vgg16'.* \(got 'alexnet'\)\."),
        ("network.stages=[3, 2]", r"network: .*stages are one or more of 1, 2, 3 and 4, ascending"),
        ("network.frozen=5", r"network\.frozen: .* less than or equal to 4 \(got 5\)\."),
        ("training=3", r"training: .*valid dictionary"),
        ("training.epochs", r"'training\.epochs' sets nothing: write part\.key=value"),
        ("=3", r"'=3' sets nothing: write part\.key=value"),
        ("name.epochs=3", r"'name\.epochs=3' sets nothing: name is a value"),
    ],
)
def test_a_value_that_cannot_be_set_is_refused_in_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UnusableError, match=sentence) as caught:
        load_recipe("paper", [override])

    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(UnusableError, match=r"no recipe 'papr'; the known ones are best, paper"):
        load_recipe("papr")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('name = "x"\n[trainig]\nepochs = 3\n', "there is no key trainig"),
        ("[training]\nepochs = 3\n", "name: Field required"),
        ("epochs: 3\n", "Expected '='"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "mine.toml").write_text(text)

    with pytest.raises(UnusableError, match=rf"mine\.toml.* cannot be used: {sentence}"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"mine\.toml cannot be used: No such file"):
        load_recipe(str(tmp_path / "mine.toml"))
