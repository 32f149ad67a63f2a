"""Commands: models."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lungnode.cli import settings_of
from lungnode.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from db.models import RegisteredModel
    from lungnode.cli._evaluated import Source

models = typer.Typer(help="List, compare and promote models.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Wanted = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name, name-version, start of its digest, run or folder.")
]
Images = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the slices of the two lists.")]
Positives = Annotated[Path | None, typer.Option(metavar="FILE", help="Names of positive slices.")]
Negatives = Annotated[Path | None, typer.Option(metavar="FILE", help="Names of negative slices.")]
Patients = Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Columns file and patient.")]
Manifest = Annotated[
    Path | None,
    typer.Option(metavar="FILE.csv", help="Slices with label, patient and split; its test split."),
]
TestSet = Annotated[str, typer.Option(metavar="NAME", help="A frozen test set of the archive.")]
Studies = Annotated[
    bool | None, typer.Option("--studies/--slices", help="By default studies of a test set, else slices.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(models, name="models")


@models.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that this node knows, and which one it uses."""
    from lungnode.cli._known import known_models  # noqa: PLC0415 - when called
    from lungnode.cli._model_views import print_models  # noqa: PLC0415

    known = known_models(settings_of(context))
    if as_json:
        typer.echo(json.dumps({"models": known}, indent=2))
    else:
        print_models(known)


@models.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the model; without it, the one in use.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show a model's card: data, recipe, figures, limits and licence."""
    from lungnode.cli._fast import runtime_lines, runtime_record  # noqa: PLC0415 - when called
    from lungnode.cli._known import known_model  # noqa: PLC0415
    from lungnode.model_folder import describe_model, read_card, read_metrics  # noqa: PLC0415

    settings = settings_of(context)
    found = known_model(settings, name)
    folder = Path(found["path"])
    if as_json:
        told = {
            "recipe": describe_model(folder).recipe.model_dump(mode="json"),
            "metrics": read_metrics(folder),
            "runtime": runtime_record(folder, settings),
        }
        typer.echo(json.dumps(found | told, indent=2))
        return
    typer.echo(read_card(folder))
    typer.echo("\n".join((f"sha256: {found['digest']}", *runtime_lines(folder, settings))))


