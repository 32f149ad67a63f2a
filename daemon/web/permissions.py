"""What may be done, and which role may do it."""

from enum import StrEnum
from typing import Final

from db.models import Role


class Permission(StrEnum):
    """One thing that somebody may do; also the scopes of API tokens."""

    VIEW = "view"  # studies, results, models
    JUDGE = "judge"  # label studies, give feedback
    UPLOAD = "upload"  # have files classified
    STORE = "store"  # add studies by STOW-RS
    OPERATE = "operate"  # retry, reanalyse, promote
    ADMINISTER = "administer"  # accounts, tokens, the audit
    METRICS = "metrics"  # numbers for Prometheus


_VIEWER: Final = frozenset({Permission.VIEW})
_READER: Final = _VIEWER | {Permission.JUDGE, Permission.UPLOAD, Permission.STORE}
_PERMISSIONS: Final = {Role.VIEWER: _VIEWER, Role.READER: _READER, Role.ADMIN: frozenset(Permission)}


def permissions_of(role: str) -> frozenset[Permission]:
    """Return what a role may do."""
    return _PERMISSIONS[Role(role)]
