"""Commands: paper."""

from pathlib import Path
from typing import Annotated, Final

import typer

from lungnode.cli import settings_of

NETWORKS: Final = ("resnet50", "vgg16", "googlenet")  # of the paper's table 3


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(paper)


def paper(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Slices with label, patient, study; the test's split is test."),
    ] = None,
    test_set: Annotated[
        str, typer.Option(metavar="NAME", help="Without a manifest: the archive, and this frozen test set.")
    ] = "",
    network: Annotated[
        list[str] | None, typer.Option(help=f"Only this one of {', '.join(NETWORKS)}. Repeatable.")
    ] = None,
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE.toml", help="Every number.")] = "paper",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[NETWORK:]KEY=VALUE",
            help="Change one, of all networks or of one: vgg16:network.init=FILE. Repeatable.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs and the report.")] = Path(
        "paper"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Repeat the paper's experiment: train its three networks, test them, report. For research use."""
    from lungnode.cli._paper import Experiment, run  # noqa: PLC0415 - when called

    wrong = [name for name in network or () if name not in NETWORKS]
    if wrong:
        raise typer.BadParameter(f"There is no network {wrong[0]!r}; there are {', '.join(NETWORKS)}.")
    if bool(manifest) is bool(test_set):
        raise typer.BadParameter("Name either --manifest or --test-set.")
    wanted = Experiment(tuple(network or NETWORKS), recipe, tuple(set_ or ()), out)
    run(settings_of(context), wanted, manifest, test_set, as_json=as_json)
