"""The REST interface, version 1."""

from typing import Final

from daemon.web.api import accounts, deliveries, feedback, models, openapi, outputs, results, studies, uploads

API: Final = (
    openapi.router,
    studies.api,
    results.api,
    outputs.api,
    uploads.api,
    feedback.api,
    deliveries.api,
    models.api,
    accounts.api,
)
