"""What a training is given: readable, disjoint, digested; or one sentence that says why not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from lungnode.errors import UnavailableError, UnusableError
from lungnode.phantom import phantom_study
from lungnode.pixels import lung_window
from tests.ct_images import enhanced
from trainer.dataset import Draw, collect
from trainer.grays import load_gray
from trainer.manifest import digest_samples
from trainer.samples import Collection, Exclusion, Sample, Split

DRAW = Draw(share=0.25, seed=0)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Eight patients with a picture each, every other one sick."""
    made = []
    for number in range(8):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((40, 40), 20 * number, np.uint8)).save(path)
        made.append(Sample("unit", path, number % 2 == 0, f"patient {number}"))
    return made


def test_a_data_set_has_splits_and_their_digests(samples: list[Sample]) -> None:
    found = collect([Collection(tuple(samples), notes=("Told.",))], DRAW)

    assert [len(found.of(split)) for split in Split] == [6, 2, 0]
    assert found.digests == {
        split: digest_samples(found.of(Split(split))) for split in ("train", "validation")
    }
    assert all(len(sample.digest) == 64 for sample in found.samples)
    assert found.notes == ("Told.",)


def test_collections_are_joined_and_what_they_left_out_is_kept(samples: list[Sample]) -> None:
    left_out = Exclusion("1.2.3", "No lung is seen.")

    found = collect([Collection(tuple(samples[:6]), (left_out,)), Collection(tuple(samples[6:]))], DRAW)

    assert {sample.path for sample in found.samples} == {sample.path for sample in samples}
    assert found.exclusions == (left_out,)


@pytest.mark.parametrize("damage", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut"])
def test_an_image_that_cannot_be_read_is_named_and_refused(samples: list[Sample], damage: bytes) -> None:
    samples[3].path.write_bytes(damage)
    before = sorted(samples[0].path.parent.iterdir())

    with pytest.raises(UnusableError) as raised:
        collect([Collection(tuple(samples))], DRAW)

    assert str(raised.value).startswith(f"The image {samples[3].path} cannot be used: The picture ")
    assert str(raised.value).endswith(
        "Take it off the list; a training leaves it out with --skip-unreadable."
    )
    assert sorted(samples[0].path.parent.iterdir()) == before


def test_images_that_cannot_be_read_are_left_out_and_told_when_that_is_asked_for(
    samples: list[Sample],
) -> None:
    samples[2].path.write_bytes(b"no picture")
    samples[3].path.unlink()

    found = collect([Collection(tuple(samples))], DRAW, skip_unreadable=True)

    assert [exclusion.what for exclusion in found.exclusions] == [str(samples[n].path) for n in (2, 3)]
    assert (
        found.exclusions[1].reason == f"The file {samples[3].path} cannot be read: No such file or directory."
    )
    assert len(found.samples) == 6
    with pytest.raises(UnusableError, match="and 1 more like it"):
        collect([Collection(tuple(samples))], DRAW)


def test_an_image_that_changed_since_its_list_was_written_is_refused(samples: list[Sample]) -> None:
    listed = collect([Collection(tuple(samples))], DRAW).samples
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(listed[5].path)

    with pytest.raises(UnusableError, match=r"5\.png has changed since its list was written"):
        collect([Collection(listed)], DRAW)


def test_a_patient_in_two_splits_is_refused(samples: list[Sample]) -> None:
    leak = [
        replace(sample, group=f"patient {number // 2}", split=Split.VALIDATION if number > 4 else Split.TRAIN)
        for number, sample in enumerate(samples)
    ]

    with pytest.raises(UnusableError, match=r"patient 2 is in two splits, with 4\.png in train and with 5"):
        collect([Collection(tuple(leak))], DRAW)


def test_an_empty_class_is_refused_unless_nothing_is_needed(samples: list[Sample]) -> None:
    negatives = Collection(tuple(sample for sample in samples if not sample.positive))

    with pytest.raises(UnusableError, match="The train split has no positive image"):
        collect([negatives], DRAW)
    with pytest.raises(UnusableError, match=r"1 were left out; the first, 1\.2\.3: No lung is seen\."):
        collect([replace(negatives, exclusions=(Exclusion("1.2.3", "No lung is seen."),))], DRAW)
    assert len(collect([negatives], DRAW, needed=()).samples) == 4


def test_copies_are_told(samples: list[Sample], tmp_path: Path) -> None:
    copy = replace(samples[0], path=tmp_path / "copy.png", group="another patient")
    copy.path.write_bytes(samples[0].path.read_bytes())

    found = collect([Collection((*samples, copy))], DRAW)

    assert found.notes == ("1 of 9 images are copies of others in their split.",)


def test_dicom_and_pictures_come_through_one_door(tmp_path: Path) -> None:
    instance = dcmread(phantom_study(tmp_path / "ct", slices=3, size=64).paths[1])
    # Source: PS3.3 C.7.6.3.1.4 and C.11.1: stored values, slope and intercept, as pydicom reads them.
    values = instance.pixel_array.astype(np.float32) * instance.RescaleSlope + instance.RescaleIntercept
    gray = lung_window(values)
    Image.fromarray(gray).save(tmp_path / "slice.png")
    (tmp_path / "without-suffix").write_bytes((tmp_path / "ct/0002.dcm").read_bytes())

    for path in (tmp_path / "without-suffix", tmp_path / "slice.png"):
        assert np.array_equal(load_gray(Sample("unit", path, positive=True, group="a")), gray)


def test_a_file_of_several_slices_is_no_sample(tmp_path: Path) -> None:
    series = [dcmread(path) for path in phantom_study(tmp_path / "ct", slices=3, size=64).paths]
    enhanced(series).save_as(tmp_path / "frames.dcm", enforce_file_format=True)

    with pytest.raises(UnusableError, match=r"frames\.dcm holds 3 slices; a sample is one of them"):
        load_gray(Sample("unit", tmp_path / "frames.dcm", positive=True, group="a"))


def test_a_file_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be read: No such file"):
        load_gray(Sample("unit", tmp_path / "nowhere.png", positive=True, group="a"))
