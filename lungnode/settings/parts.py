"""What the parts of the settings have in common."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

# Source: PS3.5 6.2, AE: 16 characters at most, no backslash, no control characters, not only spaces.
AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
Network = IPv4Network | IPv6Network
Asking = Literal["no", "count", "fetch"]


T = TypeVar("T")


def _all_different(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError("each may be named once")
    return values


# A choice in an order: at least one, each once.
Chosen = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_all_different)]


class Frozen(BaseModel):
    """Read once, never changed, and refusing names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
