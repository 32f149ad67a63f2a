"""Weights files as Keras writes them, under the names of our networks.

Three layouts are read: HDF5 of Keras 2 (what Keras publishes), HDF5 of Keras 3 (`.weights.h5`) and Keras 3's
archive (`.keras`). Nothing in a file is run.
"""

import sys
import zipfile
from contextlib import redirect_stdout
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from lungnode.errors import UnusableError
from lungnode.network import resnet50, vgg16
from lungnode.recipe import Backbone
from lungnode.weights_file import KERNEL, Weights

Layers = dict[str, list[NDArray[Any]]]  # Keras' name of a layer to its weights, in Keras' order

SUFFIXES: Final = (".h5", ".hdf5", ".keras")
TOPOLOGY: Final = "v1"  # of all that Keras publishes
ARCHIVED: Final = "model.weights.h5"  # in a .keras archive
CONVOLUTION: Final = ("weight", "bias")  # in Keras' order
NORMALIZATION: Final = ("weight", "bias", "running_mean", "running_var")

_PUBLISHED: Final = "https://storage.googleapis.com/tensorflow/keras-applications/"
# Backbone to folder, file and MD5 of Keras' own weights. Source: keras/src/applications, resnet.py, vgg16.py.
_DOWNLOADS: Final[dict[str, tuple[str, str, str]]] = {
    "resnet50": (
        "resnet/",
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
    ),
    "vgg16": (
        "vgg16/",
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
    ),
}


def download(backbone: Backbone, cache: Path | None = None) -> Path:
    """Return Keras' own ImageNet weights, downloaded once into Keras' cache (`~/.keras` by default).

    Raises:
        UnusableError: Keras publishes none of this backbone, or they cannot be downloaded.
    """
    if backbone not in _DOWNLOADS:
        raise UnusableError(
            f"Keras publishes no ImageNet weights of {backbone}: set network.init to random or to a file."
        )
    folder, name, digest = _DOWNLOADS[backbone]
    url = f"{_PUBLISHED}{folder}{name}"
    try:
        with redirect_stdout(sys.stderr):  # Keras shows its progress; stdout is for our results
            found: str = keras.utils.get_file(
                name, url, cache_subdir="models", file_hash=digest, cache_dir=cache and str(cache)
            )
    except Exception as error:  # Keras raises a bare Exception where the network is away
        raise UnusableError(
            f"Keras' ImageNet weights cannot be downloaded from {url}: {str(error).split(' -- ')[-1]}. "
            f"Download {name} on another machine and give it with --init FILE."
        ) from error
    return Path(found)


def read_keras_file(path: Path, backbone: Backbone) -> Weights:
    """Read a Keras weights file as torchvision's names and layout; unknown layers are left out.

    Raises:
        UnusableError: It cannot be read, or holds no layer of this backbone.
    """
    try:
        layers = _read(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UnusableError(f"The weights {path} cannot be read as a Keras file: {error}.") from error
    weights: Weights = {}
    for theirs, ours in _layer_names(backbone).items():
        if theirs in layers:
            weights |= _translate(ours, layers[theirs])
    if not weights:
        found = ", ".join(list(layers)[:3]) or "none"
        raise UnusableError(f"The weights {path} hold no layer of Keras' {backbone}; its layers: {found} ...")
    return weights


def _read(path: Path) -> Layers:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive, h5py.File(BytesIO(archive.read(ARCHIVED))) as file:
            return _layers(file)
    with h5py.File(path) as file:
        return _layers(file)


def _layers(file: h5py.File) -> Layers:
    """Find the layers wherever they are nested."""
    layers: Layers = {}

    def visit(path: str, item: Any) -> None:
        if not isinstance(item, h5py.Group):
            return
        if "weight_names" in item.attrs:  # Keras 2
            names = [n.decode() if isinstance(n, bytes) else n for n in item.attrs["weight_names"]]
            layers[path.rsplit("/", 1)[-1]] = [np.asarray(item[name]) for name in names]
        elif "name" in item.attrs and path.endswith("vars"):  # Keras 3
            layers[item.attrs["name"]] = [np.asarray(item[str(place)]) for place in range(len(item))]

    file.visititems(visit)
    return layers


def _translate(layer: str, arrays: list[NDArray[Any]]) -> Weights:
    names = CONVOLUTION if arrays[0].ndim == KERNEL else NORMALIZATION
    return {
        f"{layer}.{name}": array.transpose(3, 2, 0, 1) if array.ndim == KERNEL else array
        for name, array in zip(names, arrays, strict=True)
    }


def _layer_names(backbone: Backbone) -> dict[str, str]:
    """Return Keras' names of the backbone's layers with ours."""
    if backbone == "resnet50":
        return _resnet50_names()
    if backbone == "vgg16":
        return {
            f"block{block}_conv{number}": f"features.{place}"
            for block, (_, places) in enumerate(vgg16.BLOCKS, start=1)
            for number, place in enumerate(places, start=1)
        }
    return {}


def _resnet50_names() -> dict[str, str]:
    names = {"conv1_conv": "conv1", "conv1_bn": "bn1"}
    for stage, units in enumerate(resnet50.UNITS, start=1):
        for unit in range(units):
            theirs, ours = f"conv{stage + 1}_block{unit + 1}", f"layer{stage}.{unit}"
            names |= {f"{theirs}_0_conv": f"{ours}.downsample.0", f"{theirs}_0_bn": f"{ours}.downsample.1"}
            for number in (1, 2, 3):
                names |= {
                    f"{theirs}_{number}_conv": f"{ours}.conv{number}",
                    f"{theirs}_{number}_bn": f"{ours}.bn{number}",
                }
    return names
