"""Commands: labels."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lungnode.cli import settings_of
from lungnode.cli.label_views import print_studies
from lungnode.cli.studies import open_database
from lungnode.cli.study_views import wide_console
from lungnode.cli.test_sets import AsJson, Policy, freeze, frozen
from lungnode.errors import UnusableError

if TYPE_CHECKING:
    from db.label_policy import Opinion
    from db.models import Label

labels = typer.Typer(help="Labels of studies, and the test sets frozen from them.", no_args_is_help=True)
Uid = Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")]
_PROBLEMS: Final = 20  # that are printed; the JSON document has all


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    labels.command()(freeze)
    labels.command()(frozen)
    app.add_typer(labels, name="labels")


@labels.command("import")
def import_(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV file; docs/training.md has its columns.")],
    source: Annotated[
        str, typer.Option(help="Source of lines that name none: rt-pcr, reader, clinical or import.")
    ] = "import",
    reader: Annotated[str, typer.Option(help="Reader of lines that name none.")] = "",
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out lines whose study is not here.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read labels from a CSV file: all of its lines, or none when one cannot be used."""
    from db.label_file import read_label_file  # noqa: PLC0415 - when called
    from db.label_import import apply_import, plan_import  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    _known_source(source)
    read = read_label_file(file, source, reader)
    with transaction(open_database(settings_of(context))) as session:
        plan = plan_import(session, read.lines)
        unusable = sorted((*read.problems, *plan.problems, *(() if skip_unknown else plan.unknown)))
        done = None if unusable else apply_import(session, plan, read.digest, _now())
        if dry_run:
            session.rollback()
    document: dict[str, Any] = {
        "file": str(file),
        "dry_run": dry_run,
        **({written.value: count for written, count in done.counts.items()} if done else {}),
        "updates": list(done.updates) if done else [],
        "skipped": [str(problem) for problem in plan.unknown] if skip_unknown else [],
        "problems": [str(problem) for problem in unusable],
        "unread_columns": list(read.unread),
    }
    _report_import(document, as_json=as_json)
    if unusable:
        count = "a line" if len(unusable) == 1 else f"{len(unusable)} lines"
        raise UnusableError(f"Nothing was written: {file} has {count} that cannot be used.")


def _report_import(document: dict[str, Any], *, as_json: bool) -> None:
    for name in document["unread_columns"]:
        typer.echo(f"The column {name} means nothing here and is not read.", err=True)
    _complain(document["problems"])
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    _complain(document["skipped"])
    for update in document["updates"]:
        by = ", ".join(filter(None, (update[name] for name in ("source", "reader", "date"))))
        typer.echo(
            f"Line {update['line']}: study {update['study_instance_uid']}, {by}: "
            f"{update['before']['label']} becomes {update['label']}."
        )
    if not document["problems"]:
        would = "Would be: " if document["dry_run"] else ""
        typer.echo(
            f"{would}{document['added']} labels added, {document['updated']} updated, "
            f"{document['unchanged']} unchanged; {len(document['skipped'])} of unknown studies skipped."
        )


def _complain(sentences: list[str]) -> None:
    for sentence in sentences[:_PROBLEMS]:
        typer.echo(sentence, err=True)
    if len(sentences) > _PROBLEMS:
        typer.echo(f"And {len(sentences) - _PROBLEMS} more; --json lists all.", err=True)


@labels.command()
def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A new CSV file; without it, standard output.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder for the labelled studies' CT images, labels and a manifest.")
    ] = None,
    identified: Annotated[
        bool,
        typer.Option("--identified/--deidentified", help="Images and readers as received, with all names."),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check de-identified copies with a second tool.")
    ] = True,
    policy: Policy = "rt-pcr-first",
    as_json: AsJson = False,
) -> None:
    """Write every label as CSV, as `labels import` reads it; with --images the images too, de-identified."""
    from db import audit  # noqa: PLC0415 - when called
    from db.label_file import format_labels  # noqa: PLC0415 - when called
    from db.labels import described, every_label  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called
    from lungnode.cli._exports import report  # noqa: PLC0415 - when called
    from lungnode.cli._label_images import LabelExport  # noqa: PLC0415 - when called

    engine = open_database(settings_of(context))
    if images:
        if file:
            raise typer.BadParameter("With --images the labels are in that folder; name no other file.")
        wanted = LabelExport(settings_of(context), engine, images, policy)
        report(
            wanted.identified() if identified else wanted.deidentified(check=verify), images, as_json=as_json
        )
        return
    with transaction(engine) as session:
        rows = every_label(session)
        audit.record(session, "labels exported", "csv", _now(), labels=len(rows))
        if file:
            _write_new(file, format_labels(rows))
    if as_json:
        records = [{"study_instance_uid": uid, **described(opinion)} for uid, opinion in rows]
        typer.echo(json.dumps({"labels": records}, indent=2))
    elif file:
        typer.echo(f"{len(rows)} labels are in {file}.")
    else:
        typer.echo(format_labels(rows), nl=False)


