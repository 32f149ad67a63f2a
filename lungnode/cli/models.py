"""Commands: models."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lungnode.cli import settings_of

if TYPE_CHECKING:
    from lungnode.settings import Settings

models = typer.Typer(help="List and show models.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(models, name="models")


@models.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that this node knows, and which one it uses."""
    known = _known(settings_of(context))
    if as_json:
        typer.echo(json.dumps({"models": known}, indent=2))
        return
    for model in known:
        mark = "*" if model["active"] else " "
        typer.echo(
            f"{mark} {model['name']} {model['version']}  sha256 {model['digest'][:12]}  {model['path']}"
        )


@models.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the model; without it, the one in use.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show a model's card: data, recipe, figures, limits and licence."""
    from lungnode.errors import UnusableError  # noqa: PLC0415 - when called
    from lungnode.model_folder import describe_model, read_card, read_metrics  # noqa: PLC0415

    known = _known(settings_of(context))
    found = [model for model in known if (model["name"] == name if name else model["active"])]
    if not found:
        raise UnusableError(f"No model is called {name}; there are {', '.join(m['name'] for m in known)}.")
    folder = Path(found[0]["path"])
    if as_json:
        recipe = describe_model(folder).recipe.model_dump(mode="json")
        typer.echo(json.dumps(found[0] | {"recipe": recipe, "metrics": read_metrics(folder)}, indent=2))
        return
    typer.echo(read_card(folder))
    typer.echo(f"sha256: {found[0]['digest']}")


def _known(settings: "Settings") -> list[dict[str, Any]]:
    """Describe the model in use first, then the one that Lungnode ships where that is another."""
    from lungnode.model_folder import SHIPPED_MODEL, describe_model  # noqa: PLC0415 - when called

    active = (settings.analysis.model or SHIPPED_MODEL).resolve()
    folders = dict.fromkeys((active, SHIPPED_MODEL.resolve()))
    described = ((folder, describe_model(folder)) for folder in folders)
    return [
        {
            "name": info.name,
            "version": info.version,
            "digest": info.digest,
            "threshold": info.threshold,
            "path": str(folder),
            "active": folder == active,
        }
        for folder, info in described
    ]
