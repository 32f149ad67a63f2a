"""What runs the network, behind one seam.

`load_model` is the reference: TensorFlow, in 32-bit floating point. `open_model` is what a worker uses: as
the settings say, the reference or OpenVINO, which needs a fraction of the time and never imports TensorFlow.
Importing this package imports neither.
"""

from lungnode.runtime.loaded import ClassMaps, Model, Outputs, Probabilities, Slices
from lungnode.runtime.opening import open_model
from lungnode.runtime.reference import load_model, load_tensorflow

__all__ = [
    "ClassMaps",
    "Model",
    "Outputs",
    "Probabilities",
    "Slices",
    "load_model",
    "load_tensorflow",
    "open_model",
]
