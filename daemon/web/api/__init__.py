"""The REST interface, version 1."""

from typing import Final

from daemon.web.api import (
    accounts,
    audit,
    deliveries,
    destinations,
    feedback,
    models,
    openapi,
    outputs,
    own_account,
    results,
    studies,
    uploads,
)

API: Final = (
    openapi.router,
    studies.api,
    results.api,
    outputs.api,
    uploads.api,
    feedback.api,
    deliveries.api,
    destinations.api,
    models.api,
    accounts.api,
    own_account.api,
    audit.api,
)
