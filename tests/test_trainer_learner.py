"""A step of the training against a calculation of its own, on one device and on two."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROWS, SIDE, CHANNELS = 6, 2, 3
RATE, BATCH = 0.5, 4
# A network of a class-map convolution alone, trained for two epochs of two steps on 1 or 2 devices.
CHILD = """
import json, sys
import numpy as np
from lungnode.runtime import load_tensorflow

tf = load_tensorflow()
devices, average = int(sys.argv[1]), float(sys.argv[2])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
import keras
from lungnode.recipe import Training
from trainer.learner import Learner
from trainer.plan import Visits
from trainer.progress import Silence

names = [f"CPU:{number}" for number in range(devices)]
strategy = tf.distribute.MirroredStrategy(names) if devices > 1 else tf.distribute.get_strategy()
told = json.load(sys.stdin)
features = np.array(told["features"], np.float16)
with strategy.scope():
    inner = keras.Input(features.shape[1:])
    maps = keras.layers.Conv2D(1, 1, name="class_map", kernel_initializer="zeros")(inner)
    network = keras.Model(inner, [maps, keras.layers.GlobalAveragePooling2D()(maps)])
training = Training(learning_rate=told["rate"], batch=told["batch"], momentum=0, average=average)
learner = Learner(network, training, strategy, keep_statistics=True)
keys = tuple(map(str, range(len(features))))
visits = Visits(keys, np.array(told["positive"], np.float32), np.array(told["weight"], np.float32))
take = lambda keys: [features[[int(key) for key in keys]]]
losses = [learner.learn(visits, take, Silence())[0] for _ in range(2)]
weights = {name: value.ravel().tolist() for name, value in learner.weights().items()}
print(json.dumps({"losses": losses, "weights": weights, "logits": learner.logits(visits, take).tolist()}))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "features": random.standard_normal((ROWS, SIDE, SIDE, CHANNELS)).astype(np.float16).tolist(),
        "positive": [1, 0, 1, 1, 0, 0],
        "weight": [1, 2, 0.5, 1, 1, 0.5],
        "rate": RATE,
        "batch": BATCH,
    }


def run(told: dict[str, Any], devices: int, average: float = 0.0) -> dict[str, Any]:
    command = [sys.executable, "-c", CHILD, str(devices), str(average)]
    done = subprocess.run(
        command, input=json.dumps(told), capture_output=True, text=True, timeout=120, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def logistic_regression(
    told: dict[str, Any], average: float = 0.0
) -> tuple[list[float], NDArray[np.float64]]:
    """The same by NumPy: the mean of the map is a linear function of the mean features."""
    inputs = np.array(told["features"]).mean(axis=(1, 2))
    inputs = np.concatenate([inputs, np.ones((ROWS, 1))], axis=1)
    positive, weight = np.array(told["positive"]), np.array(told["weight"])
    theta = np.zeros(CHANNELS + 1)
    averaged = theta.copy()
    losses = []
    for _ in range(2):
        total = 0.0
        for start in range(0, ROWS, BATCH):
            part = slice(start, start + BATCH)
            logits = inputs[part] @ theta
            entropy = np.logaddexp(0, np.where(positive[part] > 0, -logits, logits))
            total += (weight[part] * entropy).sum()
            error = weight[part] * (1 / (1 + np.exp(-logits)) - positive[part])
            theta = theta - RATE * (error @ inputs[part]) / BATCH
            averaged = average * averaged + (1 - average) * theta
        losses.append(total / ROWS)
    return losses, averaged if average else theta


@pytest.mark.parametrize(("devices", "average"), [(1, 0.75), (2, 0.0)])
def test_epochs_equal_a_calculation_of_their_own(told: dict[str, Any], devices: int, average: float) -> None:
    losses, theta = logistic_regression(told, average)

    found = run(told, devices, average)

    np.testing.assert_allclose(found["losses"], losses, rtol=1e-4)
    kernel, bias = found["weights"]["class_map.weight"], found["weights"]["class_map.bias"]
    np.testing.assert_allclose([*kernel, *bias], theta, rtol=1e-4, atol=1e-6)
    inputs = np.array(told["features"]).mean(axis=(1, 2))
    np.testing.assert_allclose(found["logits"], inputs @ theta[:-1] + theta[-1], rtol=1e-3, atol=1e-5)
