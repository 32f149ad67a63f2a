"""The house rules that no linter checks: documents that tell the truth, locks that name nobody."""

import re
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

import daemon
from db.models import AnalysisState, DeliveryState, StudyState
from lungnode import cli
from lungnode.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def every_setting(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """List (dotted name, description) of every leaf setting."""
    rows = []
    for name, field in model.model_fields.items():
        part: Any = getattr(field.annotation, "__args__", (field.annotation,))[0]
        if field.description is not None:
            rows.append((prefix + name, field.description))
        else:
            assert issubclass(part, BaseModel), f"{prefix}{name} has no description"
            rows += every_setting(part, f"{prefix}{name}.")
    return rows


@pytest.mark.parametrize(("name", "description"), every_setting(Settings))
def test_every_setting_is_documented_in_its_own_words(name: str, description: str) -> None:
    assert re.search(
        rf"^\| `{re.escape(name)}` \| .+ \| {re.escape(description)} \|$", OPERATIONS, re.MULTILINE
    )


@pytest.mark.parametrize(
    "state",
    [
        *(f"`{s}`" for s in StudyState),
        *(f"analysis `{s}`" for s in AnalysisState),
        *(f"delivery `{s}`" for s in DeliveryState),
    ],
)
def test_every_state_is_explained_to_the_operator(state: str) -> None:
    assert f"| {state} |" in OPERATIONS


def test_every_command_is_documented() -> None:
    group = typer.main.get_command(cli.build())

    missing = [name for name in group.commands if f"`lungnode {name}`" not in OPERATIONS]  # type: ignore[attr-defined]

    assert not missing


def test_the_top_level_package_daemon_is_ours_alone() -> None:
    # An editable install claims no folder; any other distribution that claims this one has overwritten ours.
    assert set(packages_distributions().get("daemon", [])) <= {"lungnode"}
    assert Path(daemon.__file__).parent == ROOT / "daemon"


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_a_lock_file_has_hashes_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "--hash=sha256:" in text
    assert not re.search(r"https?://|--index|--find-links", text)
