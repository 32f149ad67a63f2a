"""What `lungnode models promote` and `compare` do: measure both models on one test set, judge, promote."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from db.models import RegisteredModel
from db.registry import Promotion, find_model, list_models, promote, register
from db.session import transaction
from lungnode.cli._evaluated import Source, collect, evaluate_at, find_place
from lungnode.cli._known import place_in_use
from lungnode.cli.studies import open_database
from lungnode.errors import SettingsError, UnusableError
from lungnode.model_folder import ModelInfo, Place, verified
from lungnode.runtime import load_model
from lungnode.settings import Settings
from trainer.compare import Comparison, Judged, compare
from trainer.document import Level, scored
from trainer.evaluate import Evaluation
from trainer.promotion import (
    TestData,
    check_own_test_split,
    check_same_test_set,
    check_unseen,
    find_samples,
    stored_evaluations,
)
from trainer.registry import candidate_folder, keep_model


@dataclass(frozen=True)
class Measured:
    """A candidate and the active model on the same test set."""

    active: ModelInfo
    candidate: ModelInfo
    data: TestData
    level: Level
    comparison: Comparison

    def record(self) -> dict[str, Any]:
        """Return it as JSON knows it; it is stored with the promoted model."""
        return {
            "active": named(self.active),
            "candidate": named(self.candidate),
            "data": {"digest": self.data.digest, "test_set": self.data.name or None},
            "level": self.level,
            **self.comparison.record(),
        }


def named(info: ModelInfo) -> dict[str, Any]:
    """Return what tells a model from every other."""
    return {
        "name": info.name,
        "version": info.version,
        "digest": info.digest,
        "threshold": info.threshold,
    }


def refuse_pinned(settings: Settings) -> None:
    """See that promoting has an effect.

    Raises:
        SettingsError: The setting `analysis.model` pins a model.
    """
    if settings.analysis.model is not None:
        raise SettingsError(
            f"The setting analysis.model pins the model in {settings.analysis.model}, whatever is promoted; "
            "take it out of the settings first."
        )


def measure(
    settings: Settings, engine: Engine, places: tuple[Place, Place], source: Source, *, studies: bool | None
) -> Measured:
    """Compare two models, the active one first, on the same test set.

    Raises:
        UnusableError: They are the same, the test set is not the one it was, or was trained on.
    """
    infos = verified(places[0]), verified(places[1])
    if infos[0].digest == infos[1].digest:
        raise UnusableError(f"{infos[1].name} {infos[1].version} would be compared with itself.")
    found = collect(settings, source)
    for note in found.notes:
        sys.stderr.write(f"{note}\n")
    trained = find_samples(places[1].folder, settings.data / "runs")
    if trained is not None:
        check_unseen(trained, found.samples)
    active, candidate = (evaluate_at(place, settings, found) for place in places)
    data = TestData(active.digest, active.test_set)
    with transaction(engine) as session:
        _check_stored(session, data, places, infos)
    if source.manifest:
        check_own_test_split(data, places[1].folder)
    level: Level = "studies" if studies or (studies is None and source.test_set) else "slices"
    return Measured(*infos, data, level, _compared(active, candidate, level))


def _check_stored(
    session: Session, data: TestData, places: Sequence[Place], infos: Sequence[ModelInfo]
) -> None:
    kept = {row.digest: row.comparison for row in list_models(session)}
    for place, info in zip(places, infos, strict=True):
        stored = [*stored_evaluations(place.folder), kept.get(info.digest, {})]
        check_same_test_set(data, stored, f"{info.name} {info.version}")


def _compared(active: Evaluation, candidate: Evaluation, level: Level) -> Comparison:
    first, second = scored(active, level), scored(candidate, level)
    judged = (
        Judged(each.scores, info.threshold) for each, info in ((first, active.info), (second, candidate.info))
    )
    return compare(first.labels, first.groups, *judged)


def prove_usable(place: Place) -> ModelInfo:
    """See that a model that nothing was measured with at least fits its network.

    Raises:
        UnusableError: It does not.
    """
    info = verified(place)
    load_model(place.folder)
    return info


def make_active(
    settings: Settings, engine: Engine, places: tuple[Place, Place], why: Promotion, now: datetime
) -> RegisteredModel:
    """Keep two models in the registry, the one in use first, and make the second the active one.

    Raises:
        UnusableError: Another model became active meanwhile, or a folder cannot be kept.
        UnavailableError: The disk is full, or the database away.
    """
    # One that is registered needs no look at its files: they may be what is wrong with it.
    kept = [None if place.digest else keep_model(place.folder, settings.models) for place in places]
    with transaction(engine) as session:
        predecessor, model = (
            register(session, *copied, now) if copied else find_model(session, place.digest)
            for place, copied in zip(places, kept, strict=True)
        )
        promote(session, model, predecessor, why, now)
    return model


def keep(settings: Settings, engine: Engine, folder: Path, now: datetime) -> RegisteredModel:
    """Take a model's folder, or a run's, into the registry."""
    info, path = keep_model(candidate_folder(folder), settings.models)
    with transaction(engine) as session:
        return register(session, info, path, now)


@dataclass(frozen=True)
class Request:
    """What the operator asks for."""

    model: str
    source: Source | None  # None: no test
    studies: bool | None
    reason: str = ""  # of a promotion that is forced


def run_promotion(settings: Settings, request: Request, now: datetime) -> tuple[dict[str, Any], str]:
    """Compare and promote; return what was found, and why it was refused, empty when it was not.

    Raises:
        SettingsError: A setting pins the model.
        UnusableError: A model, a test set or a slice cannot be used.
    """
    refuse_pinned(settings)
    engine = open_database(settings)
    places = place_in_use(settings), find_place(settings, request.model)
    record, objections = _judge(settings, engine, places, request)
    forced = bool(objections) and bool(request.reason)
    if objections and not forced:
        return record | {"promoted": False}, (
            f"{record['candidate']['name']} {record['candidate']['version']} is not promoted: "
            f"{' '.join(objections)} --force --reason TEXT promotes it all the same."
        )
    why = Promotion(record, forced=forced, reason=request.reason if forced else "")
    make_active(settings, engine, places, why, now)
    return record | {"promoted": True, "forced": forced, "reason": why.reason}, ""


def _judge(
    settings: Settings, engine: Engine, places: tuple[Place, Place], request: Request
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what is stored of the comparison, and what speaks against the candidate."""
    if request.source is None:
        info = prove_usable(places[1])
        return {"candidate": named(info)}, ("No test set was named, so nothing was compared.",)
    measured = measure(settings, engine, places, request.source, studies=request.studies)
    return measured.record(), measured.comparison.objections
