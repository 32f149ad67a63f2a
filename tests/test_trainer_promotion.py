import json
from pathlib import Path

import pytest

from lungnode.errors import UnusableError
from lungnode.model_folder import METRICS_FILE
from trainer.promotion import TestData, check_same_test_set, stored_evaluations


def measured(digest: str, test_set: str | None) -> dict[str, object]:
    """What a model keeps of an evaluation."""
    return {"auc": 0.9, "data": {"digest": digest, "test_set": test_set}}


def test_a_test_set_that_is_not_the_one_of_the_stored_evaluation_is_refused() -> None:
    data = TestData("ab" * 32, "frozen-2026")

    with pytest.raises(
        UnusableError,
        match=r"frozen-2026 is not the one that small 1 was measured on: .* abababababab, then it",
    ):
        check_same_test_set(
            data, [measured("ab" * 32, "another"), measured("cd" * 32, "frozen-2026")], "small 1"
        )


@pytest.mark.parametrize(
    "stored",
    [
        [],
        [{}],  # a model that nothing was compared with
        [measured("ab" * 32, "frozen-2026")],
        [measured("cd" * 32, "another")],
        [measured("cd" * 32, None)],  # slices of a list have no name to change under
    ],
)
def test_the_same_set_and_other_sets_are_no_contradiction(stored: list[dict[str, object]]) -> None:
    check_same_test_set(TestData("ab" * 32, "frozen-2026"), stored, "small 1")


def test_what_a_model_was_measured_with_is_read_from_its_figures(tmp_path: Path) -> None:
    assert stored_evaluations(tmp_path) == []
    found = {"evaluations": {"the test set": measured("ab" * 32, "frozen-2026")}, "samples": {}}
    (tmp_path / METRICS_FILE).write_text(json.dumps(found))

    assert stored_evaluations(tmp_path) == [measured("ab" * 32, "frozen-2026")]