@models.command()
def quantise(
    context: typer.Context,
    model: Wanted,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Slices with label, patient, study; by default its training's."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model fast: in 8-bit integers, measured against TensorFlow; its weights stay as they are."""
    from lungnode.cli._fast import quantise as run  # noqa: PLC0415 - when called

    run(settings_of(context), model, manifest, as_json=as_json)


@models.command("register")
def register_(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A run, or a model's folder.", file_okay=False, exists=True)],
    as_json: AsJson = False,
) -> None:
    """Copy a candidate into the registry; nothing is analysed with it yet."""
    from lungnode.cli._promotion import keep  # noqa: PLC0415 - when called
    from lungnode.cli.studies import open_database  # noqa: PLC0415

    settings = settings_of(context)
    row = keep(settings, open_database(settings), folder, _now())
    told = f"Model {row.name} {row.version} ({row.digest[:12]}) is registered as a {row.state}."
    _tell_row(told, {"registered": row}, as_json=as_json)


@models.command()
def compare(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    model: Wanted,
    other: Annotated[str, typer.Option("--with", help="Model to compare with; else the one in use.")] = "",
    images: Images = None,
    positives: Positives = None,
    negatives: Negatives = None,
    patients: Patients = None,
    manifest: Manifest = None,
    test_set: TestSet = "",
    studies: Studies = None,
    as_json: AsJson = False,
) -> None:
    """Compare a candidate with the model in use on one test set; nothing is changed."""
    from lungnode.cli._evaluated import find_place  # noqa: PLC0415 - when called
    from lungnode.cli._promotion import measure  # noqa: PLC0415
    from lungnode.cli.studies import open_database  # noqa: PLC0415

    source = _source(images, positives, negatives, patients, manifest, test_set)
    if source is None:
        raise typer.BadParameter("name a test set: --test-set, --manifest, or --images with two lists.")
    settings = settings_of(context)
    places = find_place(settings, other), find_place(settings, model)
    measured = measure(settings, open_database(settings), places, source, studies=studies)
    _tell(measured.record(), as_json=as_json)


@models.command()
def promote(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    model: Wanted,
    images: Images = None,
    positives: Positives = None,
    negatives: Negatives = None,
    patients: Patients = None,
    manifest: Manifest = None,
    test_set: TestSet = "",
    studies: Studies = None,
    force: Annotated[bool, typer.Option("--force", help="Promote a worse or untested one.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is forced; kept in the audit table.")] = "",
    as_json: AsJson = False,
) -> None:
    """Compare a candidate with the model in use; unless it is worse, workers analyse with it from now on."""
    from lungnode.cli._promotion import Request, run_promotion  # noqa: PLC0415 - when called

    if force != bool(reason.strip()):
        raise typer.BadParameter("--force needs --reason TEXT, and the other way round.")
    source = _source(images, positives, negatives, patients, manifest, test_set)
    request = Request(model, source, studies, reason.strip())
    record, refusal = run_promotion(settings_of(context), request, _now())
    _tell(record, as_json=as_json)
    if refusal:
        raise UnusableError(refusal)
    if not as_json:
        candidate = record["candidate"]
        typer.echo(
            f"Model {candidate['name']} {candidate['version']} is active; workers take it up by themselves."
        )


@models.command()
def rollback(context: typer.Context, as_json: AsJson = False) -> None:
    """Make the model that was active before the active one again."""
    from db.registry import place_of, roll_back  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415
    from lungnode.cli._promotion import refuse_pinned  # noqa: PLC0415
    from lungnode.cli.studies import open_database  # noqa: PLC0415
    from lungnode.model_folder import verified  # noqa: PLC0415

    settings = settings_of(context)
    refuse_pinned(settings)
    with transaction(open_database(settings)) as session:
        left, back = roll_back(session, _now())
        verified(place_of(back, settings))  # else the transaction is rolled back
    told = (
        f"Model {back.name} {back.version} ({back.digest[:12]}) is active again, "
        f"instead of {left.name} {left.version}."
    )
    _tell_row(told, {"active": back, "instead_of": left}, as_json=as_json)


@models.command()
def shadow(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="As for promote.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Let no model run in the shadow.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Compare what both models said.")] = False,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="With --report: draw their probabilities.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a model judge each study beside the active one: stored and compared, never sent."""
    from lungnode.cli._shadow import print_report, start, stop, tell  # noqa: PLC0415 - when called

    settings = settings_of(context)
    if figure and not report:
        raise typer.BadParameter("--figure belongs to --report.")
    if report and not off:
        print_report(settings, model, figure, as_json=as_json)
    elif off and not (report or model):
        _tell_row(*stop(settings, _now()), as_json=as_json)
    elif model and not off:
        _tell_row(*start(settings, model, _now()), as_json=as_json)
    elif not off:
        _tell_row(*tell(settings), as_json=as_json)
    else:
        raise typer.BadParameter("--off stands alone.")


def _source(
    images: Path | None,
    positives: Path | None,
    negatives: Path | None,
    patients: Path | None,
    manifest: Path | None,
    test_set: str,
) -> "Source | None":
    """Return where the test samples come from; None where nothing is named."""
    from lungnode.cli._evaluated import Source  # noqa: PLC0415 - when called

    if not any((images, positives, negatives, patients, manifest, test_set)):
        return None
    source = Source(images, positives, negatives, patients, manifest, "test" if manifest else "", test_set)
    problem = source.problem()
    if problem:
        raise typer.BadParameter(problem)
    return source


def _tell(record: dict[str, Any], *, as_json: bool) -> None:
    from lungnode.cli._model_views import print_comparison  # noqa: PLC0415 - when called

    if as_json:
        typer.echo(json.dumps(record, indent=2))
    elif "auc" in record:
        print_comparison(record)


def _tell_row(told: str, rows: "Mapping[str, RegisteredModel | None]", *, as_json: bool) -> None:
    """Say a sentence; as JSON, the models that it is about."""
    if not as_json:
        typer.echo(told)
        return
    names = ("name", "version", "digest", "state")
    document = {
        key: None if row is None else {name: getattr(row, name) for name in names}
        for key, row in rows.items()
    }
    typer.echo(json.dumps(document, indent=2))


def _now() -> datetime:
    return datetime.now(UTC)
