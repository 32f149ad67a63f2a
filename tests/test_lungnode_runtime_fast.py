"""A small model in every runtime of this machine."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lungnode.model_folder import describe_model
from lungnode.runtime import Slices, load_model, open_model
from lungnode.runtime.choice import this_machine
from lungnode.runtime.golden import Golden, read_golden, save_golden
from lungnode.runtime.opening import look
from lungnode.runtime.record import GOLDEN_FILE, INT8_FILE, RECORD_FILE, Precision, weights_beside
from lungnode.settings import AnalysisSettings, Settings
from tests.fast_models import write_small_model
from tests.training_data import SIZE, draw_slices
from trainer.fast_model import make_fast

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 0.03, "int8": 0.1}  # of a probability
CODE = (
    "import sys; from pathlib import Path; import numpy as np; from lungnode.runtime import open_model;"
    "from lungnode.settings import Settings;"
    "model = open_model(Path(sys.argv[1]), Settings(data=Path(sys.argv[2])));"
    f"said, _ = model.predict(np.full((3, {SIZE}, {SIZE}), 90, np.uint8));"
    "print(model.runtime, said.tolist(), 'tensorflow' in sys.modules, 'keras' in sys.modules)"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with everything that fast runtimes need; it passed the gate."""
    folder = tmp_path_factory.mktemp("fast")
    made = write_small_model(folder / "model")
    record = make_fast(made, draw_slices(folder / "slices", 120))
    passed = {
        name: each.model_copy(update={"objections": ()}) for name, each in record.deviations.items()
    }  # what random weights say of the slices is not what is tested here
    (made / RECORD_FILE).write_text(record.model_copy(update={"deviations": passed}).model_dump_json())
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that all tests share, with its cache."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def own(model: Path, tmp_path: Path) -> Path:
    """A copy of the model's folder, to be damaged."""
    return Path(shutil.copytree(model, tmp_path / "model"))


@pytest.fixture(scope="module")
def slices() -> Slices:
    """Noise, from dark to bright."""
    noise = np.random.default_rng(1).random((11, SIZE, SIZE))
    return (noise * np.linspace(20, 255, 11)[:, None, None]).astype(np.uint8)


def settings(data: Path, precision: Precision = "int8") -> Settings:
    return Settings(data=data, analysis=AnalysisSettings(precision=precision, runtime="openvino", batch=4))


def needs(precision: Precision) -> None:
    if not this_machine().has(precision):
        pytest.skip(f"this processor has no instructions for {precision}")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_every_runtime_says_what_tensorflow_says(
    model: Path, data: Path, slices: Slices, precision: Precision
) -> None:
    needs(precision)
    expected, shown = load_model(model).predict(slices)

    fast = open_model(model, settings(data, precision))

    found, class_maps = fast.predict(slices)
    assert fast.runtime == f"openvino {precision}"
    assert expected.std() > 0.01  # they differ from each other
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[precision])
    np.testing.assert_allclose(class_maps, shown, atol=10 * TOLERANCE[precision] * np.abs(shown).max())


def test_a_slice_has_the_same_probability_alone_and_among_others(
    model: Path, data: Path, slices: Slices
) -> None:
    needs("int8")
    fast = open_model(model, settings(data))

    together, maps = fast.predict(slices)

    alone = [fast.predict(slices[row : row + 1]) for row in range(len(slices))]
    np.testing.assert_allclose(np.concatenate([each for each, _ in alone]), together, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([each for _, each in alone]), maps, atol=1e-4)


