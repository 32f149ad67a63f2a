"""Other applications: those that send, that are asked, and that receive results."""

from typing import Literal

from pydantic import Field

from lungnode.settings.parts import AETitle, Frozen

OutputKind = Literal["sr", "sc", "pm"]
QueryModel = Literal["none", "study_root", "patient_root"]


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


class Destination(Peer):
    """A PACS that receives results."""

    outputs: tuple[OutputKind, ...] = Field(
        ("sr", "sc"), description="what to send, in this order: sr, sc, pm"
    )
    multi_frame: bool = Field(False, description="one multi-frame Secondary Capture instead of single ones")
    keep_character_set: bool = Field(False, description="encode text as the source did, not as ISO_IR 192")
    not_applicable: bool = Field(False, description="also send a report for a study that is no chest CT")
