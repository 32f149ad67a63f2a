"""DICOMweb (PS3.18): studies are searched (QIDO-RS), retrieved (WADO-RS) and stored (STOW-RS)."""

from typing import Final

from daemon.web.dicomweb import qido, rendered, stow, wado

DICOMWEB: Final = (qido.router, wado.router, rendered.router, stow.router)
