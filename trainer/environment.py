"""What a training ran on: versions and machine."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("lungnode", "tensorflow", "keras", "numpy", "scipy", "pillow", "pydicom", "imagecodecs")


def describe_environment() -> dict[str, Any]:
    """Return versions and hardware; nothing that names the machine or its user."""
    import tensorflow as tf  # noqa: PLC0415 - who only reads an environment need not load it

    gpus = tf.config.list_physical_devices("GPU")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus],
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
