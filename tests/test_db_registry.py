from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError

from db.models import AuditEvent, ModelState, RegisteredModel
from db.registry import (
    Promotion,
    active_model,
    end_shadow,
    find_model,
    model_in_use,
    promote,
    register,
    roll_back,
    shadow_model,
    start_shadow,
)
from db.session import transaction
from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, Decision, ModelInfo
from lungnode.recipe import Recipe
from lungnode.settings import AnalysisSettings, Settings

NOON = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)


def info(letter: str) -> ModelInfo:
    return ModelInfo("lungs", letter, letter * 64, Recipe(name="toy"), Decision())


@pytest.fixture
def models(engine: Engine) -> Engine:
    """Models a, b, c and d; none is active."""
    with transaction(engine) as session:
        for letter in "abcd":
            register(session, info(letter), f"lungs-{letter}", NOON)
    return engine


def change(engine: Engine, letter: str, over: str, why: Promotion | None = None) -> None:
    with transaction(engine) as session:
        model, before = find_model(session, f"lungs-{letter}"), find_model(session, f"lungs-{over}")
        promote(session, model, before, why or Promotion(), NOON)


def back(engine: Engine) -> str:
    with transaction(engine) as session:
        return roll_back(session, NOON)[1].version


def states(engine: Engine) -> dict[str, str]:
    with transaction(engine) as session:
        return {row.version: row.state for row in session.scalars(select(RegisteredModel))}


def actions(engine: Engine) -> list[tuple[str, str]]:
    with transaction(engine) as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id))
        return [(event.action, event.subject[0]) for event in events]


def test_a_promoted_model_is_active_and_the_one_before_is_retired(models: Engine) -> None:
    change(models, "b", over="a")
    change(models, "c", over="b")

    assert states(models) == {"a": "retired", "b": "retired", "c": "active", "d": "candidate"}


def test_rolling_back_goes_from_predecessor_to_predecessor_until_there_is_none(models: Engine) -> None:
    change(models, "b", over="a")
    change(models, "c", over="b")

    assert (back(models), back(models)) == ("b", "a")
    with pytest.raises(UnusableError, match="lungs-a has no predecessor"):
        back(models)
    assert states(models)["a"] == "active"


def test_an_older_model_that_is_promoted_again_does_not_make_a_circle(models: Engine) -> None:
    change(models, "b", over="a")
    change(models, "a", over="b")

    assert (back(models), back(models)) == ("b", "a")
    with pytest.raises(UnusableError, match="no predecessor"):
        back(models)


def test_without_a_promoted_model_there_is_nothing_to_roll_back(models: Engine) -> None:
    with pytest.raises(UnusableError, match="nothing to roll back"):
        back(models)


def test_a_model_that_is_active_is_not_promoted_again(models: Engine) -> None:
    change(models, "b", over="a")

    with pytest.raises(UnusableError, match="lungs-b is active already"):
        change(models, "b", over="b")


def test_a_promotion_that_was_compared_with_another_model_than_the_active_one_is_refused(
    models: Engine,
) -> None:
    change(models, "b", over="a")

    with pytest.raises(UnusableError, match="since the comparison"):
        change(models, "c", over="a")
    assert states(models) == {"a": "retired", "b": "active", "c": "candidate", "d": "candidate"}


@pytest.mark.parametrize("first", [None, "a"])
def test_of_promotions_at_once_one_wins_and_the_others_are_told(models: Engine, first: str | None) -> None:
    if first:
        change(models, "a", over="d")
    letters = ("b", "c", "d")
    barrier = Barrier(len(letters))

    def try_to(letter: str) -> bool:
        barrier.wait()
        try:
            change(models, letter, over="a")
        except UnusableError:
            return False
        return True

    with ThreadPoolExecutor(len(letters)) as pool:
        won = list(pool.map(try_to, letters))

    assert won.count(True) == 1
    assert list(states(models).values()).count("active") == 1


def test_a_promotion_and_a_rollback_at_once_leave_one_active_model(models: Engine) -> None:
    change(models, "b", over="a")
    barrier = Barrier(2)

    def run(job: Callable[[], object]) -> bool:
        barrier.wait()
        try:
            job()
        except UnusableError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, (lambda: change(models, "c", over="b"), lambda: back(models))))

    assert any(done)
    assert list(states(models).values()).count("active") == 1


