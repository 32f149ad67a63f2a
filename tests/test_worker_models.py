import logging
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from db.models import Analysis, AnalysisState, Study
from db.registry import roll_back
from db.session import transaction
from lungnode.errors import UnavailableError
from lungnode.model_folder import MANIFEST_FILE, SHIPPED_MODEL, describe_model
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.settings import AnalysisSettings, Settings
from tests.bench import NOON, Bench
from tests.model_folders import Registry, variant

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


def queue_again(registry: Registry) -> int:
    """Queue the study's next revision: the same slices."""
    with transaction(registry.engine) as session:
        study = session.scalars(select(Study)).one()
        row = Analysis(study=study, revision=len(study.analyses) + 1, created_at=NOON, due_at=NOON)
        session.add(row)
        session.flush()
        return row.id


def analysed(registry: Registry, row_id: int) -> Analysis:
    registry.analyst.analyse_most_urgent()
    return registry.bench.row(row_id)


def device_uid(registry: Registry, row_id: int, group: str = "sr") -> str:
    report = registry.bench.output(row_id, group)
    return str(report.ContributingEquipmentSequence[0].DeviceUID)


def test_a_promoted_model_analyses_the_next_study_and_a_rollback_the_one_after(registry: Registry) -> None:
    model = registry.add(0.9)
    before = analysed(registry, 1)

    registry.promote(model)
    promoted = analysed(registry, queue_again(registry))
    with transaction(registry.engine) as session:
        roll_back(session, NOON)
    back = analysed(registry, queue_again(registry))

    assert [row.model_digest for row in (before, promoted, back)] == [
        SHIPPED.digest,
        model.digest,
        SHIPPED.digest,
    ]
    assert (promoted.model, promoted.threshold, promoted.verdict) == ("candidate 0.9", 0.9, "negative")
    first, second, third = (device_uid(registry, row.id) for row in (before, promoted, back))
    assert first == third != second
    assert {device_uid(registry, promoted.id, group) for group in ("sr-enh", "sc")} == {second}


def test_a_model_that_is_promoted_during_an_analysis_has_no_part_in_it(registry: Registry) -> None:
    model = registry.add(0.9)
    registry.analyst.warm_up()
    toy = registry.loaded[SHIPPED.digest]

    def promote_once() -> None:
        toy.before_predict = lambda: None
        registry.promote(model)

    toy.before_predict = promote_once
    row = analysed(registry, 1)

    assert (row.model_digest, row.threshold) == (SHIPPED.digest, SHIPPED.threshold)
    (equipment,) = registry.bench.output(1, "sr").ContributingEquipmentSequence
    assert equipment.DeviceSerialNumber == SHIPPED.digest
    assert len(toy.seen) > 1
    assert analysed(registry, queue_again(registry)).model_digest == model.digest


def test_a_model_is_loaded_once_for_all_studies(registry: Registry) -> None:
    analysed(registry, 1)
    first = registry.loaded[SHIPPED.digest]
    analysed(registry, queue_again(registry))

    assert registry.loaded[SHIPPED.digest] is first


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_broken_model_is_logged_once_and_the_one_before_stays_until_it_is_mended(
    registry: Registry, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    model = registry.add(0.9)
    analysed(registry, 1)
    manifest = registry.settings.models / model.path / MANIFEST_FILE
    content = manifest.read_bytes()
    manifest.unlink() if damage == "gone" else manifest.write_bytes(content + b"\n")
    registry.promote(model)

    rows = [analysed(registry, queue_again(registry)) for _ in range(2)]
    assert {row.model_digest for row in rows} == {SHIPPED.digest}
    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "the active model cannot be used" in error
    assert f"{SHIPPED.name} {SHIPPED.version} ({SHIPPED.digest[:12]}) stays in use" in error

    manifest.write_bytes(content)
    assert analysed(registry, queue_again(registry)).model_digest == SHIPPED.digest  # not tried again yet
    registry.bench.now = NOON + timedelta(minutes=1)
    assert analysed(registry, queue_again(registry)).model_digest == model.digest


def test_a_worker_that_starts_with_a_broken_model_leaves_studies_queued_until_a_rollback(
    registry: Registry,
) -> None:
    model = registry.add(0.9)
    registry.promote(model)
    (registry.settings.models / model.path / MANIFEST_FILE).unlink()

    with pytest.raises(UnavailableError, match=r"The active model in .* cannot be used"):
        registry.analyst.analyse_most_urgent()
    assert (registry.bench.row(1).state, registry.bench.row(1).attempts) == (AnalysisState.QUEUED, 0)

    with transaction(registry.engine) as session:
        roll_back(session, NOON)
    assert analysed(registry, 1).model_digest == SHIPPED.digest


class Pinned(Registry):
    """A node whose settings name a model."""

    @property
    def settings(self) -> Settings:
        """What the node is set to."""
        return Settings(data=self.bench.folder, analysis=AnalysisSettings(model=self.bench.folder / "pinned"))


def test_the_setting_pins_a_model_whatever_is_promoted(
    engine: Engine, tmp_path: Path, study: PhantomStudy
) -> None:
    info = variant(tmp_path / "pinned", 0.2)
    registry = Pinned(Bench(engine, tmp_path))
    registry.bench.archive(study.paths)
    registry.promote(registry.add(0.9))

    assert analysed(registry, 1).model_digest == info.digest
