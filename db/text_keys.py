"""How names are compared in searches: without case, accents and the punctuation of a Person Name."""

import re
import unicodedata
from typing import Final

LONGEST: Final = 255
_SEPARATORS: Final = re.compile(r"[\s^=,;]+")


def search_key(name: str) -> str:
    """Return what a Person Name is searched by: `Müller^Änne=…` becomes `muller anne …`."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(each for each in decomposed if not unicodedata.combining(each))
    return _SEPARATORS.sub(" ", plain).strip()[:LONGEST]
