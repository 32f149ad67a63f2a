"""The model card says what was trained, on what, and what came of it."""

from pathlib import Path

from lungnode.model_folder import Decision, Manifest
from lungnode.recipe import Data, Input, Network, Recipe, Training
from tests.evaluated import judged
from trainer.card import describe_samples, render_card
from trainer.document import document
from trainer.samples import Sample, Split

MANIFEST = Manifest(
    name="hospital",
    version="20260102",
    decision=Decision(slope=2, intercept=-0.5, threshold=0.412, study_offset=1.25),
    data={"train": "ab" * 32},
)
RECIPE = Recipe(
    name="best",
    input=Input(crop="lung", jpeg_quality=60),
    network=Network(topology="v1.5", init="weights/own.npz", stages=(2, 3)),
    data=Data(painted=True),
)


def test_a_card_names_model_recipe_data_decision_and_figures(tmp_path: Path) -> None:
    evaluation = judged(tmp_path)
    metrics = {
        "evaluations": {"frozen | set": document(evaluation)},
        "samples": describe_samples(evaluation.samples),
        "notes": ["No children."],
    }

    card = render_card(RECIPE, MANIFEST, metrics)

    assert card.startswith("# hospital 20260102\n")
    assert "**Research use only. Not for diagnostic use.**" in card
    assert "looks like COVID-19" in " ".join(card.split())
    assert "resnet50 (v1.5), first weights: own.npz" in card
    assert "reads stage 2 and 3" in card
    assert "**0.412**" in card
    assert "logit x 2 -0.5" in card
    assert "| test | one | 10 | 5 | 10 |" in card
    assert "train `abababababababab`" in card
    assert "| frozen / set | 20 | 0.900 (" in card  # a bar would end the cell
    assert "- No children.\n" in card


def test_a_card_tells_of_views_and_lesions_where_there_are_any() -> None:
    recipe = Recipe(
        name="best",
        input=Input(views=("crop", "whole")),
        network=Network(lesion_cells=4, frozen=4),
        data=Data(painted=True),
        training=Training(optimizer="exact"),
    )

    told, plain = (" ".join(render_card(r, MANIFEST, {}).split()) for r in (recipe, RECIPE))

    assert "looked at crop, whole; the mean logit counts" in told
    assert "the mean of its 4 highest cells" in told
    assert "looked at" not in plain
    assert "highest cells" not in plain


def test_a_figure_that_is_not_defined_is_not_made_up(tmp_path: Path) -> None:
    found = document(judged(tmp_path)) | {"auc": None}
    found["confidence_intervals"]["sens"] = [None, None]

    card = render_card(RECIPE, MANIFEST, {"evaluations": {"test": found}})

    row = next(line for line in card.splitlines() if line.startswith("| test |"))
    assert row.endswith("| n/a |")
    assert "| 0.800 |" in row


def test_a_card_before_any_measurement_says_that_nothing_was_measured() -> None:
    card = render_card(Recipe(name="paper"), Manifest(name="new", version="1"), {})

    assert "Not measured yet." in card
    assert "Not recorded." in card
    assert "Keras" in card  # whose weights `imagenet` are


def test_samples_are_counted_by_split_source_and_label() -> None:
    def sample(source: str, group: str, split: Split | None, *, positive: bool) -> Sample:
        return Sample(source, Path("1.png"), positive, group, split)

    found = describe_samples(
        [
            sample("a", "1", Split.TRAIN, positive=True),
            sample("a", "1", Split.TRAIN, positive=False),
            sample("b", "2", Split.TRAIN, positive=False),
            sample("a", "3", None, positive=False),
        ]
    )

    assert found == {
        "train": {"a": {"n": 2, "positive": 1, "groups": 1}, "b": {"n": 1, "positive": 0, "groups": 1}},
        "all": {"a": {"n": 1, "positive": 0, "groups": 1}},
    }