def test_openvino_runs_without_tensorflow_and_keras(model: Path, data: Path) -> None:
    needs("int8")

    done = subprocess.run(
        [sys.executable, "-c", CODE, model, data], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("openvino int8 [")
    assert done.stdout.endswith("False False\n")


def test_two_processes_that_fill_the_same_cache_at_once_say_the_same(model: Path, tmp_path: Path) -> None:
    needs("int8")
    running = [
        subprocess.Popen([sys.executable, "-c", CODE, model, tmp_path], stdout=subprocess.PIPE)
        for _ in range(2)
    ]

    first, second = (each.communicate()[0] for each in running)

    assert first == second
    assert b"openvino int8" in first
    kept = list((tmp_path / "cache/runtime").iterdir())
    assert [path.suffix for path in kept] == [".compiled"]  # and nothing half-written


def test_a_damaged_cache_is_made_anew(model: Path, tmp_path: Path, slices: Slices) -> None:
    needs("int8")
    expected, _ = open_model(model, settings(tmp_path)).predict(slices)
    for path in (tmp_path / "cache/runtime").iterdir():
        path.write_bytes(b"damaged")

    found, _ = open_model(model, settings(tmp_path)).predict(slices)

    assert np.array_equal(found, expected)


def test_a_cache_that_cannot_be_written_costs_time_only(model: Path, tmp_path: Path, slices: Slices) -> None:
    needs("int8")
    (tmp_path / "cache").write_text("a file, where the folder would be")

    fast = open_model(model, settings(tmp_path))

    assert fast.runtime == "openvino int8"
    assert len(fast.predict(slices)[0]) == len(slices)


@pytest.mark.parametrize("name", [INT8_FILE, weights_beside(Path(INT8_FILE)).name, GOLDEN_FILE])
def test_a_file_that_is_not_the_measured_one_lets_tensorflow_take_its_place(
    own: Path, data: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    needs("int8")
    (own / name).write_bytes((own / name).read_bytes() + b" ")

    assert open_model(own, settings(data)).runtime == "tensorflow fp32"
    assert f"{name} is not the one that was measured. TensorFlow takes its place." in caplog.text


def test_a_processor_that_computes_otherwise_lets_tensorflow_take_its_place(
    own: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    needs("int8")
    golden = read_golden(own / GOLDEN_FILE)
    outputs = {**golden.outputs, "openvino int8": golden.outputs["openvino int8"] + 1}
    save_golden(Golden(golden.slices, outputs), own / GOLDEN_FILE)
    _forget_digest(own, GOLDEN_FILE)

    assert open_model(own, settings(data)).runtime == "tensorflow fp32"
    assert "openvino int8 is broken on this machine: a logit of a phantom differs by 1" in caplog.text


def _forget_digest(folder: Path, name: str) -> None:
    record = json.loads((folder / RECORD_FILE).read_text())
    del record["files"][name]
    (folder / RECORD_FILE).write_text(json.dumps(record))


def test_what_was_made_of_another_model_is_not_used(own: Path, data: Path) -> None:
    manifest = json.loads((own / "model.json").read_text())
    manifest["decision"]["threshold"] = 0.25
    (own / "model.json").write_text(json.dumps(manifest))

    record, choice = look(own, describe_model(own), settings(data), this_machine())

    assert (record, choice.name) == (None, "openvino fp32")
    assert "was made of another model" in choice.warning


def test_what_failed_the_gate_is_not_used(own: Path, data: Path) -> None:
    needs("int8")
    record = json.loads((own / RECORD_FILE).read_text())
    record["deviations"]["int8"]["objections"] = ["1 studies are judged otherwise"]
    (own / RECORD_FILE).write_text(json.dumps(record))

    _, choice = look(own, describe_model(own), settings(data), this_machine())

    assert choice.precision != "int8"
    assert choice.warning == (
        "8-bit integers cannot be used: it failed the gate, 1 studies are judged otherwise."
    )


def test_a_model_that_was_not_made_fast_is_converted_once(
    model: Path, tmp_path: Path, slices: Slices
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(model, plain, ignore=shutil.ignore_patterns("int8.*", RECORD_FILE, GOLDEN_FILE))
    auto = Settings(data=tmp_path / "data", analysis=AnalysisSettings(runtime="openvino"))

    fast = open_model(plain, auto)

    assert fast.runtime == "openvino fp32"
    np.testing.assert_allclose(fast.predict(slices)[0], load_model(plain).predict(slices)[0], atol=1e-4)
    (converted,) = (path for path in (tmp_path / "data/cache/runtime").iterdir() if path.is_dir())
    assert converted.name.startswith(describe_model(plain).digest[:24])


def test_a_model_that_cannot_be_converted_runs_on_tensorflow(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file, where the folder would be")
    wanted = Settings(data=tmp_path, analysis=AnalysisSettings(runtime="openvino", precision="fp32"))

    assert open_model(model, wanted).runtime == "tensorflow fp32"
    assert "cannot be written: " in caplog.text
