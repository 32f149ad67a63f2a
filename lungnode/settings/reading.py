"""Reads the settings of this process and says what is wrong with them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from lungnode.errors import SettingsError
from lungnode.settings.destinations import KINDS
from lungnode.settings.node import PREFIX, Settings

# Kubernetes tells every pod of a service that is called lungnode: these are its variables, not ours.
_SERVICE_LINK: Final = re.compile(r"LUNGNODE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_\w+)")


def load_settings(**overrides: Any) -> Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: The file or a variable has an unknown name or an unusable value.
    """
    _check_variables(os.environ)
    named = os.environ.get("LUNGNODE_CONFIG")
    if named and not Path(named).is_file():  # pydantic-settings would go on without it
        raise SettingsError(f"The settings file {named} cannot be read: No such file.")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"The settings file {named} cannot be read: {error}.") from error


def _check_variables(environment: Mapping[str, str]) -> None:
    """Refuse a variable that names no setting; pydantic-settings would go on without it."""
    known = {*Settings.model_fields, "config"}
    for name, value in environment.items():
        setting = name.lower().removeprefix(PREFIX.lower())
        if not name.upper().startswith(PREFIX) or setting.partition("__")[0] in known:
            continue
        if _SERVICE_LINK.fullmatch(name) or value.startswith(("tcp://", "udp://")):
            continue
        raise SettingsError(
            f"The variable {name} names no setting; docs/operations.md lists all of them, and nested names "
            f"join with two underscores: {PREFIX}RECEIVER__PORT."
        )


def _sentence(error: ValidationError) -> str:
    """Say what is wrong with the first setting that is."""
    first = error.errors()[0]
    # A place among destinations names their kind as well, which is no level of the file.
    where = ".".join(str(part) for part in first["loc"] if part not in KINDS) or "settings"
    if first["type"] == "extra_forbidden":
        return f"There is no setting {where}; docs/operations.md lists all of them."
    if first["type"] == "missing":
        return f"Setting {where} is missing."
    got = "" if isinstance(first.get("input"), dict) else f" (got {first.get('input')!r})"
    return f"Setting {where}: {first['msg']}{got}."
