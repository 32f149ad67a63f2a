"""The phantom: valid DICOM, repeatable, plausible Hounsfield units, and a truth that holds."""

from pathlib import Path

import numpy as np
import pytest
import typer
from pydicom import dcmread
from typer.testing import CliRunner

from lungnode.cli.phantom import register
from lungnode.errors import UnusableError
from lungnode.lungs import lung_mask
from lungnode.phantom import Patient, PhantomStudy, phantom_study
from lungnode.pixels import Hounsfield, hounsfield, lung_window
from lungnode.series import choose, slice_headers
from tests.validators import entity_errors, iod_errors

SPACING_MM = 390 / 256


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("ill"), 30, lesions=True, seed=4, size=256)


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("well"), 30, lesions=False, seed=4, size=256)


def values(study: PhantomStudy, index: int) -> Hounsfield:
    return hounsfield(dcmread(study.paths[index]))


def test_no_slice_has_an_error(ill: PhantomStudy) -> None:
    assert [error for path in ill.paths[::6] for error in iod_errors(path)] == []
    assert entity_errors(ill.paths) == []


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path, ill: PhantomStudy) -> None:
    again = phantom_study(tmp_path, 30, lesions=True, seed=4, size=256)

    assert again.study_instance_uid == ill.study_instance_uid
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(again.paths, ill.paths, strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 5},
        {"slices": 29},
        {"lesions": False},
        {"size": 128},
        {"patient": Patient(patient_id="OTHER")},
    ],
)
def test_other_arguments_never_share_a_uid(
    tmp_path: Path, ill: PhantomStudy, changes: dict[str, object]
) -> None:
    arguments = {"slices": 30, "lesions": True, "seed": 4, "size": 256, **changes}

    other = phantom_study(tmp_path, **arguments)  # type: ignore[arg-type]  # mixed values in one table

    uids = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in ill.paths}
    others = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in other.paths}
    assert other.study_instance_uid != ill.study_instance_uid
    assert not uids & others


def test_it_is_one_chest_series_without_gaps(ill: PhantomStudy) -> None:
    headers = [
        one for path in ill.paths for one in slice_headers(dcmread(path, stop_before_pixels=True), path)
    ]

    choice = choose(headers)

    assert [one.path for one in choice.slices] == list(ill.paths)
    assert choice.labelled_chest
    assert choice.geometry is not None
    assert choice.geometry.note == "no gaps"


def test_lung_fat_muscle_bone_and_air_have_their_hounsfield_units(well: PhantomStudy) -> None:
    found = values(well, 14)
    lung = lung_mask(lung_window(found))

    assert -880 < np.median(found[lung]) < -780
    assert -1010 < np.median(found[:20]) < -990  # air above the body
    shares = np.histogram(found[~lung], [-130, -70, 20, 80, 300, 1500])[0] / found.size
    assert (
        shares > [0.02, 0.005, 0.05, 0.003, 0.003]
    ).all()  # fat, between, muscle and blood, marrow, cortex


def test_the_lung_tapers_to_both_ends(well: PhantomStudy) -> None:
    areas = [int(lung_mask(lung_window(values(well, index))).sum()) for index in range(len(well.paths))]
    fullest = int(np.argmax(areas))

    assert 0.25 < fullest / len(areas) < 0.75
    assert areas[well.first] < areas[fullest] / 2
    assert areas[well.last] < areas[fullest] / 2
    assert 15_000 < areas[fullest] * SPACING_MM**2 < 45_000  # mm², both lungs of an adult


def test_lesions_are_peripheral_opacities_where_the_truth_says(well: PhantomStudy, ill: PhantomStudy) -> None:
    assert not well.lesion_slices
    assert len(ill.lesion_slices) >= 8
    for index in range(len(ill.paths)):
        # The same seed without lesions: what differs by more than noise is lesion.
        changed = values(ill, index) - values(well, index) > 200
        assert (changed.sum() * SPACING_MM**2 > 60) <= (index in ill.lesion_slices)
    opaque = values(ill, ill.lesion_slices[4])[values(ill, 0).shape[0] // 4 :]
    assert ((opaque > -700) & (opaque < -300)).sum() > 100


def test_a_name_in_any_character_set_is_kept(tmp_path: Path) -> None:
    names = {
        "ISO_IR 100": "Müller^Jürgen",
        "ISO_IR 144": "Иванов^Иван",
        "ISO_IR 126": "Διονυσιος",
        "GB18030": "Wang^XiaoDong=王^小东",
        "ISO_IR 192": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    }
    for number, (character_set, name) in enumerate(names.items()):
        patient = Patient(name=name, character_set=character_set)

        study = phantom_study(tmp_path / str(number), 1, size=64, patient=patient)

        assert str(dcmread(study.paths[0]).PatientName) == name
        assert iod_errors(study.paths[0]) == []


def test_japanese_with_code_extensions_is_kept(tmp_path: Path) -> None:
    # Source: PS3.5 H.3.1, example 1.
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    patient = Patient(name=name, character_set=["", "ISO 2022 IR 87"])

    study = phantom_study(tmp_path, 1, size=64, patient=patient)

    assert str(dcmread(study.paths[0]).PatientName) == name
    assert "1b2442" in study.paths[0].read_bytes().hex()  # ESC $ B


def test_one_slice_alone_shows_lung(tmp_path: Path) -> None:
    study = phantom_study(tmp_path, 1, size=128)

    assert (study.first, study.last) == (0, 0)


@pytest.mark.parametrize(("slices", "size"), [(0, 512), (5000, 512), (10, 32), (10, 4096)])
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, slices: int, size: int) -> None:
    with pytest.raises(UnusableError, match="1 to 2000 slices of 64 to 1024 pixels"):
        phantom_study(tmp_path, slices, size=size)


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)

    done = CliRunner().invoke(app, [str(tmp_path / "new"), "--slices", "5", "--lesions", "--seed", "2"])

    assert done.exit_code == 0
    assert done.stdout.startswith("5 slices in ")
    assert len(list((tmp_path / "new").iterdir())) == 5


def test_the_command_never_mixes_two_studies_in_a_folder(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    CliRunner().invoke(app, [str(tmp_path / "out"), "--slices", "2"])
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    done = CliRunner().invoke(app, [str(tmp_path / "out"), "--slices", "1", "--seed", "1"])

    assert str(done.exception) == f"The folder {tmp_path}/out is not empty; a phantom needs one of its own."
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_another_seed_is_another_patient(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)

    for seed in ("0", "1"):
        CliRunner().invoke(app, [str(tmp_path / seed), "--slices", "1", "--seed", seed])

    assert [dcmread(tmp_path / seed / "0001.dcm").PatientID for seed in ("0", "1")] == [
        "PHANTOM-0",
        "PHANTOM-1",
    ]
