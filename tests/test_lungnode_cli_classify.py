"""`lungnode classify` and `lungnode models` as a person runs them."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from lungnode.model_folder import SHIPPED_MODEL, describe_model
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.pixels import hounsfield, lung_window

LOSSY = ("4.91", "4.81", "4.50", "4.51")  # ends of the transfer syntax in the names of the GE slice's files
RETIRED = ("4.53", "4.55")


@dataclass
class Run:
    """One run of the command."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document, which is all of standard output."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    def item(self, path: Path) -> dict[str, Any]:
        """The only item of a path."""
        found: list[dict[str, Any]] = [item for item in self.document["items"] if item["path"] == str(path)]
        assert len(found) == 1
        return found[0]


def lungnode(*arguments: object) -> Run:
    command = [sys.executable, "-m", "lungnode", *map(str, arguments)]
    # No node of whoever runs the tests, whose active model would be used.
    environment = os.environ | {"LUNGNODE_DATA": "/nonexistent"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=12, size=256)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, study: PhantomStudy) -> Path:
    """A good slice as JPEG and PNG, and files that cannot be used."""
    folder = tmp_path_factory.mktemp("pictures")
    gray = lung_window(hounsfield(dcmread(study.paths[6])))
    Image.fromarray(gray).save(folder / "slice.png")
    Image.fromarray(gray).save(folder / "slice.jpg", quality=95)
    content = (folder / "slice.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.txt").write_text("no image", encoding="utf-8")
    Image.fromarray(gray.astype(np.uint16) * 256).save(folder / "deep.png")
    (folder / "huge.png").write_bytes(huge_png())
    return folder


