"""Slices of a run are found again where they were moved."""

from dataclasses import replace
from pathlib import Path

import pytest

from lungnode.errors import UnusableError
from trainer.relocation import relocate
from trainer.samples import Sample


def test_files_are_found_by_the_longest_end_of_their_path(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "1.png"):
        path = tmp_path / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    listed = Sample("drawn", Path("/gone/../old/b/1.png"), positive=True, group="p")
    beside = replace(listed, path=Path("/old/c/1.png"))

    found = relocate([listed, beside], tmp_path / "new")

    assert [sample.path.read_text() for sample in found] == ["b/1.png", "1.png"]


def test_a_file_that_is_nowhere_below_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"There is no 2\.png below"):
        relocate([Sample("drawn", Path("/old/2.png"), positive=True, group="p")], tmp_path)
