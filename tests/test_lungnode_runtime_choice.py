from collections.abc import Mapping

import pytest

from lungnode.errors import SettingsError
from lungnode.runtime.choice import Choice, Machine, choose
from lungnode.runtime.record import Deviation, Measured, Precision, Record
from lungnode.settings import load_settings

PLAIN = Machine(frozenset({"avx2"}), gpu=False)
FULL = Machine(frozenset({"avx2", "avx512_vnni", "avx512_bf16"}), gpu=False)
GPU = Machine(FULL.flags, gpu=True)
GOOD = Deviation(
    largest_difference=0.01, mean_difference=0.001, auc_difference=0.0, slice_flips=0, study_flips=0
)
BAD = GOOD.model_copy(update={"study_flips": 1, "objections": ("1 studies are judged otherwise",)})


def record(deviations: Mapping[Precision, Deviation]) -> Record:
    few = Measured(slices=1, positive=1, studies=0)
    return Record(model="ab", files={}, deviations=deviations, calibration=few, gate=few)


PROVED = record({"int8": GOOD, "bf16": GOOD, "fp32": GOOD})


def test_a_gpu_runs_tensorflow() -> None:
    assert choose("auto", "auto", PROVED, GPU) == Choice("tensorflow", "fp32", "There is a GPU.")


def test_openvino_can_be_wished_for_where_there_is_a_gpu() -> None:
    assert choose("openvino", "auto", PROVED, GPU).name == "openvino int8"
    assert choose("auto", "bf16", PROVED, GPU).name == "openvino bf16"


def test_a_processor_runs_the_fastest_that_passed_the_gate_and_the_reason_names_what_is_faster() -> None:
    failed = record({"int8": BAD, "bf16": GOOD, "fp32": GOOD})

    assert choose("auto", "auto", PROVED, FULL).name == "openvino int8"
    assert choose("auto", "auto", failed, FULL) == Choice(
        "openvino",
        "bf16",
        "It is the fastest that can be used here. "
        "Not 8-bit integers: it failed the gate, 1 studies are judged otherwise.",
        "8-bit integers failed the gate: 1 studies are judged otherwise.",
    )


def test_a_processor_without_the_instructions_computes_in_32_bits() -> None:
    choice = choose("auto", "auto", PROVED, PLAIN)

    assert (choice.name, choice.warning) == ("openvino fp32", "")
    assert "this processor has no instructions for it" in choice.reason


def test_a_model_that_was_never_measured_runs_in_32_bits() -> None:
    choice = choose("auto", "auto", None, FULL)

    assert choice.name == "openvino fp32"
    assert "the model holds no figures of it; see `lungnode models quantise`" in choice.reason


def test_what_is_wished_for_and_cannot_be_is_a_warning() -> None:
    choice = choose("openvino", "int8", None, FULL)

    assert choice.name == "openvino fp32"
    assert choice.warning == (
        "8-bit integers cannot be used: the model holds no figures of it; see `lungnode models quantise`."
    )


def test_a_model_that_openvino_computes_otherwise_in_every_precision_runs_on_tensorflow() -> None:
    choice = choose("auto", "auto", record({"int8": BAD, "bf16": BAD, "fp32": BAD}), FULL)

    assert choice.name == "tensorflow fp32"
    assert choice.reason == "OpenVINO cannot be used: it failed the gate, 1 studies are judged otherwise."


def test_tensorflow_in_8_bits_is_refused_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGNODE_ANALYSIS__RUNTIME", "tensorflow")
    monkeypatch.setenv("LUNGNODE_ANALYSIS__PRECISION", "int8")

    with pytest.raises(
        SettingsError, match=r"TensorFlow computes in fp32 only, and analysis\.precision is int8"
    ):
        load_settings()


def test_an_unknown_runtime_is_refused_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGNODE_ANALYSIS__RUNTIME", "onnx")

    with pytest.raises(
        SettingsError, match=r"Setting analysis\.runtime: .*'auto', 'tensorflow' or 'openvino'"
    ):
        load_settings()
