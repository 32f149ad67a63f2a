"""What `lungnode models shadow --report` tells of results that lie in the database."""

from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import Engine

from db.models import Analysis, AnalysisState, Label, LabelSource, RegisteredModel, ShadowResult, Study
from db.registry import register, start_shadow
from db.session import transaction
from lungnode.cli._shadow import print_report, report
from lungnode.errors import UnusableError
from lungnode.model_folder import Decision, ModelInfo
from lungnode.recipe import Recipe
from lungnode.settings import Settings
from tests.bench import NOON

SHADOW, ACTIVE = "ab" * 32, "cd" * 32
THRESHOLD = 0.5


@pytest.fixture
def model(engine: Engine) -> RegisteredModel:
    info = ModelInfo("new", "2", SHADOW, Recipe(name="toy"), Decision())
    with transaction(engine) as session:
        model = register(session, info, "new-2", NOON)
        start_shadow(session, model, NOON)
        return model


def verdict(probability: float) -> str:
    return "positive" if probability >= THRESHOLD else "negative"


def add(
    engine: Engine,
    number: int,
    said: tuple[float, float | None],
    *,
    label: str = "",
    digest: str = ACTIVE,
    revision: int = 1,
) -> None:
    """Add a study that the active and the shadow model judged; without a probability that one failed."""
    active, shadow = said
    with transaction(engine) as session:
        study = session.query(Study).filter_by(study_instance_uid=f"1.2.{number}").one_or_none()
        study = study or Study(
            study_instance_uid=f"1.2.{number}", patient_id=f"p{number}", created_at=NOON, changed_at=NOON
        )
        if label:
            study.labels.append(Label(value=label, source=LabelSource.RT_PCR, created_at=NOON))
        analysis = Analysis(
            study=study,
            revision=revision,
            created_at=NOON,
            due_at=NOON,
            state=AnalysisState.DONE,
            model="old 1",
            model_digest=digest,
            verdict=verdict(active),
            probability=active,
            threshold=THRESHOLD,
        )
        session.add(analysis)
        session.flush()
        result = ShadowResult(
            analysis_id=analysis.id,
            model="new 2",
            model_digest=SHADOW,
            verdict="error" if shadow is None else verdict(shadow),
            probability=shadow,
            threshold=THRESHOLD,
            seconds=1.0,
            created_at=NOON + timedelta(seconds=number),
        )
        session.add(result)


def test_a_report_counts_agreement_changes_and_failures(engine: Engine, model: RegisteredModel) -> None:
    for number, said in enumerate([(0.9, 0.8), (0.7, 0.4), (0.2, 0.1), (0.1, 0.3), (0.9, None)]):
        add(engine, number, said)

    with transaction(engine) as session:
        found = report(session, model)

    assert (found["n"], found["failed"], found["agreement"], found["kappa"]) == (4, 1, 0.75, 0.5)
    assert found["active"] == {"model": "old 1", "digest": ACTIVE}
    (changed,) = found["changed"]
    assert (changed["study_instance_uid"], changed["shadow"]["verdict"]) == ("1.2.1", "negative")
    assert found["probabilities"]["mean_difference"] == pytest.approx(-0.075)
    assert found["probabilities"]["largest"] == pytest.approx(0.3)
    assert found["labelled"] is None


def test_labelled_studies_say_which_model_was_right(engine: Engine, model: RegisteredModel) -> None:
    for number, said in enumerate([(0.9, 0.8), (0.4, 0.7), (0.6, 0.2), (0.1, 0.1)]):
        add(engine, number, said, label="positive" if number < 2 else "negative")
    add(engine, 9, (0.6, 0.6))

    with transaction(engine) as session:
        labelled = report(session, model)["labelled"]

    assert (labelled["n"], labelled["active_auc"], labelled["candidate_auc"]) == (4, 0.75, 1.0)
    assert (labelled["active_acc"], labelled["candidate_acc"]) == (0.5, 1.0)
    assert (labelled["mcnemar"]["only_candidate"], labelled["policy"]) == (2, "rt-pcr-first")


def test_a_study_counts_once_and_only_beside_the_model_that_is_active_now(
    engine: Engine, model: RegisteredModel
) -> None:
    add(engine, 1, (0.9, 0.1), digest="ef" * 32)
    add(engine, 2, (0.9, 0.1))
    add(engine, 2, (0.9, 0.9), revision=2)

    with transaction(engine) as session:
        found = report(session, model)

    assert (found["n"], found["agreement"], found["beside_other_models"]) == (1, 1.0, 1)
    assert found["changed"] == []


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)  # the command leaves its engine open
@pytest.mark.usefixtures("model")
def test_the_probabilities_are_drawn(engine: Engine, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, database_url=engine.url.render_as_string(hide_password=False))
    with pytest.raises(UnusableError, match="nothing to draw"):
        print_report(settings, "new", tmp_path / "figure.png", as_json=True)
    add(engine, 1, (0.9, 0.8), label="positive")
    add(engine, 2, (0.2, 0.1))

    print_report(settings, "new", tmp_path / "figure.png", as_json=True)
    with Image.open(tmp_path / "figure.png") as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (720, 720))
    with pytest.raises(UnusableError, match=r"figure.nothing cannot be written"):
        print_report(settings, "new", tmp_path / "figure.nothing", as_json=True)


def test_an_empty_report_has_no_figures(engine: Engine, model: RegisteredModel) -> None:
    with transaction(engine) as session:
        found = report(session, model)

    assert (found["n"], found["agreement"], found["kappa"], found["probabilities"]) == (0, None, None, None)
