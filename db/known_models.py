"""The models that a node knows: registered, pinned by a setting, shipped; the caller owns the transaction."""

from typing import Any, Final

from sqlalchemy.orm import Session

from db.models import ModelState, RegisteredModel
from db.registry import list_models, place_of
from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, Place, verified
from lungnode.settings import Settings

SHIPPED: Final = "shipped"  # name of the model that Lungnode comes with, whatever the registry calls it
_SHORTEST: Final = 8  # characters of a digest that name a model


def known_models(session: Session | None, settings: Settings) -> list[dict[str, Any]]:
    """Describe every model: the one in use first, the others from the newest on; without a database, too."""
    known = [_registered(row, settings) for row in (list_models(session) if session else ())]
    for folder, state in ((SHIPPED_MODEL, SHIPPED), (settings.analysis.model, "pinned")):
        if folder is not None:
            described = _described(Place(folder), state)
            same = [model for model in known if described["digest"] == model["digest"] != ""]
            if not same:
                known.append(described)
            elif state == "pinned":
                same[0]["state"] = state
    used = _in_use(known)
    used["active"] = True
    return [used, *(model for model in reversed(known) if model is not used)]


def pick_model(known: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """Return the model of a name, name-version or digest; without any, the one in use.

    Raises:
        UnusableError: There is none.
    """
    if wanted == SHIPPED:
        wanted = verified(Place(SHIPPED_MODEL)).digest
    found = [model for model in known if _is_called(model, wanted)] if wanted else known[:1]
    if not found:
        names = ", ".join(f"{model['name']}-{model['version']}" for model in known)
        raise UnusableError(f"No model is called {wanted}; there are {names}.")
    return found[0]


def _in_use(known: list[dict[str, Any]]) -> dict[str, Any]:
    """Find the model in use, as `db.registry.model_in_use` does."""
    for state in ("pinned", ModelState.ACTIVE, SHIPPED):
        for model in known:
            if model["state"] == state:
                return model
    # The shipped one, which was registered and is not active yet.
    digest = verified(Place(SHIPPED_MODEL)).digest
    return next(model for model in known if model["digest"] == digest)


def _is_called(model: dict[str, Any], wanted: str) -> bool:
    names = (model["name"], f"{model['name']}-{model['version']}")
    return wanted in names or (len(wanted) >= _SHORTEST and model["digest"].startswith(wanted))


def _registered(row: RegisteredModel, settings: Settings) -> dict[str, Any]:
    return _described(place_of(row, settings), row.state) | {
        "name": row.name,
        "version": row.version,
        "digest": row.digest,
        "activated_at": row.activated_at.isoformat() if row.activated_at else None,
        "comparison": row.comparison,
    }


def _described(place: Place, state: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": "",
        "version": "",
        "digest": "",
        "threshold": None,
        "path": str(place.folder.resolve()),
        "active": False,
        "state": state,
        "activated_at": None,
        "comparison": {},
        "problem": "",
    }
    try:
        info = verified(place)
    except UnusableError as error:
        return record | {"problem": str(error)}
    said = {"name": info.name, "version": info.version, "digest": info.digest, "threshold": info.threshold}
    return record | said
