"""The REST interface, version 1."""

from typing import Final

from daemon.web.api import accounts, deliveries, feedback, models, openapi, outputs, results, studies

API: Final = (
    openapi.router,
    studies.api,
    results.api,
    outputs.api,
    feedback.api,
    deliveries.api,
    models.api,
    accounts.api,
)
