"""The list of samples as a CSV file: what is written is read again, and bad lines are named."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from lungnode.errors import UnavailableError, UnusableError
from trainer.manifest import digest_samples, read_manifest, write_manifest
from trainer.samples import Sample, Split

HEADER = "path,label,patient,split,source,study,healthy_scan,sha256,position_mm"


def sample(folder: Path, name: str = 'a, "1"%20.png', **changes: object) -> Sample:
    made = Sample(
        "unit",
        folder / name,
        positive=True,
        group="patient 1",
        split=Split.TRAIN,
        study="1.2",
        digest="ab" * 32,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def problem(folder: Path, text: str) -> str:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnusableError) as raised:
        read_manifest(path)
    return str(raised.value).removeprefix(f"The list {path} ")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    samples = [
        sample(tmp_path, attributes={"sex": "F", "age": "40-49"}),
        sample(tmp_path, "sub/ü.jpg", positive=False, split=None, study="", healthy_scan=True, digest=""),
        sample(tmp_path, "3.png", position_mm=-12.25),
    ]

    write_manifest(samples, tmp_path / "list.csv")

    assert read_manifest(tmp_path / "list.csv") == samples


def test_further_columns_are_attributes_an_age_in_years_its_decade(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,label,patient,age,sex,,kernel\na.png,positive,1,47,,,B70\n")

    assert dict(read_manifest(path)[0].attributes) == {"age": "40-49", "kernel": "B70"}


def test_paths_are_relative_to_the_list_so_that_both_can_move_together(tmp_path: Path) -> None:
    write_manifest([sample(tmp_path / "old/images")], tmp_path / "old/lists/list.csv")

    (tmp_path / "old").rename(tmp_path / "new")

    (read,) = read_manifest(tmp_path / "new/lists/list.csv")
    assert read.path.resolve() == (tmp_path / "new/images" / sample(tmp_path).path.name).resolve()


def test_a_list_of_three_columns_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    # As Excel writes it: with a byte order mark and CRLF.
    path.write_bytes("\ufeffpath,label,patient\r\na.png,Positive,\r\nb.png,negative,B\r\n".encode())

    first, second = read_manifest(path)

    assert (first.source, first.positive, first.group, first.split) == ("mine", True, "a.png", None)
    assert (second.positive, second.group) == (False, "B")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b.png,maybe,2", "line 3: label is 'maybe'; it must be positive or negative"),
        ("b.png,,2", "line 3: label is ''; it must be positive or negative"),
        (",positive,2", "line 3: path is empty or no name of a file"),
        ("b\0.png,positive,2", "line 3: path is empty or no name of a file"),
        ("b.png,positive", "line 3: it has not as many values as there are columns"),
        ("b.png,positive,2,3", "line 3: it has not as many values as there are columns"),
        ("a.png,negative,2", "line 3: the image a.png is in line 2 already"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, reason: str) -> None:
    said = problem(tmp_path, f"path,label,patient\na.png,positive,1\n{line}\n")

    assert said == f"cannot be used, {reason}."


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("trian,s,,no,,", "split is 'trian'; it must be train or validation or test"),
        ("train,s,,perhaps,,", "healthy_scan is 'perhaps'; it must be no or yes"),
        ("train,s,1,no,,top", "position_mm is 'top'; it must be a number or empty"),
        ("train,s,1,no,,nan", "position_mm is 'nan'; it must be a number or empty"),
    ],
)
def test_a_word_that_is_not_known_is_named(tmp_path: Path, values: str, reason: str) -> None:
    assert reason in problem(tmp_path, f"{HEADER}\na.png,positive,1,{values}\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no column path"),
        ("path;label;patient\na.png;positive;1\n", "has no column path"),
        ("path,label,patientt\na.png,positive,1\n", "has no column patient"),
        ("path,label,patient,label\na.png,positive,1,negative\n", "has two columns label"),
        ("path,label,patient\n", "names no image"),
        ('path,label,patient\n"a.png,positive,1\n', "is no CSV file in UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert problem(tmp_path, text).startswith(reason)


def test_a_list_that_is_away_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"nowhere\.csv cannot be read: No such file"):
        read_manifest(tmp_path / "nowhere.csv")
    (tmp_path / "list.csv").write_bytes(b"path,label,patient\n\xff\xfe,positive,1\n")
    with pytest.raises(UnusableError, match="is no CSV file in UTF-8"):
        read_manifest(tmp_path / "list.csv")


def test_a_list_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UnavailableError, match="cannot be written"):
        write_manifest([sample(tmp_path)], tmp_path / "file/list.csv")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_digest_is_of_content_label_patient_study_and_split_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"first")
    (tmp_path / "copy.png").write_bytes(b"first")
    one = sample(tmp_path, "a.png", digest="")
    two = sample(tmp_path, "b.png", digest="cd" * 32)

    digest = digest_samples([one, two])

    assert digest == digest_samples([two, replace(one, digest=hashlib.sha256(b"first").hexdigest())])
    assert digest == digest_samples([replace(one, path=tmp_path / "copy.png", source="other"), two])
    changes: list[dict[str, object]] = [
        {"positive": False}, {"group": "x"}, {"study": "1.3"}, {"split": Split.TEST}, {"digest": "ee" * 32}
    ]  # fmt: skip
    others = {digest_samples([one, replace(two, **change)]) for change in changes}  # type: ignore[arg-type]
    assert len(others | {digest, digest_samples([one])}) == len(changes) + 2