@pytest.mark.parametrize("state", [ModelState.ACTIVE, ModelState.SHADOW])
def test_the_database_itself_refuses_a_second_model_in_use(models: Engine, state: ModelState) -> None:
    two = update(RegisteredModel).where(RegisteredModel.version.in_(("a", "b"))).values(state=state)

    with pytest.raises(IntegrityError), transaction(models) as session:
        session.execute(two)


def test_a_shadow_takes_the_place_of_the_one_before_and_gives_it_up(models: Engine) -> None:
    change(models, "b", over="a")
    with transaction(models) as session:
        start_shadow(session, find_model(session, "lungs-c"), NOON)
        start_shadow(session, find_model(session, "lungs-a"), NOON)
    assert states(models) == {"a": "shadow", "b": "active", "c": "candidate", "d": "candidate"}

    with transaction(models) as session:
        ended = end_shadow(session, NOON)
        assert ended is not None
        assert (ended.version, shadow_model(session)) == ("a", None)


def test_the_active_model_is_no_shadow_of_itself_and_a_promoted_shadow_is_none(models: Engine) -> None:
    change(models, "b", over="a")
    with pytest.raises(UnusableError, match="is active"), transaction(models) as session:
        start_shadow(session, find_model(session, "lungs-b"), NOON)

    with transaction(models) as session:
        start_shadow(session, find_model(session, "lungs-c"), NOON)
    change(models, "c", over="b")
    assert states(models) == {"a": "retired", "b": "retired", "c": "active", "d": "candidate"}
    assert actions(models)[-2:] == [("model taken out of the shadow", "c"), ("model promoted", "c")]


def test_every_change_is_in_the_audit_table_and_a_refused_one_is_not(models: Engine) -> None:
    change(models, "b", over="a", why=Promotion({"n": 4}, forced=True, reason="the only one"))
    with transaction(models) as session:
        start_shadow(session, find_model(session, "lungs-c"), NOON)
        end_shadow(session, NOON)
    with pytest.raises(UnusableError):
        change(models, "c", over="a")
    back(models)

    assert actions(models)[4:] == [
        ("model promoted", "b"),
        ("model put into the shadow", "c"),
        ("model taken out of the shadow", "c"),
        ("model rolled back", "b"),
    ]
    with transaction(models) as session:
        promoted = session.scalars(select(AuditEvent).where(AuditEvent.action == "model promoted")).one()
    assert promoted.details == {
        "name": "lungs",
        "version": "b",
        "predecessor": "a" * 64,
        "comparison": {"n": 4},
        "forced": True,
        "reason": "the only one",
    }


def test_registering_again_changes_nothing_and_another_model_of_the_same_name_is_refused(
    models: Engine,
) -> None:
    with transaction(models) as session:
        again = register(session, info("a"), "lungs-a", NOON)
        assert again.id == find_model(session, "lungs-a").id
    other = ModelInfo("lungs", "a", "e" * 64, Recipe(name="toy"), Decision())

    with (
        pytest.raises(UnusableError, match="give the new one another version"),
        transaction(models) as session,
    ):
        register(session, other, "lungs-a", NOON)
    assert len(actions(models)) == 4


def test_a_model_is_found_by_name_version_or_the_beginning_of_its_digest(models: Engine) -> None:
    with transaction(models) as session:
        assert find_model(session, "lungs-c").version == "c"
        assert find_model(session, "cccccccc").version == "c"
        with pytest.raises(UnusableError, match="names more than one model: lungs-a"):
            find_model(session, "lungs")
        with pytest.raises(UnusableError, match="No registered model is called ccc"):
            find_model(session, "ccc")


def test_the_setting_wins_over_the_active_model_and_that_over_the_shipped_one(
    models: Engine, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path)
    pinned = Settings(data=tmp_path, analysis=AnalysisSettings(model=tmp_path / "mine"))
    with transaction(models) as session:
        assert model_in_use(session, settings).folder == SHIPPED_MODEL
    change(models, "b", over="a")

    with transaction(models) as session:
        found = model_in_use(session, settings)
        assert (found.folder, found.digest) == (tmp_path / "models/lungs-b", "b" * 64)
        assert model_in_use(session, pinned).folder == tmp_path / "mine"
        assert active_model(session) is not None
