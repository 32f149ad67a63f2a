"""Other DICOM applications: those that send, and those that are asked."""

from typing import Literal

from pydantic import Field

from lungnode.settings.parts import AETitle, Frozen
from lungnode.settings.tls import PeerTls

QueryModel = Literal["none", "study_root", "patient_root"]
Retrieval = Literal["none", "move", "get"]
Series = Literal["all", "begun"]
ReportOn = Literal["same", "new"]


class Peer(Frozen):
    """Another DICOM application: a scanner or a PACS that we ask, fetch from or report to."""

    name: str = Field(min_length=1, description="name that rules and the command line use")
    ae_title: AETitle = Field(description="its AE title")
    host: str = Field(description="its address")
    port: int = Field(ge=1, le=65535, description="its DICOM port")
    calling_ae_title: AETitle | None = Field(
        None, description="our AE title towards it; empty: the receiver's"
    )
    timeout_s: float = Field(
        30.0, gt=0, description="seconds without an answer before an attempt is given up"
    )
    query: QueryModel = Field(
        "none",
        description="how it may be asked (C-FIND): study_root, patient_root; none: not at all",
    )
    retrieve: Retrieval = Field(
        "none",
        description="how it may be fetched from: move (C-MOVE to us), get (C-GET); none: not at all",
    )
    retrieve_timeout_s: float = Field(
        300.0, gt=0, description="seconds that a retrieval may be silent; tapes are slow"
    )
    answers_for: tuple[str, ...] = Field(
        (), description="patterns (* and ?) of other AE titles whose studies it has"
    )
    series: Series = Field(
        "all", description="CT series that must be there: all it has, or those begun: an image of them came"
    )
    report_on: ReportOn | None = Field(
        None,
        description="association of our commitment reports: same or new; empty: as commitment.report_on",
    )
    tls: PeerTls | None = None  # a table, even an empty one: its port is encrypted
