"""What `lungnode models shadow` does: start, stop, and compare what it said with what was reported."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import typer
from rich.table import Table
from sqlalchemy.orm import Session

from db.label_policy import DEFAULT_POLICY
from db.labels import labelled_studies
from db.models import RegisteredModel
from db.registry import end_shadow, find_model, model_in_use, place_of, shadow_model, start_shadow
from db.session import transaction
from db.shadows import Pair, shadow_pairs
from lungnode.cli._known import SHIPPED
from lungnode.cli._model_views import print_comparison
from lungnode.cli._promotion import keep
from lungnode.cli.studies import open_database
from lungnode.cli.study_views import wide_console
from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, verified
from lungnode.settings import Settings
from trainer.agreement import agreement, scatter
from trainer.compare import Judged, compare
from trainer.document import plain
from trainer.scatter_figure import Side, draw_scatter

SHOWN: Final = 20  # changed verdicts, at most, in the table


Told = tuple[str, dict[str, RegisteredModel | None]]  # a sentence, and the model that it is about


def start(settings: Settings, wanted: str, now: datetime) -> Told:
    """Put a model into the shadow; a folder is registered first.

    Raises:
        UnusableError: It is unknown, broken, or the one in use.
    """
    engine = open_database(settings)
    folder = SHIPPED_MODEL if wanted == SHIPPED else Path(wanted)
    kept = keep(settings, engine, folder, now) if folder.is_dir() else None
    with transaction(engine) as session:
        model = find_model(session, kept.digest if kept else wanted)
        info = verified(place_of(model, settings))
        if verified(model_in_use(session, settings)).digest == info.digest:
            raise UnusableError(f"Model {info.name} {info.version} is in use; its shadow would say the same.")
        start_shadow(session, model, now)
    told = f"Model {_title(model)} judges each study in the shadow from now on; nothing of it is sent."
    return told, {"shadow": model}


def stop(settings: Settings, now: datetime) -> Told:
    """Let no model run in the shadow."""
    with transaction(open_database(settings)) as session:
        model = end_shadow(session, now)
    told = "No model was in the shadow." if model is None else f"Model {_title(model)} left the shadow."
    return told, {"left": model}


def tell(settings: Settings) -> Told:
    """Say which model is in the shadow."""
    with transaction(open_database(settings)) as session:
        model = shadow_model(session)
    told = "No model is in the shadow." if model is None else f"Model {_title(model)} is in the shadow."
    return told, {"shadow": model}


def _title(model: RegisteredModel) -> str:
    return f"{model.name} {model.version} ({model.digest[:12]})"


def print_report(settings: Settings, wanted: str, figure: Path | None, *, as_json: bool) -> None:
    """Compare what a shadow said with what was reported; with `figure` also as a picture.

    Raises:
        UnusableError: There is no such model, or none in the shadow, or the picture cannot be written.
    """
    with transaction(open_database(settings)) as session:
        model = find_model(session, wanted) if wanted else shadow_model(session)
        if model is None:
            raise UnusableError("No model is in the shadow; name the one whose results you want.")
        record = report(session, model)
        if figure is not None:
            _draw(session, model, record, figure)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    else:
        _print(record)


def report(session: Session, model: RegisteredModel) -> dict[str, Any]:
    """Return the figures of a shadow against the model that was active last."""
    found = shadow_pairs(session, model.digest)
    pairs = [pair for pair in found if pair.active_digest == found[-1].active_digest]
    judged = _judged(pairs)
    said = agreement([p.active.verdict for p in judged], [p.shadow.verdict for p in judged])
    spread = scatter(*_probabilities(judged))
    return {
        "shadow": {"name": model.name, "version": model.version, "digest": model.digest},
        "active": {
            "model": pairs[-1].active_model if pairs else "",
            "digest": pairs[-1].active_digest if pairs else "",
        },
        "n": said.n,
        "failed": len(pairs) - len(judged),
        "beside_other_models": len(found) - len(pairs),
        "agreement": plain(said.share),
        "kappa": plain(said.kappa),
        "verdicts": said.table,
        "changed": [_changed(pair) for pair in judged if pair.active.verdict != pair.shadow.verdict],
        "probabilities": {name: plain(value) for name, value in asdict(spread).items()} if spread else None,
        "labelled": _labelled(session, judged),
    }


def _judged(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs of which both models said a probability."""
    return [p for p in pairs if p.shadow.probability is not None and p.active.probability is not None]


