"""How storage commitment is answered, and asked for."""

from pydantic import Field

from lungnode.settings.parts import Frozen
from lungnode.settings.peers import ReportOn


class CommitmentSettings(Frozen):
    """Storage commitment: asked of us by scanners, and asked by us of destinations."""

    accept: bool = Field(True, description="accept storage commitment requests and reports")
    report_on: ReportOn = Field(
        "same",
        description="association of our reports; same: the one that asked while it is open; new: a new one",
    )
    wait_s: float = Field(
        120.0, gt=0, description="longest wait for requested instances that may still be in the spool"
    )
    answer_s: float = Field(
        600.0,
        gt=0,
        description="seconds that a destination has to report before its instances are looked for",
    )
    linger_s: float = Field(
        2.0, ge=0, description="seconds that an association stays open for a destination's report"
    )
