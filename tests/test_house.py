"""The house rules that no linter checks: documents that tell the truth, locks that name nobody."""

import re
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

import daemon
from db.models import (
    AnalysisState,
    CommitmentState,
    ConfirmationState,
    DeliveryState,
    InquiryState,
    StudyState,
    UploadState,
)
from lungnode import cli
from lungnode.settings import Settings
from lungnode.tls import TlsTrouble

ROOT = Path(__file__).resolve().parents[1]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()


def every_setting(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """List (dotted name, description) of every leaf setting; kinds of one table share some."""
    rows: dict[tuple[str, str], None] = {}
    for name, field in model.model_fields.items():
        if field.description is not None:
            rows[prefix + name, field.description] = None
        else:
            parts = list(models_in(field.annotation))
            assert parts, f"{prefix}{name} has no description"
            rows |= dict.fromkeys(row for part in parts for row in every_setting(part, f"{prefix}{name}."))
    return list(rows)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Find the tables that a setting consists of, whatever is around them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


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
        *(f"commitment `{s}`" for s in CommitmentState),
        *(f"question `{s}`" for s in InquiryState),
        *(f"confirmation `{s}`" for s in ConfirmationState),
    ],
)
def test_every_state_is_explained_to_the_operator(state: str) -> None:
    assert f"| {state} |" in OPERATIONS


@pytest.mark.parametrize("state", list(UploadState))
def test_every_state_of_an_upload_is_explained(state: str) -> None:
    assert f"| upload `{state}` |" in (ROOT / "docs/api.md").read_text()


def test_every_command_is_documented() -> None:
    group = typer.main.get_command(cli.build())

    missing = [name for name in group.commands if f"`lungnode {name}`" not in OPERATIONS]  # type: ignore[attr-defined]

    assert not missing


def test_the_top_level_package_daemon_is_ours_alone() -> None:
    # An editable install claims no folder; any other distribution that claims this one has overwritten ours.
    assert set(packages_distributions().get("daemon", [])) <= {"lungnode"}
    assert Path(daemon.__file__).parent == ROOT / "daemon"


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements*.txt")))
def test_a_lock_file_has_hashes_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "--hash=sha256:" in text
    assert not re.search(r"https?://|--index|--find-links", text)


@pytest.mark.parametrize("trouble", TlsTrouble)
def test_every_way_to_fail_at_tls_is_explained_with_what_becomes_of_a_delivery(trouble: TlsTrouble) -> None:
    (row,) = re.findall(rf"^\| {trouble.name} \| .+ \| (.*) ?\|$", SECURITY, re.MULTILINE)

    # A peer that we call always shows a certificate, so one name has no delivery.
    if trouble is not TlsTrouble.TLS_NO_CERTIFICATE:
        assert row.strip() == ("is refused" if trouble.lasts else "is tried again")


def test_the_guide_shows_every_picture_it_has_and_has_every_picture_it_shows() -> None:
    shown = re.findall(r"\]\(guide/(\S+\.png)\)", (ROOT / "docs/guide.md").read_text())

    assert sorted(set(shown)) == sorted(path.name for path in (ROOT / "docs/guide").iterdir())