def _write_new(file: Path, text: str) -> None:
    if file.exists():
        raise UnusableError(f"{file} exists already; export into a new file.")
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.rename(file)
    except OSError as error:
        raise UnusableError(f"The labels cannot be written to {file}: {error.strerror}.") from error


@labels.command("set")
def set_(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    uid: Uid,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="positive, negative or uncertain.")],
    source: Annotated[str, typer.Option(help="rt-pcr, reader, clinical or import.")],
    reader: Annotated[str, typer.Option(help="Who says so; a reader's label needs it.")] = "",
    date: Annotated[str, typer.Option(help="When, YYYY-MM-DD.")] = "",
    symptomatic: Annotated[
        bool | None, typer.Option("--symptomatic/--asymptomatic", help="Whether the patient had symptoms.")
    ] = None,
) -> None:
    """Label one study; the same source, reader and date again changes that label."""
    from db.label_file import parse_opinion  # noqa: PLC0415 - when called
    from db.labels import set_label  # noqa: PLC0415 - when called
    from db.queries import get_study  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called
    from db.test_sets import sets_that_hold  # noqa: PLC0415 - when called

    symptoms = {True: "symptomatic", False: "asymptomatic", None: ""}[symptomatic]
    cells = {"label": value, "source": source, "reader": reader, "date": date, "symptomatic": symptoms}
    try:
        opinion = parse_opinion(cells)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from error
    with transaction(open_database(settings_of(context))) as session:
        study = get_study(session, uid)
        written = set_label(session, study, opinion, _now())
        frozen_in = sets_that_hold(session, study)
    typer.echo(f"The label of study {uid} is {written}: {opinion.value}, {_by(opinion)}.")
    if frozen_in:
        typer.echo(f"The test set {', '.join(frozen_in)} keeps the label it was frozen with.", err=True)


@labels.command()
def delete(
    context: typer.Context,
    uid: Uid,
    source: Annotated[str, typer.Option(help="Only this source.")] = "",
    reader: Annotated[str, typer.Option(help="Only this reader.")] = "",
    date: Annotated[str, typer.Option(help="Only this date, YYYY-MM-DD.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete labels of one study; the audit table keeps what they said."""
    from db.labels import delete_labels, opinion_of  # noqa: PLC0415 - when called
    from db.queries import get_study  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    asked = {
        name: told for name, told in (("source", source), ("reader", reader), ("labelled_on", date)) if told
    }
    engine = open_database(settings_of(context))
    with transaction(engine) as session:
        said = [opinion_of(label) for label in _asked_for(get_study(session, uid).labels, asked)]
    if not said:
        raise UnusableError(f"Study {uid} has no such label.")
    if not yes:
        told = "; ".join(f"{opinion.value}, {_by(opinion)}" for opinion in said)
        typer.confirm(f"Delete of study {uid}: {told}?", abort=True)
    with transaction(engine) as session:
        study = get_study(session, uid)
        delete_labels(session, study, _asked_for(study.labels, asked), _now())
    typer.echo(f"{len(said)} labels of study {uid} are deleted.")


def _asked_for(rows: "list[Label]", asked: dict[str, str]) -> "list[Label]":
    return [row for row in rows if all(getattr(row, name) == told for name, told in asked.items())]


@labels.command("list")
def list_(
    context: typer.Context,
    policy: Policy = "rt-pcr-first",
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Only studies whose labels contradict each other.")
    ] = False,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Studies without any label instead.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many studies.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List labelled studies, with the label that each is trained with under a policy."""
    from db.labels import labelled_studies, unlabelled_studies  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called
    from db.test_sets import frozen_patients  # noqa: PLC0415 - when called
    from lungnode.cli.label_views import counts_of, labelled_record, unlabelled_record  # noqa: PLC0415

    if conflicts and unlabelled:
        raise typer.BadParameter("Say --conflicts or --unlabelled, not both.")
    with transaction(open_database(settings_of(context))) as session:
        frozen = frozen_patients(session)
        ruled = labelled_studies(session, policy)
        bare = unlabelled_studies(session, limit) if unlabelled else []
    wanted = [study for study in ruled if study.ruling.conflict or not conflicts]
    records = [labelled_record(study, frozen) for study in wanted[:limit]]
    if unlabelled:
        records = [unlabelled_record(study, frozen) for study in bare]
    document = {"policy": policy, "counts": counts_of(ruled), "studies": records}
    if len(wanted) > limit and not unlabelled:
        typer.echo(f"{len(wanted) - limit} studies more are not listed: --limit.", err=True)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        print_studies(wide_console(), document)


def _known_source(source: str) -> None:
    from db.label_file import SOURCES  # noqa: PLC0415 - when called

    if not any(source.lower() in words for words in SOURCES.values()):
        raise typer.BadParameter(f"{source}: the sources are {', '.join(SOURCES)}.")


def _by(opinion: "Opinion") -> str:
    return ", ".join(filter(None, (opinion.source, opinion.reader, opinion.labelled_on)))


def _now() -> datetime:
    return datetime.now(UTC)