def huge_png() -> bytes:
    """A valid PNG of 20,000 x 20,000 black pixels in 400 KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(20_001 * 20_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def everything(
    study: PhantomStudy, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Path]:
    """One run over a study, one of its slices, pictures and what cannot be used."""
    out = tmp_path_factory.mktemp("out")
    (out / "empty").mkdir()
    paths = [study.paths[0].parent, study.paths[6], pictures, out / "empty", out / "missing"]
    done = lungnode("classify", *paths, "--json", "--heatmap", out / "heatmaps", "--report", out / "reports")
    return done, out


def test_the_document_names_model_and_threshold_and_has_an_item_for_each_thing(
    everything: tuple[Run, Path],
) -> None:
    document = everything[0].document

    info = describe_model(SHIPPED_MODEL)
    assert info.digest in document["model"]
    assert document["threshold"] == info.threshold
    for item in document["items"]:
        assert {"path", "kind", "probability", "verdict", "reason", "slices", "seconds"} <= item.keys()
    assert len(document["items"]) == 10


def test_a_folder_of_dicom_is_one_study_with_the_slices_of_its_lung(
    everything: tuple[Run, Path], study: PhantomStudy
) -> None:
    item = everything[0].item(study.paths[0].parent)

    assert (item["kind"], item["study_instance_uid"]) == ("study", study.study_instance_uid)
    assert item["verdict"] in ("positive", "negative", "undetermined")
    expected = [str(dcmread(path).SOPInstanceUID) for path in study.paths[study.first : study.last + 1]]
    assert [each["sop_instance_uid"] for each in item["slices"]] == expected


def test_a_slice_has_the_probability_that_it_has_in_its_study(
    everything: tuple[Run, Path], study: PhantomStudy
) -> None:
    alone = everything[0].item(study.paths[6])
    uid = str(dcmread(study.paths[6]).SOPInstanceUID)
    whole = everything[0].item(study.paths[0].parent)

    assert alone["kind"] == "image"
    within = next(each["probability"] for each in whole["slices"] if each["sop_instance_uid"] == uid)
    assert alone["probability"] == pytest.approx(within, abs=1e-5)


def test_the_same_slice_as_png_is_read_as_a_picture_and_called_the_same(
    everything: tuple[Run, Path], study: PhantomStudy, pictures: Path
) -> None:
    dicom, png, jpeg = (
        everything[0].item(path) for path in (study.paths[6], pictures / "slice.png", pictures / "slice.jpg")
    )

    assert png["kind"] == jpeg["kind"] == "image"
    assert png["verdict"] == jpeg["verdict"] == dicom["verdict"] == "positive"
    assert png["probability"] == pytest.approx(jpeg["probability"], abs=0.05)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "truncated"),
        ("text.txt", "neither DICOM, JPEG nor PNG"),
        ("deep.png", "16 bits"),
        ("huge.png", "at most 50,000,000 pixels are read"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_with_its_reason(
    everything: tuple[Run, Path], pictures: Path, name: str, reason: str
) -> None:
    item = everything[0].item(pictures / name)

    assert (item["verdict"], item["probability"], item["slices"]) == ("error", None, [])
    assert reason in item["reason"]


def test_an_empty_folder_and_a_missing_path_are_errors(everything: tuple[Run, Path]) -> None:
    done, out = everything

    assert done.item(out / "empty")["reason"] == f"The folder {out / 'empty'} holds no files."
    assert "No such file" in done.item(out / "missing")["reason"]


def test_an_error_among_the_items_is_told_by_the_exit_code_alone(everything: tuple[Run, Path]) -> None:
    assert everything[0].returncode == 1
    assert everything[0].stderr == ""


def test_heatmaps_are_pictures_of_the_slices_own_size(
    everything: tuple[Run, Path], study: PhantomStudy
) -> None:
    heatmaps = sorted((everything[1] / "heatmaps").iterdir())

    assert len(heatmaps) == min(20, study.last - study.first + 1) + 3
    assert {np.asarray(Image.open(BytesIO(path.read_bytes()))).shape for path in heatmaps} == {(256, 256, 3)}


def test_a_heatmap_says_what_it_may_be_used_for(everything: tuple[Run, Path], pictures: Path) -> None:
    heatmap = next((everything[1] / "heatmaps").glob("*-slice-0001.png"))

    foot = np.asarray(Image.open(heatmap))[-14:].astype(int)
    source = np.asarray(Image.open(pictures / "slice.png"))[-14:].astype(int)
    assert np.abs(foot[..., 0] - source).max() > 100  # white letters with a dark rim


def test_reports_of_the_study_and_the_slice_are_structured_reports(everything: tuple[Run, Path]) -> None:
    reports = [dcmread(path) for path in sorted((everything[1] / "reports").iterdir())]

    assert [(report.Modality, report.SOPClassUID.name) for report in reports] == [
        ("SR", "Comprehensive 3D SR Storage")
    ] * 2


def test_only_errors_need_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no image", encoding="utf-8")

    done = lungnode("classify", tmp_path / "text.txt")

    assert done.returncode == 1
    assert "neither DICOM, JPEG nor PNG" in done.stdout
    assert "Research use only" in done.stdout


def test_syntaxes_give_one_probability_where_they_are_lossless(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "dicom/syntaxes").iterdir())
    head = sorted((shared_data / "dicom/head-ct").glob("*.dcm"))
    relabelled = tmp_path / "relabelled"
    relabelled.mkdir()
    for path in head:
        ds = dcmread(path)
        ds.BodyPartExamined = "CHEST"
        ds.save_as(relabelled / path.name)

    done = lungnode("classify", *files, shared_data / "dicom/head-ct", relabelled, "--json")

    items = {path.name: done.item(path) for path in files}
    retired = {name for name in items if name.removesuffix(".dcm").endswith(RETIRED)}
    lossless = {n for n in items if n not in retired and not n.removesuffix(".dcm").endswith(LOSSY)}
    assert {items[name]["verdict"] for name in retired} == {"error"}
    assert all(items[name]["reason"] for name in retired)
    assert len({items[name]["probability"] for name in lossless if name.startswith("CTImage")}) == 1
    assert len({items[name]["probability"] for name in lossless if name.startswith("P001")}) == 1
    assert all(items[name]["probability"] is not None for name in items.keys() - retired)
    heads = [
        item for item in done.document["items"] if item["path"] in {str(head[0].parent), str(relabelled)}
    ]
    assert {item["verdict"] for item in heads} == {"not_applicable"}


def test_the_model_in_use_is_listed_with_its_digest() -> None:
    done = lungnode("models", "list", "--json")

    info = describe_model(SHIPPED_MODEL)
    assert [(m["name"], m["digest"], m["active"]) for m in json.loads(done.stdout)["models"]] == [
        (info.name, info.digest, True)
    ]


def test_another_model_is_listed_beside_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SHIPPED_MODEL, tmp_path / "model")
    recipe = json.loads((tmp_path / "model/model.json").read_text(encoding="utf-8"))
    (tmp_path / "model/model.json").write_text(json.dumps(recipe | {"name": "mine"}), encoding="utf-8")
    monkeypatch.setenv("LUNGNODE_ANALYSIS__MODEL", str(tmp_path / "model"))

    found = json.loads(lungnode("models", "list", "--json").stdout)["models"]

    assert [(model["name"], model["active"]) for model in found] == [
        ("mine", True),
        (describe_model(SHIPPED_MODEL).name, False),
    ]


def test_a_models_card_is_shown_and_an_unknown_model_is_told() -> None:
    shown, unknown = lungnode("models", "show"), lungnode("models", "show", "nothing")

    assert describe_model(SHIPPED_MODEL).digest in shown.stdout
    assert "esearch use only" in shown.stdout
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "No model is called nothing" in unknown.stderr
