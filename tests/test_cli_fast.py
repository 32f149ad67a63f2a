import json
import shutil
from pathlib import Path

import pytest

from lungnode.cli._fast import gate_lines, quantise, runtime_lines, runtime_record
from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, describe_model
from lungnode.runtime.record import RECORD_FILE, Deviation, Measured, Record
from lungnode.settings import AnalysisSettings, Settings

FEW = Measured(slices=300, positive=100, studies=2)
RECORD = Record(
    model=describe_model(SHIPPED_MODEL).digest,
    files={},
    deviations={
        "fp32": Deviation(
            largest_difference=0.00001,
            mean_difference=0.000001,
            auc_difference=0.0,
            slice_flips=0,
            study_flips=0,
        ),
        "int8": Deviation(
            largest_difference=0.25,
            mean_difference=0.03,
            auc_difference=0.0123,
            slice_flips=7,
            study_flips=0,
            objections=("the AUC differs by 0.0123, more than 0.005",),
        ),
    },
    calibration=FEW,
    gate=FEW,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The shipped model with figures that are made up."""
    folder = Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "model"))
    (folder / RECORD_FILE).write_text(RECORD.model_dump_json())
    return folder


def test_figures_and_what_failed_are_told_a_line_a_precision() -> None:
    assert gate_lines(RECORD) == [
        "compared with TensorFlow on 300 slices (100 positive) and 2 studies; "
        "calibrated with 300 slices of other patients:",
        "  openvino fp32: probability differs by 0.0000, at most 0.000; AUC by 0.0000; "
        "other verdicts: 0 slices, 0 studies; passed",
        "  openvino int8: probability differs by 0.0300, at most 0.250; AUC by 0.0123; "
        "other verdicts: 7 slices, 0 studies; FAILED, the AUC differs by 0.0123, more than 0.005",
    ]


def test_a_model_that_failed_the_gate_is_shown_with_what_takes_its_place(model: Path, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, analysis=AnalysisSettings(runtime="openvino"))

    first, *others = runtime_lines(model, settings)

    assert first.startswith(
        "runs on: openvino fp32. It is the fastest that can be used here. Not 8-bit integers: "
    )
    assert others[-3:] == gate_lines(RECORD)
    told = runtime_record(model, settings)
    assert (told["runtime"], told["gate"]) == ("openvino fp32", json.loads(RECORD.model_dump_json()))


def test_a_model_of_an_unknown_training_needs_a_manifest(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)

    with pytest.raises(UnusableError, match=r"What the model in .* was trained on is not known here; name a"):
        quantise(settings, str(SHIPPED_MODEL), None, as_json=False)
