"""Pages for people, a module each."""

from typing import Final

from daemon.web.pages import audit, heatmap, models, operations, report, studies, study, upload, users

PAGES: Final = tuple(
    module.router for module in (studies, study, heatmap, report, upload, operations, models, audit, users)
)
