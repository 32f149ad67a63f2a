"""The files of the registry: a candidate's folder is copied below the models, whole or not at all."""

import os
import re
import shutil
from pathlib import Path
from typing import Final

from lungnode.durable import sync_folder
from lungnode.errors import UnavailableError, UnusableError
from lungnode.model_folder import ModelInfo, describe_model

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# Names in a run folder; the trainer.run_folder that writes them would load TensorFlow.
RUN_MODEL: Final = "model"  # the candidate
RUN_SAMPLES: Final = "samples.csv"  # every slice of the training, with its split


def candidate_folder(folder: Path) -> Path:
    """Return the model's folder in a run folder; a model's folder is returned as it is."""
    inner = folder / RUN_MODEL
    return inner if inner.is_dir() else folder


def keep_model(folder: Path, models: Path) -> tuple[ModelInfo, str]:
    """Copy a model's folder below `models`, durable under its last name; a repeat changes nothing.

    Returns:
        The model, and its folder below `models`.

    Raises:
        UnusableError: It is no model's folder, its name or version cannot name a folder, or another model
            lies there.
        UnavailableError: It cannot be written there now.
    """
    info = describe_model(folder)
    name = _folder_name(info)
    target = models / name
    if not target.exists():
        try:
            _copy(folder, target, info)
        except OSError as error:
            raise UnavailableError(f"The model cannot be kept in {target}: {error.strerror}.") from error
    found = describe_model(target).digest
    if found != info.digest:
        raise UnusableError(
            f"{target} holds another model ({found[:12]}) than {folder} ({info.digest[:12]}); "
            "give the new one another version."
        )
    return info, name


def _folder_name(info: ModelInfo) -> str:
    check_name("name", info.name)
    check_name("version", info.version)
    return f"{info.name}-{info.version}"


def check_name(what: str, value: str) -> None:
    """See that a model's name, or its version, can be a part of a folder's name.

    Raises:
        UnusableError: It cannot.
    """
    if not _NAME.fullmatch(value):
        raise UnusableError(
            f"The model's {what} {value!r} cannot name a folder: "
            "letters, digits, dots, dashes and underscores can."
        )


def _copy(folder: Path, target: Path, info: ModelInfo) -> None:
    """Copy under a temporary name, make it durable, then rename.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
        UnusableError: What was copied is not what was described: the source changed meanwhile.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.parent / f".{target.name}.{os.urandom(4).hex()}.part"
    try:
        staged.mkdir()
        for path in sorted(folder.iterdir()):
            if path.is_file():
                _copy_file(path, staged / path.name)
        sync_folder(staged)
        if describe_model(staged).digest != info.digest:
            raise UnusableError(f"The model in {folder} changed while it was copied; try again.")
        staged.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _copy_file(path: Path, target: Path) -> None:
    with path.open("rb") as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        os.fsync(copy.fileno())
