"""`lungnode models` as a person runs it; the models are small networks that see bright patches, or do not."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from db.models import AuditEvent, RegisteredModel
from db.session import open_engine, transaction, upgrade
from lungnode.model_folder import SHIPPED_MODEL, WEIGHTS_FILE, describe_model, read_manifest, save_manifest
from lungnode.runtime import load_tensorflow
from lungnode.settings import Settings
from tests.command_line import CommandLine, Result
from tests.model_folders import small_model, variant
from tests.nodes import command, variables
from tests.training_data import draw_slices
from trainer.manifest import write_manifest
from trainer.samples import Sample, Split

SHIPPED = describe_model(SHIPPED_MODEL)


@dataclass(frozen=True)
class Models:
    """Folders of models, and slices to compare them on."""

    sees: Path
    sees_too: Path  # the same network with another threshold
    opposite: Path  # ranks sick slices below healthy ones
    slices: list[Sample]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    load_tensorflow()
    folder = tmp_path_factory.mktemp("models")
    small_model(folder / "sees", "1")
    small_model(folder / "opposite", "2", opposite=True)
    shutil.copytree(folder / "sees", folder / "sees too")
    manifest = read_manifest(folder / "sees too")
    decision = manifest.decision.model_copy(update={"threshold": 0.51})
    save_manifest(manifest.model_copy(update={"version": "3", "decision": decision}), folder / "sees too")
    slices = draw_slices(folder / "images", 40)
    return Models(folder / "sees", folder / "sees too", folder / "opposite", slices)


@dataclass(frozen=True)
class Node:
    """A node that was started once."""

    settings: Settings
    lungnode: Callable[..., Result]

    def states(self) -> dict[str, str]:
        """State of each model by its version."""
        listed = self.lungnode("list", "--json").document["models"]
        return {model["version"]: model["state"] for model in listed}

    def in_use(self) -> str:
        """Version of the model in use."""
        (version,) = (
            model["version"]
            for model in self.lungnode("list", "--json").document["models"]
            if model["active"]
        )
        return str(version)

    def events(self) -> list[AuditEvent]:
        """What was done."""
        with transaction(open_engine(self.settings.database)) as session:
            return list(session.scalars(select(AuditEvent).order_by(AuditEvent.id)))


@pytest.fixture
def node(command_line: CommandLine, tmp_path: Path) -> Node:
    settings = Settings(data=tmp_path / "data")
    upgrade(open_engine(settings.database))
    return Node(settings, partial(command_line.run, settings.data, "models"))


@pytest.fixture
def started(node: Node, models: Models) -> Node:
    """A node whose active model sees."""
    done = node.lungnode("promote", models.sees, "--force", "--reason", "the first one")
    assert done.returncode == 0, done.stderr
    return node


def lists(models: Models, folder: Path, *, patients: int = 0) -> list[str]:
    """Name the slices in two lists; with `patients`, so many of them share them."""
    folder.mkdir(parents=True, exist_ok=True)
    for word, positive in (("positives", True), ("negatives", False)):
        names = [sample.path.name for sample in models.slices if sample.positive is positive]
        (folder / word).write_text("\n".join(names))
    rows = [f"{sample.path.name},p{i % patients}" for i, sample in enumerate(models.slices) if patients]
    (folder / "patients.csv").write_text("\n".join(["file,patient", *rows]))
    named = [f"--images={models.slices[0].path.parent}", f"--positives={folder / 'positives'}"]
    named.append(f"--negatives={folder / 'negatives'}")
    return [*named, f"--patients={folder / 'patients.csv'}"] if patients else named


def test_a_model_that_is_not_worse_is_promoted_and_its_comparison_stored(
    started: Node, models: Models, tmp_path: Path
) -> None:
    done = started.lungnode("promote", models.sees_too, *lists(models, tmp_path))

    assert done.returncode == 0, done.stderr
    assert "small 1" in done.stdout
    assert "DeLong" in done.stdout
    assert "Model small 3 is active" in done.stdout
    assert (started.in_use(), started.states()["1"]) == ("3", "retired")
    with transaction(open_engine(started.settings.database)) as session:
        row = session.scalars(select(RegisteredModel).where(RegisteredModel.version == "3")).one()
    assert row.comparison["auc"]["value"] == 0
    assert (row.comparison["n"], row.comparison["level"]) == (40, "slices")
    assert started.events()[-1].details["comparison"] == row.comparison
    kept = started.settings.models / row.path / WEIGHTS_FILE
    assert kept.read_bytes() == (models.sees_too / WEIGHTS_FILE).read_bytes()


def test_a_worse_model_is_refused_and_promoted_by_force_with_a_reason(
    started: Node, models: Models, tmp_path: Path
) -> None:
    named = lists(models, tmp_path)
    before = started.states()

    refused = started.lungnode("promote", models.opposite, *named, "--json")
    assert refused.returncode == 1
    assert "small 2 is not promoted: Its AUC is significantly lower" in refused.stderr
    assert (refused.document["promoted"], started.states()) == (False, before)
    assert refused.document["auc"]["p"] < 0.05

    forced = started.lungnode("promote", models.opposite, *named, "--force", "--reason", "a trial", "--json")
    assert forced.returncode == 0
    assert (started.in_use(), forced.document["forced"]) == ("2", True)
    last = started.events()[-1]
    assert (last.action, last.details["reason"]) == ("model promoted", "a trial")
    assert last.details["comparison"]["objections"] == refused.document["objections"]


def test_slices_of_shared_patients_are_compared_by_a_bootstrap(
    started: Node, models: Models, tmp_path: Path
) -> None:
    done = started.lungnode("compare", models.opposite, *lists(models, tmp_path, patients=10), "--json")

    assert (done.document["groups"], done.document["auc"]["method"]) == (10, "bootstrap over patients")
    assert started.in_use() == "1"


def test_without_a_test_set_nothing_is_promoted(started: Node, models: Models) -> None:
    refused = started.lungnode("promote", models.sees_too)
    alone = started.lungnode("promote", models.sees_too, "--force")

    assert refused.returncode == 1
    assert "No test set was named, so nothing was compared." in refused.stderr
    assert (alone.returncode, started.in_use()) == (2, "1")
    assert "--reason" in alone.stderr


def test_a_model_that_does_not_fit_its_network_is_not_even_forced(
    started: Node, models: Models, tmp_path: Path
) -> None:
    shutil.copytree(models.sees, tmp_path / "broken")
    shutil.copy(SHIPPED_MODEL / WEIGHTS_FILE, tmp_path / "broken")

    done = started.lungnode("promote", tmp_path / "broken", "--force", "--reason", "whatever")

    assert (done.returncode, started.in_use()) == (1, "1")
    assert "do not fit the network" in done.stderr


def test_rolling_back_ends_at_the_model_that_was_there_first(started: Node, models: Models) -> None:
    started.lungnode("promote", models.sees_too, "--force", "--reason", "the second one")

    first, second, third = (started.lungnode("rollback") for _ in range(3))

    assert "Model small 1" in first.stdout
    assert f"Model {SHIPPED.name} {SHIPPED.version}" in second.stdout
    assert (third.returncode, started.in_use()) == (1, SHIPPED.version)
    assert (
        third.stderr
        == f"lungnode: Model {SHIPPED.name}-{SHIPPED.version} has no predecessor to roll back to.\n"
    )


def test_a_rollback_to_a_broken_folder_is_refused(started: Node) -> None:
    kept = started.settings.models / f"{SHIPPED.name}-{SHIPPED.version}"
    (kept / WEIGHTS_FILE).write_bytes(b"damaged")

    done = started.lungnode("rollback")

    assert (done.returncode, started.in_use()) == (1, "1")
    assert "is not the registered one" in done.stderr


def test_a_pinned_model_stops_promotion_and_rollback_with_the_settings_name(
    node: Node, models: Models
) -> None:
    pinned = variables({"LUNGNODE_ANALYSIS__MODEL": str(models.sees)})

    for asked in (("promote", str(models.sees_too), "--force", "--reason", "x"), ("rollback",)):
        words = command(node.settings.data, "models", *asked)
        done = subprocess.run(words, env=pinned, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(f"lungnode: The setting analysis.model pins the model in {models.sees}")


def test_a_list_that_the_candidate_did_not_set_aside_is_refused(
    started: Node, models: Models, tmp_path: Path
) -> None:
    write_manifest([s for s in half_for_the_test(models) if s.split is Split.TEST], tmp_path / "list.csv")
    shutil.copytree(models.sees_too, tmp_path / "candidate")
    manifest = read_manifest(tmp_path / "candidate")
    save_manifest(manifest.model_copy(update={"data": {"test": "ab" * 32}}), tmp_path / "candidate")

    done = started.lungnode("promote", tmp_path / "candidate", f"--manifest={tmp_path / 'list.csv'}")

    assert (done.returncode, started.in_use()) == (1, "1")
    assert "The test split is not the one that was set aside" in done.stderr


def half_for_the_test(models: Models) -> list[Sample]:
    """The slices, the first half of them for the test."""
    half = len(models.slices) // 2
    splits = [Split.TEST] * half + [Split.TRAIN] * half
    return [
        Sample(s.source, s.path, s.positive, s.group, split)
        for s, split in zip(models.slices, splits, strict=True)
    ]


@pytest.mark.parametrize("where", ["run", "runs"])
def test_a_test_with_patients_that_were_trained_on_is_refused(
    started: Node, models: Models, tmp_path: Path, where: str
) -> None:
    run = tmp_path / "run" if where == "run" else started.settings.data / "runs/mine"
    shutil.copytree(models.sees_too, run / "model")
    write_manifest(
        [Sample("other", s.path, s.positive, s.group, Split.TRAIN) for s in models.slices],
        run / "samples.csv",
    )
    write_manifest(half_for_the_test(models), tmp_path / "list.csv")
    candidate = run if where == "run" else models.sees_too

    done = started.lungnode("promote", candidate, f"--manifest={tmp_path / 'list.csv'}")

    assert (done.returncode, started.in_use()) == (1, "1")
    assert "The candidate was trained on what it is tested with. The patient patient 0" in done.stderr


def test_a_shadow_is_named_reported_and_ended(started: Node, models: Models) -> None:
    on = started.lungnode("shadow", models.sees_too)
    told, report = started.lungnode("shadow"), started.lungnode("shadow", "--report", "--json")
    off = started.lungnode("shadow", "--off")

    assert "small 3" in on.stdout
    assert "small 3" in told.stdout
    assert (report.document["n"], report.document["shadow"]["version"]) == (0, "3")
    assert "left the shadow" in off.stdout
    assert started.lungnode("shadow").stdout == "No model is in the shadow.\n"
    assert started.lungnode("shadow", "small-3", "--off").returncode == 2


def test_every_change_is_one_json_document(started: Node, tmp_path: Path) -> None:
    variant(tmp_path / "new", 0.4)

    added = started.lungnode("register", tmp_path / "new", "--json").document["registered"]
    on = started.lungnode("shadow", "shipped", "--json").document["shadow"]
    off = started.lungnode("shadow", "--off", "--json").document["left"]
    shown = started.lungnode("show", "shipped", "--json").document
    back = started.lungnode("rollback", "--json").document

    assert shown["digest"] == SHIPPED.digest
    assert (added["name"], added["state"]) == ("candidate", "candidate")
    assert (on["name"], on["state"]) == (SHIPPED.name, "shadow")
    assert off["digest"] == SHIPPED.digest
    assert started.lungnode("shadow", "--json").document == {"shadow": None}
    assert (back["active"]["digest"], back["instead_of"]["version"]) == (SHIPPED.digest, "1")


def test_the_model_in_use_cannot_be_its_own_shadow(started: Node, models: Models) -> None:
    done = started.lungnode("shadow", models.sees)

    assert done.returncode == 1
    assert "is in use; its shadow would say the same" in done.stderr


def test_a_registered_model_is_a_candidate_and_shown_by_name(node: Node, tmp_path: Path) -> None:
    info = variant(tmp_path / "new", 0.4)

    done = node.lungnode("register", tmp_path / "new")

    assert f"Model candidate 2 ({info.digest[:12]}) is registered as a candidate." in done.stdout
    assert (node.in_use(), node.states()["2"]) == (SHIPPED.version, "candidate")
    shown = node.lungnode("show", "candidate", "--json").document
    assert (shown["digest"], shown["threshold"]) == (info.digest, 0.4)


def test_before_a_node_was_started_its_models_are_the_shipped_one_alone(
    command_line: CommandLine, tmp_path: Path
) -> None:
    listed = json.loads(command_line.run(tmp_path / "none", "models", "list", "--json").stdout)
    done = command_line.run(tmp_path / "none", "models", "rollback")

    assert [model["digest"] for model in listed["models"]] == [SHIPPED.digest]
    assert not (tmp_path / "none").exists()
    assert "There is no database" in done.stderr


def test_classify_and_evaluate_use_the_model_in_use(
    started: Node, command_line: CommandLine, models: Models, tmp_path: Path
) -> None:
    digest = describe_model(models.sees).digest

    classified = command_line.run(started.settings.data, "classify", models.slices[0].path, "--json")
    evaluated = command_line.run(started.settings.data, "evaluate", *lists(models, tmp_path), "--json")

    assert digest in classified.document["model"]
    assert digest in evaluated.document["model"]
