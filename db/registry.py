"""The registry: which model is active, which one runs in the shadow, and which was active before.

The caller owns the transaction; every change leaves its audit event in it. The setting `analysis.model` pins
a model; without it the active one is in use, and before the first promotion the one that Lungnode ships.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.audit import record
from db.models import ModelState, RegisteredModel
from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, ModelInfo, Place
from lungnode.settings import Settings

_SHORTEST: Final = 8  # characters of a digest that name a model


@dataclass(frozen=True)
class Promotion:
    """Why a model becomes the active one."""

    comparison: dict[str, Any] = field(default_factory=dict)  # with its predecessor; empty: none was made
    forced: bool = False
    reason: str = ""  # of who forces it


def model_in_use(session: Session, settings: Settings) -> Place:
    """Return which model analyses studies now."""
    if settings.analysis.model is not None:
        return Place(settings.analysis.model)
    model = active_model(session)
    return Place(SHIPPED_MODEL) if model is None else place_of(model, settings)


def place_of(model: RegisteredModel, settings: Settings) -> Place:
    """Return where a registered model lies."""
    return Place(settings.models / model.path, model.digest)


def list_models(session: Session) -> Sequence[RegisteredModel]:
    """Return all registered models, the oldest first."""
    return session.scalars(select(RegisteredModel).order_by(RegisteredModel.id)).all()


def active_model(session: Session) -> RegisteredModel | None:
    """Return the promoted model."""
    return _in_state(session, ModelState.ACTIVE)


def shadow_model(session: Session) -> RegisteredModel | None:
    """Return the model that runs beside the active one."""
    return _in_state(session, ModelState.SHADOW)


def _in_state(session: Session, state: ModelState) -> RegisteredModel | None:
    return session.scalar(select(RegisteredModel).where(RegisteredModel.state == state))


def find_model(session: Session, wanted: str) -> RegisteredModel:
    """Return the model of a name, of a name with its version (`name-version`) or of a digest's beginning.

    Raises:
        UnusableError: There is none, or more than one.
    """
    models = list_models(session)
    found = [model for model in models if _is_called(model, wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(label(model) for model in models) or "none"
        raise UnusableError(f"No registered model is called {wanted}; registered: {known}.")
    several = ", ".join(f"{label(model)} ({model.digest[:12]})" for model in found)
    raise UnusableError(f"{wanted} names more than one model: {several}.")


def _is_called(model: RegisteredModel, wanted: str) -> bool:
    by_digest = len(wanted) >= _SHORTEST and model.digest.startswith(wanted.lower())
    return by_digest or wanted in (model.name, label(model))


def label(model: RegisteredModel) -> str:
    """Return what a person calls the model."""
    return f"{model.name}-{model.version}"


def register(session: Session, info: ModelInfo, path: str, now: datetime) -> RegisteredModel:
    """Take a model into the registry as a candidate; one that is in it stays as it is.

    Raises:
        UnusableError: Another model has its name and version, or it was registered at the same moment.
    """
    same = session.scalar(select(RegisteredModel).where(RegisteredModel.digest == info.digest))
    if same is not None:
        return same
    name = (RegisteredModel.name == info.name, RegisteredModel.version == info.version)
    other = session.scalar(select(RegisteredModel).where(*name))
    if other is not None:
        raise UnusableError(
            f"Another model is registered as {label(other)} ({other.digest[:12]}); "
            "give the new one another version."
        )
    model = RegisteredModel(
        name=info.name,
        version=info.version,
        digest=info.digest,
        path=path,
        state=ModelState.CANDIDATE,
        created_at=now,
    )
    session.add(model)
    _flush(session)
    _note(session, "model registered", model, now)
    return model


def promote(
    session: Session, model: RegisteredModel, predecessor: RegisteredModel, why: Promotion, now: datetime
) -> None:
    """Make `model` the active one, after `predecessor`, which was in use and compared with.

    Raises:
        UnusableError: It is active already, or another one than the predecessor is: somebody else promoted or
            rolled back since the comparison.
    """
    if model.id == predecessor.id:
        raise UnusableError(f"Model {label(model)} is active already.")
    # This locks the predecessor's row: of two promotions at once the second waits here, then finds the first.
    _set(session, predecessor, state=ModelState.RETIRED)
    other = session.scalar(select(RegisteredModel.id).where(RegisteredModel.state == ModelState.ACTIVE))
    if other is not None:
        raise UnusableError("Another model became active since the comparison; compare and promote again.")
    _leave_shadow(session, model, now)
    _set(
        session,
        model,
        state=ModelState.ACTIVE,
        activated_at=now,
        predecessor_id=predecessor.id,
        comparison=why.comparison,
    )
    details: dict[str, Any] = {"predecessor": predecessor.digest, "comparison": why.comparison}
    if why.forced:
        details |= {"forced": True, "reason": why.reason}
    _note(session, "model promoted", model, now, **details)


def roll_back(session: Session, now: datetime, reason: str = "") -> tuple[RegisteredModel, RegisteredModel]:
    """Make the predecessor active again; return the model that was active and the one that is.

    The audit trail keeps the reason.

    Raises:
        UnusableError: No registered model is active, it has no predecessor, or somebody else changed it.
    """
    model = active_model(session)
    if model is None:
        raise UnusableError("No promoted model is active, so there is nothing to roll back.")
    if model.predecessor_id is None:
        raise UnusableError(f"Model {label(model)} has no predecessor to roll back to.")
    predecessor = session.get_one(RegisteredModel, model.predecessor_id)
    # The way back is used up: going back and forth would never reach the models before.
    _set(session, model, state=ModelState.RETIRED, predecessor_id=None)
    _leave_shadow(session, predecessor, now)
    _set(session, predecessor, state=ModelState.ACTIVE, activated_at=now)
    why = {"reason": reason} if reason else {}
    _note(session, "model rolled back", model, now, to=predecessor.digest, **why)
    return model, predecessor


def start_shadow(session: Session, model: RegisteredModel, now: datetime) -> None:
    """Let `model` run beside the active one, instead of any other.

    Raises:
        UnusableError: It is the active one.
    """
    if model.state == ModelState.ACTIVE:
        raise UnusableError(f"Model {label(model)} is active; only another one can run in its shadow.")
    if model.state == ModelState.SHADOW:
        return
    end_shadow(session, now)
    _set(session, model, state=ModelState.SHADOW)
    _note(session, "model put into the shadow", model, now)


def end_shadow(session: Session, now: datetime) -> RegisteredModel | None:
    """Let no model run in the shadow; return the one that did."""
    model = shadow_model(session)
    if model is not None:
        was_active = model.activated_at is not None
        _set(session, model, state=ModelState.RETIRED if was_active else ModelState.CANDIDATE)
        _note(session, "model taken out of the shadow", model, now)
    return model


def _leave_shadow(session: Session, model: RegisteredModel, now: datetime) -> None:
    if model.state == ModelState.SHADOW:
        end_shadow(session, now)


def _set(session: Session, model: RegisteredModel, **values: Any) -> None:
    """Change a row at once: in what order a flush would change several is not ours to say.

    Raises:
        UnusableError: Somebody else made another model active, or put it into the shadow, at the same moment.
    """
    try:
        session.execute(update(RegisteredModel).where(RegisteredModel.id == model.id).values(**values))
    except IntegrityError as error:
        raise _changed_meanwhile(error) from error


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        raise _changed_meanwhile(error) from error


def _changed_meanwhile(_error: IntegrityError) -> UnusableError:
    return UnusableError("Somebody else changed the models at the same moment; look at them and try again.")


def _note(session: Session, action: str, model: RegisteredModel, now: datetime, **details: Any) -> None:
    record(session, action, model.digest, now, name=model.name, version=model.version, **details)
