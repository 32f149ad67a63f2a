"""What happens to which studies."""

from pydantic import Field

from lungnode.settings.parts import Asking, Frozen, Network


class Rule(Frozen):
    """What happens to the studies that match; the first matching rule counts."""

    name: str = Field(min_length=1, description="name that a study records")
    calling_ae_title: str = Field("*", description="pattern (* and ?) on the sender's AE title")
    called_ae_title: str = Field("*", description="pattern on the AE title it called")
    network: Network | None = Field(None, description="the sender's network; empty: all")
    tags: dict[str, str] = Field(
        default_factory=dict, description="patterns by attribute keyword, for example StudyDescription"
    )
    analyse: bool = Field(True, description="false: only archive")
    destinations: tuple[str, ...] | None = Field(None, description="destination names; empty: all of them")
    priority: int = Field(5, ge=0, le=9, description="0 first, 9 last")
    quiet_s: float | None = Field(None, gt=0, description="quiet period instead of the clerk's")
    ask: Asking | None = Field(None, description="whether its source is asked, instead of the clerk's")
    corrections: bool = Field(True, description="believe what later instances say of the patient")
    rejection_notes: bool = Field(True, description="withdraw what rejection notes of these senders name")
    retention_days: int | None = Field(
        None, ge=0, description="days to keep files, instead of retention.days; 0: for ever"
    )
