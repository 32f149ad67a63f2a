"""`lungnode evaluate` as a person runs it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread

from db.session import transaction
from db.test_sets import Draw, freeze
from lungnode.model_folder import SHIPPED_MODEL, describe_model
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.pixels import hounsfield, lung_window
from lungnode.settings import Settings
from tests.command_line import CommandLine, Result
from tests.databases import new_sqlite
from tests.model_folders import variant
from tests.test_trainer_archive import NEGATIVE, POSITIVE, Archive

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
KEYS = {"n", "acc", "sens", "spe", "iou", "f1", "auc", "confidence_intervals", "threshold", "model"}
Run = Callable[..., Result]


@pytest.fixture
def lungnode(command_line: CommandLine, tmp_path: Path) -> Run:
    return partial(command_line.run, tmp_path / "data", "evaluate")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=12, size=128)


@pytest.fixture
def images(tmp_path: Path, phantom: PhantomStudy) -> Path:
    """Six slices in two folders, with a literal percent sign in their names, and their lists."""
    folder = tmp_path / "images"
    for number, path in enumerate(phantom.paths[3:9]):
        gray = lung_window(hounsfield(dcmread(path)))
        target = folder / ("sick" if number % 2 else "clear") / f"fig%{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(gray).save(target)
    (folder / "positives.txt").write_bytes(b"fig%1.png\r\n\r\nfig%3.png\r\n  fig%5.png  \r\n")
    (folder / "negatives.txt").write_text("clear/fig%0.png\n\nfig%2.png\nfig%4.png")
    return folder


def lists(images: Path) -> list[str]:
    return [
        f"--images={images}",
        f"--positives={images / 'positives.txt'}",
        f"--negatives={images / 'negatives.txt'}",
    ]


def test_lists_are_measured_and_printed_as_one_json_document(lungnode: Run, images: Path) -> None:
    result = lungnode(*lists(images), "--json")

    found = json.loads(result.stdout)
    info = describe_model(SHIPPED_MODEL)
    assert result.returncode == 0
    assert found.keys() >= KEYS
    assert (found["n"], found["positive"], found["level"]) == (6, 3, "slices")
    assert found["threshold"] == info.threshold
    assert info.digest in found["model"]
    assert found["acc"] == pytest.approx((found["confusion"]["tp"] + found["confusion"]["tn"]) / 6, abs=1e-4)
    assert found["confidence_intervals"].keys() == {"acc", "sens", "spe", "iou", "f1", "auc"}
    assert "each of the 6 images counts as a patient" in result.stderr


def test_models_are_compared_in_a_table_and_a_report(lungnode: Run, images: Path, tmp_path: Path) -> None:
    variant(tmp_path / "other", threshold=0.9)

    result = lungnode(
        *lists(images), "--model=shipped", f"--model={tmp_path / 'other'}", f"--report={tmp_path / 'r.html'}"
    )

    page = (tmp_path / "r.html").read_text()
    assert result.returncode == 0
    assert "6 slices, 3 positive, 6 patients" in result.stdout
    assert "candidate 2" in result.stdout
    assert "Research use only" in result.stdout
    assert "fewer than 10 patients" in result.stdout
    assert "candidate Te." in page
    assert "counts as a patient of its own" in page


def test_a_manifest_has_splits_patients_and_studies(lungnode: Run, images: Path) -> None:
    manifest = images / "samples.csv"
    rows = [
        f"{'sick' if n % 2 else 'clear'}/fig%{n}.png,{'positive' if n % 2 else 'negative'},p{n},{n},{split}"
        for n, split in enumerate(["train", "train", "test", "test", "test", "test"])
    ]
    manifest.write_text("\n".join(["path,label,patient,study,split", *rows]))

    test = json.loads(lungnode(f"--manifest={manifest}", "--json").stdout)
    everything = lungnode(f"--manifest={manifest}", "--split=all", "--json", f"--report={images / 'r.html'}")
    train = json.loads(lungnode(f"--manifest={manifest}", "--split=train", "--studies", "--json").stdout)

    assert (test["n"], train["n"], train["level"]) == (4, 2, "studies")
    # All are measured for the tables; what counts is the test split.
    assert json.loads(everything.stdout) == test
    assert "lungnode-resnet50 Tr." in (images / "r.html").read_text()


def test_a_frozen_test_set_is_measured_by_studies_and_names_its_digest(
    lungnode: Run, phantom: PhantomStudy, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path / "data")
    engine = new_sqlite(settings.database)
    archive = Archive(engine, settings.data, phantom)
    for number in range(4):
        study = phantom_study(tmp_path / f"{number}", slices=12, size=128, seed=number)
        archive.add(f"1.2.{number}", f"P{number}", POSITIVE if number % 2 else NEGATIVE, paths=study.paths)
    with transaction(engine) as session:
        frozen = freeze(session, "spring", Draw(0.5), NOON)
    engine.dispose()

    result = lungnode("--test-set=spring", "--json", f"--report={tmp_path / 'r.html'}")

    found = json.loads(result.stdout)
    assert (found["n"], found["positive"], found["level"]) == (2, 1, "studies")
    assert found["data"] == {"digest": frozen.digest, "test_set": "spring"}
    page = (tmp_path / "r.html").read_text()
    assert "Frozen test set spring" in page
    assert frozen.digest in page
    assert "quality 75" in page  # its slices were kept without loss


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name one of"),
        (["--images=x"], "belong together"),
        (["--test-set=x", "--manifest=y"], "Name one of"),
        (["--test-set=x", "--patients=y"], "--patients belongs to --images"),
        (["--manifest=y", "--split=half"], "train, validation, test"),
        (["--test-set=x", "--split=train"], "belongs to --manifest"),
    ],
)
def test_wrong_use_exits_with_2(lungnode: Run, arguments: list[str], sentence: str) -> None:
    result = lungnode(*arguments)

    assert result.returncode == 2
    assert sentence in " ".join(result.stderr.replace("│", " ").split())
    assert not result.stdout


def one_sentence(result: Result) -> str:
    assert result.returncode == 1
    assert not result.stdout
    told = [line for line in result.stderr.splitlines() if line.startswith("lungnode: ")]
    assert len(told) == 1
    assert "Traceback" not in result.stderr
    return told[0]


def test_an_empty_class_is_one_sentence(lungnode: Run, images: Path) -> None:
    (images / "negatives.txt").write_text("\n \n")

    assert f"{images / 'negatives.txt'} names no negative slice" in one_sentence(lungnode(*lists(images)))


def test_a_missing_list_is_one_sentence(lungnode: Run, images: Path) -> None:
    (images / "positives.txt").unlink()

    assert "positives.txt cannot be read" in one_sentence(lungnode(*lists(images), "--json"))


def test_a_name_without_a_file_is_one_sentence(lungnode: Run, images: Path) -> None:
    (images / "sick/fig%3.png").unlink()

    sentence = one_sentence(lungnode(*lists(images)))

    assert "names fig%3.png in line 3, and there is no such file" in sentence


def test_an_unreadable_image_is_one_sentence_and_no_report_is_left(
    lungnode: Run, images: Path, tmp_path: Path
) -> None:
    (images / "sick/fig%3.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")

    sentence = one_sentence(lungnode(*lists(images), f"--report={tmp_path / 'r.html'}"))

    assert "fig%3.png cannot be used" in sentence
    assert not (tmp_path / "r.html").exists()

    skipped = lungnode(*lists(images), "--skip-unreadable", "--json")

    assert skipped.document["n"] == 5
    assert "fig%3.png is left out" in skipped.stderr


def test_one_file_with_both_labels_is_one_sentence(lungnode: Run, images: Path) -> None:
    (images / "sick/fig%3.png").write_bytes((images / "clear/fig%0.png").read_bytes())

    assert "is labelled negative and is the same file" in one_sentence(lungnode(*lists(images)))


def test_a_model_that_is_not_there_is_one_sentence(lungnode: Run, images: Path, tmp_path: Path) -> None:
    assert "no database" in one_sentence(lungnode(*lists(images), "--model=spring"))
    (tmp_path / "empty").mkdir()
    assert "recipe.json cannot be used" in one_sentence(
        lungnode(*lists(images), f"--model={tmp_path / 'empty'}")
    )


def test_a_report_without_a_place_is_one_sentence(lungnode: Run, images: Path) -> None:
    sentence = one_sentence(lungnode(*lists(images), f"--report={images / 'sick/fig%1.png' / 'r.html'}"))

    assert "r.html cannot be written" in sentence


def test_a_test_set_that_nobody_froze_is_one_sentence(lungnode: Run, tmp_path: Path) -> None:
    engine = new_sqlite(Settings(data=tmp_path / "data").database)
    engine.dispose()

    assert "There is no test set spring" in one_sentence(lungnode("--test-set=spring"))
