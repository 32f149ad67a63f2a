"""The `lungnode` command: exit code 0 done, 1 the job failed, 2 wrong use.

Each command module defines functions and registers them in `register`; it imports its program inside the
function, so that `lungnode receive` never loads TensorFlow.
"""

import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

from lungnode.errors import LungnodeError, SettingsError
from lungnode.log import start_log
from lungnode.settings import Settings, load_settings

# Each has a function register(app: typer.Typer) -> None.
COMMAND_MODULES: Final = (
    "up",
    "demo",
    "check",
    "receive",
    "clerk",
    "web",
    "worker",
    "classify",
    "studies",
    "keeping",
    "deliveries",
    "commitments",
    "pull",
    "audit",
    "labels",
    "train",
    "evaluate",
    "paper",
    "models",
    "phantom",
    "database",
    "users",
    "backup",
)

EVERYWHERE: Final = ("--data", "--config", "--debug")  # accepted before and after the command's name

app = typer.Typer(
    name="lungnode",
    help=(
        "DICOM AI node for chest CT. For research use.\n\n"
        "The options below hold before and after the command. Exit codes: 0 done, 1 failed, 2 wrong use."
    ),
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _options(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="Folder of everything the node keeps.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings file (TOML).", exists=True, dir_okay=False)
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log more, and show tracebacks.")] = False,
) -> None:
    # Child processes (`up` starts one a role) read the same settings from the same variables.
    if config is not None:
        os.environ["LUNGNODE_CONFIG"] = str(config.resolve())
    if data is not None:
        os.environ["LUNGNODE_DATA"] = str(data.resolve())
    if debug:
        os.environ["LUNGNODE_LOG_LEVEL"] = "debug"
    if context.invoked_subcommand is not None:
        settings = load_settings()
        start_log(settings.log_level)
        context.obj = settings


def settings_of(context: typer.Context) -> Settings:
    """Return the settings that the command was called with."""
    settings = context.find_object(Settings)
    if settings is None:
        raise SettingsError("The command was called without settings.")
    return settings


def hoist(arguments: list[str]) -> list[str]:
    """Move the options that hold everywhere to the front, where the callback reads them.

    Raises:
        SettingsError: One that takes a value has none.
    """
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--":
            rest += arguments[position:]
            break
        name = argument.partition("=")[0]
        takes_value = name in EVERYWHERE and name != "--debug" and "=" not in argument
        taken = arguments[position : position + 1 + takes_value]
        if len(taken) <= takes_value:
            raise SettingsError(f"The option {name} needs a value.")
        (front if name in EVERYWHERE else rest).extend(taken)
        position += len(taken)
    return front + rest


@cache
def build() -> typer.Typer:
    """Return the application with every command registered."""
    for name in COMMAND_MODULES:
        import_module(f"lungnode.cli.{name}").register(app)
    return app


def main() -> None:
    """Run the command line; one sentence for an error, the traceback only with --debug."""
    build()
    try:
        app(hoist(sys.argv[1:]))
    except Exception as error:  # the edge of the process: nobody is shown a traceback unasked
        if "--debug" in sys.argv:
            raise
        typer.echo(f"lungnode: {_sentence(error)}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)


def _sentence(error: Exception) -> str:
    if isinstance(error, LungnodeError):
        return str(error)
    detail = next(iter(str(error).splitlines()), "").rstrip(".") or "no detail"
    return f"It failed unexpectedly: {type(error).__name__}, {detail}. --debug shows where."
