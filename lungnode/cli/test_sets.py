"""Commands: labels freeze, labels frozen."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lungnode.cli import settings_of
from lungnode.cli.label_views import print_test_sets, test_set_record
from lungnode.cli.studies import open_database
from lungnode.cli.study_views import wide_console

if TYPE_CHECKING:
    from db.test_sets import FrozenSet

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Policy = Annotated[str, typer.Option(help="How the labels of a study become one; see docs/training.md.")]


def freeze(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new test set.")],
    share: Annotated[float, typer.Option(help="Share of the patients of each class.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Draws the patients.")] = 0,
    policy: Policy = "rt-pcr-first",
    as_json: AsJson = False,
) -> None:
    """Freeze patients as a test set: they are measured with and never trained on. It cannot be undone."""
    from db.models import RegisteredModel  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called
    from db.test_sets import Draw  # noqa: PLC0415 - when called
    from db.test_sets import freeze as draw_and_freeze  # noqa: PLC0415 - when called

    with transaction(open_database(settings_of(context))) as session:
        frozen = draw_and_freeze(session, name, Draw(share, seed, policy), datetime.now(UTC))
        models = session.query(RegisteredModel).count()
    if models:
        typer.echo(
            "Models are registered already: those trained on this archive may have seen these patients.",
            err=True,
        )
    _print_test_sets([frozen], as_json=as_json)


def frozen(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Only this test set; in JSON with its studies.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the frozen test sets and check each against its digest."""
    from db.session import transaction  # noqa: PLC0415 - when called
    from db.test_sets import list_test_sets, read_test_set, verify  # noqa: PLC0415 - when called

    with transaction(open_database(settings_of(context))) as session:
        found = [read_test_set(session, name)] if name else list_test_sets(session)
    _print_test_sets(found, as_json=as_json, with_studies=bool(name))
    for each in found:
        verify(each)


def _print_test_sets(found: "list[FrozenSet]", *, as_json: bool, with_studies: bool = False) -> None:
    records = [test_set_record(each, with_studies=with_studies) for each in found]
    if as_json:
        typer.echo(json.dumps({"test_sets": records}, indent=2))
    else:
        print_test_sets(wide_console(), records)
