"""What must hold before a comparison counts: the test set is the one it was, and nobody trained on it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lungnode.errors import UnusableError
from lungnode.model_folder import MANIFEST_FILE, METRICS_FILE, describe_model, read_manifest, read_metrics
from trainer.manifest import read_manifest as read_samples
from trainer.registry import RUN_MODEL, RUN_SAMPLES
from trainer.samples import Sample, Split
from trainer.splits import check_disjoint


@dataclass(frozen=True)
class TestData:
    """What models are compared on."""

    __test__ = False  # pytest, it is no test

    digest: str  # SHA-256 of a frozen set, or of the slices and labels of a list
    name: str = ""  # of a frozen set


def check_same_test_set(data: TestData, stored: Iterable[Mapping[str, Any]], model: str) -> None:
    """See that a frozen set is the one that a model was measured on before.

    Args:
        data: What is measured on now.
        stored: Earlier measurements of the model, each with `data`: {"digest", "test_set"}.
        model: What the model is called.

    Raises:
        UnusableError: A set of the same name had another digest.
    """
    for found in stored:
        before: Mapping[str, Any] = found.get("data") or {}
        if data.name and before.get("test_set") == data.name and before.get("digest") != data.digest:
            raise UnusableError(
                f"The test set {data.name} is not the one that {model} was measured on: its digest is "
                f"{data.digest[:12]}, then it was {str(before.get('digest'))[:12]}."
            )


def check_own_test_split(data: TestData, folder: Path) -> None:
    """See that a list's test split is the one that was set aside when the model was trained.

    Raises:
        UnusableError: The model had another test split.
    """
    own = read_manifest(folder).data.get(Split.TEST)
    if own and not data.name and own != data.digest:
        raise UnusableError(
            f"The test split is not the one that was set aside for {folder}: its digest is "
            f"{data.digest[:12]}, then it was {own[:12]}."
        )


def stored_evaluations(folder: Path) -> list[Mapping[str, Any]]:
    """Return what a model was measured with after its training; nothing where that was not kept."""
    if not (folder / METRICS_FILE).exists():
        return []
    evaluations: Mapping[str, Any] = read_metrics(folder).get("evaluations", {})
    return list(evaluations.values())


def find_samples(candidate: Path, runs: Path) -> Path | None:
    """Return the list of what a model was trained on: of the run around it, or of one of `runs`."""
    for folder in (candidate.parent, *sorted(runs.glob("*/"))):
        model = folder / RUN_MODEL
        listed = (folder / RUN_SAMPLES).exists() and (model / MANIFEST_FILE).exists()
        if listed and describe_model(model).digest == describe_model(candidate).digest:
            return folder / RUN_SAMPLES
    return None


def check_unseen(trained: Path, tested: Sequence[Sample]) -> None:
    """See that no patient, study or file of the test was trained on, or chosen by.

    Raises:
        UnusableError: One was; the sentence names it.
    """
    used = [sample for sample in read_samples(trained) if sample.split is not Split.TEST]
    try:
        check_disjoint([*used, *(replace(sample, split=Split.TEST) for sample in tested)])
    except UnusableError as error:
        raise UnusableError(f"The candidate was trained on what it is tested with. {error}") from error
