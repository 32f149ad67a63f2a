"""Opening a model as the settings say; what cannot be used is said, and the reference takes its place."""

import logging
from dataclasses import replace
from pathlib import Path

from lungnode.errors import UnusableError
from lungnode.model_folder import ModelInfo, describe_model
from lungnode.runtime.choice import Choice, Machine, choose, this_machine
from lungnode.runtime.fast import Workshop, load_fast
from lungnode.runtime.loaded import LoadedModel
from lungnode.runtime.record import Record, read_record
from lungnode.runtime.reference import load_model, sees_gpu
from lungnode.settings import Settings

_LOG = logging.getLogger(__name__)
_CACHE = "runtime"  # below the cache of the data folder


def open_model(folder: Path, settings: Settings) -> LoadedModel:
    """Load the model of a folder for the runtime that the settings name, or for the fastest that is proved.

    Raises:
        UnusableError: The model cannot be used.
    """
    info, machine = describe_model(folder), this_machine()
    record, choice = look(folder, info, settings, machine)
    if (
        choice.runtime == "tensorflow"
        and machine.gpu
        and settings.analysis.runtime == "auto"
        and not sees_gpu()
    ):
        _LOG.warning("There is a GPU, and TensorFlow does not see it; OpenVINO takes its place.")
        machine = replace(machine, gpu=False)
        record, choice = look(folder, info, settings, machine)
    if choice.warning:
        _LOG.warning("model %s %s: %s", info.name, info.version, choice.warning)
    if choice.runtime == "tensorflow":
        return load_model(folder, settings.analysis.batch)
    shop = Workshop(settings.cache / _CACHE, machine)
    try:
        return load_fast(folder, info, settings.analysis.batch, choice, record, shop)
    except UnusableError as error:
        _LOG.warning("model %s %s: %s TensorFlow takes its place.", info.name, info.version, error)
        return load_model(folder, settings.analysis.batch)


def look(folder: Path, info: ModelInfo, settings: Settings, machine: Machine) -> tuple[Record | None, Choice]:
    """Choose what runs a model, without loading anything.

    Args:
        folder: The model's.
        info: Of the model.
        settings: Of this node.
        machine: This one.
    """
    problem = ""
    try:
        record = read_record(folder, info.digest)
    except UnusableError as error:  # of another model, or damaged: worth no more than none
        record, problem = None, str(error)
    wanted = settings.analysis
    choice = choose(wanted.runtime, wanted.precision, record, machine)
    return record, replace(choice, warning=" ".join(filter(None, (problem, choice.warning))))
