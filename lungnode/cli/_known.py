"""The models that a node knows, also one that was never started."""

from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from db.known_models import SHIPPED, pick_model
from db.known_models import known_models as describe_all
from db.registry import model_in_use
from db.session import transaction
from lungnode.cli.studies import open_database
from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, Place
from lungnode.settings import Settings

__all__ = ["SHIPPED", "known_model", "known_models", "place_in_use"]


def known_models(settings: Settings) -> list[dict[str, Any]]:
    """Describe every model: the one in use first, the others from the newest on."""
    if not _was_started(settings):
        return describe_all(None, settings)
    with transaction(open_database(settings)) as session:
        return describe_all(session, settings)


def known_model(settings: Settings, wanted: str) -> dict[str, Any]:
    """Return the model of a name, name-version or digest; without any, the one in use.

    Raises:
        UnusableError: There is none, or its files are broken.
    """
    found = pick_model(known_models(settings), wanted)
    if found["problem"]:
        raise UnusableError(found["problem"])
    return found


def place_in_use(settings: Settings) -> Place:
    """Return where the model in use lies; a node that was never started uses the one that Lungnode ships.

    Raises:
        UnavailableError: The database is away.
    """
    if settings.analysis.model is not None:
        return Place(settings.analysis.model)
    if not _was_started(settings):
        return Place(SHIPPED_MODEL)
    with transaction(open_database(settings)) as session:
        return model_in_use(session, settings)


def _was_started(settings: Settings) -> bool:
    """Tell whether there is a database, without making one."""
    database = make_url(settings.database)
    return database.get_backend_name() != "sqlite" or Path(database.database or "").exists()