def _draw(session: Session, model: RegisteredModel, record: dict[str, Any], path: Path) -> None:
    active = record["active"]
    found = shadow_pairs(session, model.digest)
    pairs = _judged([pair for pair in found if pair.active_digest == active["digest"]])
    if not pairs:
        raise UnusableError("The shadow has judged no study yet, so there is nothing to draw.")
    first, second = _probabilities(pairs)
    rulings = {each.study_instance_uid: each.ruling for each in labelled_studies(session, DEFAULT_POLICY)}
    labels = [str(r.value or "") if (r := rulings.get(pair.study_instance_uid)) else "" for pair in pairs]
    sides = (
        Side(active["model"], first, pairs[-1].active.threshold),
        Side(f"{model.name} {model.version}", second, pairs[-1].shadow.threshold),
    )
    try:
        draw_scatter(*sides, labels, path)
    except (OSError, ValueError) as error:  # a ValueError: of a name without .png or another ending it knows
        raise UnusableError(f"The figure {path} cannot be written: {error}.") from error


def _probabilities(pairs: Sequence[Pair]) -> tuple[Any, Any]:
    both = [(pair.active.probability, pair.shadow.probability) for pair in pairs]
    first, second = np.array(both, np.float64).reshape(-1, 2).T
    return first, second


def _changed(pair: Pair) -> dict[str, Any]:
    return {
        "study_instance_uid": pair.study_instance_uid,
        "revision": pair.revision,
        "active": asdict(pair.active),
        "shadow": asdict(pair.shadow),
    }


def _labelled(session: Session, pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Compare both models on the studies whose labels agree; None where a class is missing."""
    rulings = {each.study_instance_uid: each.ruling for each in labelled_studies(session, DEFAULT_POLICY)}
    known = [pair for pair in pairs if (r := rulings.get(pair.study_instance_uid)) and r.value]
    labels = np.array([rulings[pair.study_instance_uid].value == "positive" for pair in known], np.bool_)
    if not labels.any() or labels.all():
        return None
    first, second = _probabilities(known)
    thresholds = known[-1].active.threshold, known[-1].shadow.threshold
    judged = Judged(first, thresholds[0]), Judged(second, thresholds[1])
    return {"policy": DEFAULT_POLICY, **compare(labels, [p.patient for p in known], *judged).record()}


def _print(record: dict[str, Any]) -> None:
    shadow = record["shadow"]
    console = wide_console()
    title = f"{shadow['name']} {shadow['version']} in the shadow of {record['active']['model'] or 'no model'}"
    console.print(f"{title}: {record['n']} studies, {record['failed']} without a result.", markup=False)
    if record["beside_other_models"]:
        console.print(
            f"{record['beside_other_models']} more beside models that were active before are left out."
        )
    if not record["n"]:
        return
    kappa = "undefined" if record["kappa"] is None else f"{record['kappa']:.3f}"
    console.print(f"The verdicts agree on {record['agreement']:.1%}; Cohen's kappa is {kappa}.")
    spread = record["probabilities"]
    correlation = "undefined" if spread["correlation"] is None else f"{spread['correlation']:.3f}"
    console.print(
        f"Probabilities: correlation {correlation}, shadow minus active {spread['mean_difference']:+.3f} "
        f"(SD {spread['deviation']:.3f}, largest {spread['largest']:.3f})."
    )
    if record["changed"]:
        console.print(_table(record["changed"]))
    if record["labelled"]:
        _print_labelled(record)


def _table(changed: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"{len(changed)} other verdicts, the last {min(len(changed), SHOWN)} of them")
    for heading in ("study", "revision", "active", "shadow"):
        table.add_column(heading, overflow="fold")
    for each in changed[-SHOWN:]:
        said = (f"{s['verdict']} {s['probability']:.3f}" for s in (each["active"], each["shadow"]))
        table.add_row(each["study_instance_uid"], str(each["revision"]), *said)
    return table


def _print_labelled(record: dict[str, Any]) -> None:
    name, _, version = record["active"]["model"].rpartition(" ")
    sides = {"active": {"name": name, "version": version}, "candidate": record["shadow"]}
    data = {"test_set": f"of labelled studies ({record['labelled']['policy']})", "digest": ""}
    print_comparison({**record["labelled"], **sides, "data": data, "level": "studies"})
