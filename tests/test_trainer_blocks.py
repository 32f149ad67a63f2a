"""The store of features: whole blocks, found by key, whoever wrote them."""

from pathlib import Path

import numpy as np
import pytest

from lungnode.errors import UnavailableError
from trainer.blocks import BlockStore, forget


def rows(*values: float) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
    return np.array([[value, value + 0.5] for value in values], np.float16)


def test_rows_are_found_by_key_across_blocks_in_the_order_asked_for(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    store.add(["a", "b"], [rows(1, 2), np.array([10, 20], np.uint8)])
    store.add(["c"], [rows(3), np.array([30], np.uint8)])

    features, numbers = BlockStore(tmp_path).take(["c", "a", "a"])

    assert features.tolist() == rows(3, 1, 1).tolist()
    assert features.dtype == np.float16
    assert numbers.tolist() == [30, 10, 10]


def test_a_block_without_its_list_is_not_there_and_can_be_written_again(tmp_path: Path) -> None:
    BlockStore(tmp_path).add(["a"], [rows(1)])
    [index] = tmp_path.glob("*.json")
    index.unlink()

    store = BlockStore(tmp_path)

    assert not store.is_settled("a")
    store.add(["a"], [rows(2)])
    assert store.take(["a"])[0].tolist() == rows(2).tolist()


def test_a_key_of_which_nothing_can_be_made_is_settled_and_has_no_row(tmp_path: Path) -> None:
    BlockStore(tmp_path).add(["a"], [rows(1)], ["b"])
    BlockStore(tmp_path).add([], [], ["c"])

    store = BlockStore(tmp_path)

    assert [key in store for key in "abc"] == [True, False, False]
    assert [store.is_settled(key) for key in "abcd"] == [True, True, True, False]


def test_what_rows_cost_is_told_whoever_made_them(tmp_path: Path) -> None:
    BlockStore(tmp_path).add(["a", "b"], [rows(1, 2)], cpu_s=3.0)
    BlockStore(tmp_path).add(["c"], [rows(3)], cpu_s=1.0)

    assert BlockStore(tmp_path).cpu_seconds(["a", "c"]) == pytest.approx(2.5)


def test_a_folder_that_cannot_be_made_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UnavailableError, match="file/store cannot be used"):
        BlockStore(tmp_path / "file" / "store")


def test_forgotten_rows_are_overwritten_and_their_keys_are_gone(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    store.add(["one-0", "two-0"], [rows(1, 2), np.array([10, 20], np.uint8)], ["one-1"])
    store.add(["two-1"], [rows(3), np.array([30], np.uint8)])

    assert forget(tmp_path, lambda key: key.startswith("one")) == 1

    after = BlockStore(tmp_path)
    assert [after.is_settled(key) for key in ("one-0", "one-1", "two-0", "two-1")] == [
        False,
        False,
        True,
        True,
    ]
    assert after.take(["two-0", "two-1"])[0].tolist() == rows(2, 3).tolist()
    kept = [np.load(path) for path in sorted(tmp_path.glob("*.npy"))]
    assert not any(np.isin(array, [*rows(1)[0], 10]).any() for array in kept)
    assert forget(tmp_path, lambda key: key.startswith("one")) == 0


def test_a_row_whose_forgetting_was_cut_short_is_overwritten_by_the_next(tmp_path: Path) -> None:
    BlockStore(tmp_path).add(["one-0", "two-0"], [rows(1, 2)])
    array = next(tmp_path.glob("*.npy"))
    array.rename(tmp_path / "away")  # as if the process had ended before it

    with pytest.raises(UnavailableError):
        forget(tmp_path, lambda key: key.startswith("one"))
    (tmp_path / "away").rename(array)

    assert not BlockStore(tmp_path).is_settled("one-0")
    assert forget(tmp_path, lambda _: False) == 1
    assert np.load(array).tolist() == [[0.0, 0.0], *rows(2).tolist()]
