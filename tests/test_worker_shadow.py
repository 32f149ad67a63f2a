import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, select

from db.erasure import delete_study
from db.models import AnalysisState, RegisteredModel, ShadowResult, Study
from db.registry import end_shadow
from db.session import transaction
from lungnode.model_folder import MANIFEST_FILE, SHIPPED_MODEL, describe_model
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.settings import AnalysisSettings, Settings
from tests.bench import NOON, Bench
from tests.model_folders import Registry

# The statements behind it are proven on both databases in test_db_registry.
pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
SHIPPED = describe_model(SHIPPED_MODEL)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=14, size=128)


@pytest.fixture
def registry(engine: Engine, tmp_path: Path, study: PhantomStudy) -> Registry:
    registry = Registry(Bench(engine, tmp_path))
    registry.bench.archive(study.paths)
    return registry


@pytest.fixture
def model(registry: Registry) -> RegisteredModel:
    """A model in the shadow that finds nothing where the active one does."""
    model = registry.add(0.9)
    registry.shadow(model)
    return model


def results(registry: Registry) -> list[ShadowResult]:
    with transaction(registry.engine) as session:
        return list(session.scalars(select(ShadowResult)))


def test_the_shadow_judges_after_the_results_are_on_their_way_and_changes_nothing_of_them(
    registry: Registry, model: RegisteredModel
) -> None:
    first = registry.analyst.analyse_most_urgent()
    assert (len(first), results(registry)) == (1, [])
    before, files = registry.bench.row(1), registry.bench.files()

    registry.analyst.judge_in_shadow()

    (found,) = results(registry)
    assert (found.analysis_id, found.model, found.model_digest) == (1, "candidate 0.9", model.digest)
    assert (found.verdict, round(found.probability or 0, 6), found.threshold) == ("negative", 0.75, 0.9)
    assert found.created_at == NOON
    after = registry.bench.row(1)
    assert (after.verdict, after.model_digest, after.state) == ("positive", SHIPPED.digest, "done")
    assert [(d.id, d.state) for d in after.deliveries] == [(d.id, d.state) for d in before.deliveries]
    assert registry.bench.files() == files


def test_both_models_see_the_same_slices_where_their_input_is_the_same(
    registry: Registry, model: RegisteredModel
) -> None:
    registry.analyst.analyse_most_urgent()
    shutil.rmtree(registry.bench.folder / "archive")  # nothing is read or decoded again

    registry.analyst.judge_in_shadow()

    active, shadow = (np.concatenate(registry.loaded[d].seen) for d in (SHIPPED.digest, model.digest))
    assert np.array_equal(active, shadow)


def test_a_shadow_with_another_input_has_its_own(registry: Registry) -> None:
    model = registry.add(0.9, size=64)
    registry.shadow(model)

    registry.analyst.analyse_most_urgent()
    registry.analyst.judge_in_shadow()

    assert len(results(registry)) == 1
    assert {slices.shape[1:] for slices in registry.loaded[model.digest].seen} == {(64, 64)}


def test_without_a_shadow_nothing_is_judged(registry: Registry, model: RegisteredModel) -> None:
    with transaction(registry.engine) as session:
        end_shadow(session, NOON)

    registry.analyst.analyse_most_urgent()
    registry.analyst.judge_in_shadow()

    assert results(registry) == []
    assert model.digest not in registry.loaded


def test_a_study_is_judged_once(registry: Registry, model: RegisteredModel) -> None:
    registry.analyst.analyse_most_urgent()
    registry.analyst.judge_in_shadow()
    registry.analyst.judge_in_shadow()

    assert [result.model_digest for result in results(registry)] == [model.digest]


def test_a_shadow_that_fails_is_recorded_and_harms_nobody(
    registry: Registry, model: RegisteredModel, caplog: pytest.LogCaptureFixture
) -> None:
    registry.errors[model.digest] = RuntimeError("Doe^John")

    registry.analyst.analyse_most_urgent()
    registry.analyst.judge_in_shadow()

    (found,) = results(registry)
    assert (found.verdict, found.probability, found.reason) == ("error", None, "RuntimeError, Doe^John")
    assert registry.bench.row(1).state == AnalysisState.DONE
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["shadow of analysis 1 failed with RuntimeError"]


def test_a_shadow_that_is_too_slow_for_the_hard_limit_is_ended_and_recorded(
    engine: Engine, tmp_path: Path, study: PhantomStudy
) -> None:
    registry = Hurried(Bench(engine, tmp_path))
    registry.bench.archive(study.paths)
    registry.shadow(registry.add(0.9))

    registry.analyst.analyse_most_urgent()
    registry.analyst.judge_in_shadow()

    (found,) = results(registry)
    assert found.reason == "TimeoutError, analysis.hard_limit_s leaves no more time"
    assert registry.bench.row(1).state == AnalysisState.DONE


class Hurried(Registry):
    """A node that gives an analysis no time."""

    @property
    def settings(self) -> Settings:
        """What the node is set to."""
        return Settings(data=self.bench.folder, analysis=AnalysisSettings(hard_limit_s=1e-6))


def test_a_shadow_whose_folder_is_broken_is_logged_and_left_out(
    registry: Registry, model: RegisteredModel, caplog: pytest.LogCaptureFixture
) -> None:
    (registry.settings.models / model.path / MANIFEST_FILE).unlink()

    registry.analyst.analyse_most_urgent()
    registry.analyst.judge_in_shadow()

    assert (results(registry), registry.bench.row(1).state) == ([], AnalysisState.DONE)
    assert "the shadow model cannot be used" in caplog.text


def test_a_stopping_worker_leaves_the_shadow_off(registry: Registry, model: RegisteredModel) -> None:
    registry.analyst.analyse_most_urgent()
    registry.bench.stopping = True

    registry.analyst.judge_in_shadow()

    assert results(registry) == []
    assert len(registry.loaded[model.digest].seen) == 1  # it stops between two batches


def test_a_study_that_is_no_chest_has_no_shadow(engine: Engine, tmp_path: Path, study: PhantomStudy) -> None:
    registry = Registry(Bench(engine, tmp_path))
    registry.bench.archive(study.paths[:3])
    registry.shadow(registry.add(0.9))

    registry.analyst.analyse_most_urgent()
    registry.analyst.judge_in_shadow()

    assert (registry.bench.row(1).state, results(registry)) == (AnalysisState.NOT_APPLICABLE, [])


def test_a_study_that_is_deleted_meanwhile_leaves_no_result(
    registry: Registry, model: RegisteredModel, caplog: pytest.LogCaptureFixture
) -> None:
    registry.analyst.analyse_most_urgent()
    with transaction(registry.engine) as session:
        delete_study(session, session.scalars(select(Study)).one(), NOON)

    registry.analyst.judge_in_shadow()

    assert registry.loaded[model.digest].seen
    assert (results(registry), caplog.text.count("ERROR")) == ([], 0)


def test_deleting_a_study_deletes_what_the_shadow_said(registry: Registry, model: RegisteredModel) -> None:
    registry.analyst.analyse_most_urgent()
    registry.analyst.judge_in_shadow()
    assert [result.model_digest for result in results(registry)] == [model.digest]

    with transaction(registry.engine) as session:
        delete_study(session, session.scalars(select(Study)).one(), NOON)

    assert results(registry) == []
