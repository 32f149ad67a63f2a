"""Pages for people, a module each."""

from typing import Final

from daemon.web.pages import audit, models, operations, studies, study, upload, users

PAGES: Final = tuple(module.router for module in (studies, study, upload, operations, models, audit, users))
