"""Recipes by name or file, with single values set from the command line."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lungnode.errors import UnusableError
from lungnode.recipe import Recipe, problem

FOLDER: Final = Path(__file__).parent
SUFFIX: Final = ".toml"


def recipe_names() -> list[str]:
    """List the recipes that come with the trainer."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe by the name of one of ours or by its TOML file, with some of its values replaced.

    Args:
        name_or_path: A name without a separator or suffix is one of ours.
        overrides: Each as `part.key=value`, the value as in TOML; quotes of text can be left out.

    Raises:
        UnusableError: There is no such recipe, it has an unknown key or an unusable value, or an override
            has.
    """
    path = _path(name_or_path)
    document = _read(path)
    for override in overrides:
        _override(document, override)
    try:
        return Recipe.model_validate(document)
    except ValueError as error:
        what = f"{path} with {' '.join(overrides)}" if overrides else path
        raise UnusableError(f"The recipe {what} cannot be used: {problem(error)}.") from error


def _path(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix == SUFFIX or len(path.parts) > 1:
        return path
    if name_or_path not in recipe_names():
        known = ", ".join(recipe_names())
        raise UnusableError(
            f"There is no recipe {name_or_path!r}; the known ones are {known}, or give a {SUFFIX} file."
        )
    return FOLDER / f"{name_or_path}{SUFFIX}"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableError(f"The recipe {path} cannot be used: {problem(error)}.") from error


def _override(document: dict[str, Any], override: str) -> None:
    """Put one value into the document."""
    key, equals, value = override.partition("=")
    *parts, last = key.strip().split(".")
    if not equals or not last:
        raise UnusableError(f"{override!r} sets nothing: write part.key=value, as in training.epochs=3.")
    for part in parts:
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise UnusableError(f"{override!r} sets nothing: {part} is a value, not a part of the recipe.")
    document[last] = _value(value.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a word or a path without quotes
