"""Plain folders of images with a list of names for each class."""

from dataclasses import replace
from pathlib import Path

import pytest

from lungnode.errors import UnavailableError, UnusableError
from trainer.image_lists import ImageLists, read_image_lists
from trainer.samples import Split


@pytest.fixture
def lists(tmp_path: Path) -> ImageLists:
    """Four images, two of each class; b.png lies in a folder of its own."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png", "c 100%.png", "d.png"):
        (images / name).write_bytes(name.encode())
    positives, negatives = tmp_path / "positives.txt", tmp_path / "negatives.txt"
    positives.write_text("a.png\n\n  b.png \r\n")
    negatives.write_text("c 100%.png\nd.png")
    return ImageLists(images, positives, negatives)


def listed(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def test_names_are_found_below_the_folder_with_or_without_theirs(lists: ImageLists) -> None:
    found = read_image_lists(lists, Split.TEST).samples

    assert [(str(s.path.relative_to(lists.images)), s.label) for s in found] == [
        ("a.png", "positive"),
        ("sub/b.png", "positive"),
        ("c 100%.png", "negative"),
        ("d.png", "negative"),
    ]
    assert {(s.source, s.split) for s in found} == {("images", Split.TEST)}


def test_without_a_list_of_patients_each_file_is_one_and_the_operator_is_told(lists: ImageLists) -> None:
    found = read_image_lists(lists)

    assert len({sample.group for sample in found.samples}) == 4
    assert found.notes[0].startswith(
        "No list of patients was given: each of the 4 images counts as a patient of its own."
    )


def test_patients_and_what_is_known_of_them_come_from_their_list(lists: ImageLists, tmp_path: Path) -> None:
    patients = listed(
        tmp_path / "patients.csv",
        "file,patient,sex,age\na.png,P1,F,41\nb.png,P1,F,\nc 100%.png,P2,,90\nd.png,P3,M,8\nother.png,P4,,\n",
    )

    found = read_image_lists(replace(lists, patients=patients))

    assert [(s.group, dict(s.attributes)) for s in found.samples] == [
        ("P1", {"sex": "F", "age": "40-49"}),
        ("P1", {"sex": "F"}),
        ("P2", {"age": "90+"}),
        ("P3", {"sex": "M", "age": "0-9"}),
    ]
    assert not found.notes


def test_an_image_may_lie_outside_the_folder(lists: ImageLists, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"")
    lists.positives.write_text(f"{outside}\n../outside.png\n")

    with pytest.raises(UnusableError, match="is named in"):
        read_image_lists(lists)
    lists.positives.write_text(f"{outside}\n")
    assert read_image_lists(lists).samples[0].group == "../outside.png"


def test_validation_lists_name_the_split(lists: ImageLists, tmp_path: Path) -> None:
    positives = listed(tmp_path / "p.txt", "a.png\n")
    negatives = listed(tmp_path / "n.txt", "c 100%.png\n")
    lists.positives.write_text("sub/b.png")
    lists.negatives.write_text("d.png")

    found = read_image_lists(replace(lists, validation_positives=positives, validation_negatives=negatives))

    assert [(s.path.name, s.split) for s in found.samples] == [
        ("b.png", "train"),
        ("d.png", "train"),
        ("a.png", "validation"),
        ("c 100%.png", "validation"),
    ]
    with pytest.raises(UnusableError, match=r"n\.txt needs its counterpart: name both validation lists"):
        read_image_lists(replace(lists, validation_negatives=negatives))


def test_a_name_in_two_lists_is_refused(lists: ImageLists) -> None:
    lists.negatives.write_text("a.png\n")

    with pytest.raises(UnusableError, match=r"a\.png is named in .*positives\.txt and again in .*negatives"):
        read_image_lists(lists)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.png\nz.png\n", r"names z\.png in line 2, and there is no such file below"),
        (f"{'long' * 100}\n", r"long in line 1, and there is no such file below"),
        ("same.png\n", r"names same\.png in line 1, which could be one/same\.png and two/same\.png"),
    ],
)
def test_a_name_without_its_image_is_refused(lists: ImageLists, text: str, reason: str) -> None:
    for folder in ("one", "two"):
        (lists.images / folder).mkdir()
        (lists.images / folder / "same.png").write_bytes(b"")
    lists.positives.write_text(text)

    with pytest.raises(UnusableError, match=reason):
        read_image_lists(lists)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,patient\na.png,1\n", "needs the columns file and patient"),
        ("file,patient\na.png,1\n", "sub/b.png has no line in the list of patients"),
        ("file,patient\na.png,\n", "line 2: file or patient is empty"),
        ("file,patient\na.png,1\na.png,2\n", "gives a.png to 1 and, in line 3, to 2"),
    ],
)
def test_a_list_of_patients_with_a_hole_is_refused(
    lists: ImageLists, tmp_path: Path, text: str, reason: str
) -> None:
    patients = listed(tmp_path / "patients.csv", text)

    with pytest.raises(UnusableError, match=reason):
        read_image_lists(replace(lists, patients=patients))


def test_what_is_away_or_no_text_is_told(lists: ImageLists, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="nowhere cannot be read: No such file"):
        read_image_lists(replace(lists, positives=tmp_path / "nowhere"))
    with pytest.raises(UnusableError, match="There is no folder of images"):
        read_image_lists(replace(lists, images=tmp_path / "nowhere"))
    lists.positives.write_bytes(b"\xff\xfe")
    with pytest.raises(UnusableError, match="is no text in UTF-8"):
        read_image_lists(lists)


def test_the_official_lists_of_covid_ct_are_read(shared_data: Path) -> None:
    folder = shared_data / "covid-ct"
    train, val = (
        (folder / f"{part}_COVID.txt", folder / f"{part}_NonCOVID.txt") for part in ("train", "val")
    )

    found = read_image_lists(ImageLists(folder, *train, *val, folder / "patients.csv")).samples

    counts = {
        (split, label): sum((s.split, s.label) == (split, label) for s in found)
        for split in (Split.TRAIN, Split.VALIDATION)
        for label in ("positive", "negative")
    }
    assert list(counts.values()) == [191, 234, 60, 58]  # Source: the data set's own README
