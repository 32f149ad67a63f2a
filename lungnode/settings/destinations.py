"""Where results go, a class for each kind of destination: nonsense is refused when settings are read."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from lungnode.settings.parts import Chosen, Frozen
from lungnode.settings.peers import Peer
from lungnode.settings.tls import PeerTls

OutputKind = Literal["sr", "sc", "pm", "kos"]
ReportClass = Literal["comprehensive-3d", "comprehensive", "enhanced"]
Confirm = Literal["auto", "commitment", "query", "none"]
_KIND: Final = (
    "dicom: by C-STORE; sender: by C-STORE to the peer that sent the study; stow: by STOW-RS; "
    "fhir: a FHIR R4 DiagnosticReport; hl7: an HL7 ORU^R01 over MLLP"
)


class Delivered(Frozen):
    """What all kinds have in common."""

    name: str = Field(min_length=1, description="name that rules and the command line use")
    not_applicable: bool = Field(False, description="also send a report for a study that is no chest CT")
    timeout_s: float = Field(
        30.0, gt=0, description="seconds without an answer before an attempt is given up"
    )


class DicomObjects(Delivered):
    """A destination that keeps DICOM objects."""

    outputs: Chosen[OutputKind] = Field(
        ("sr", "sc"), description="what to send, in this order: sr, sc, pm, kos"
    )
    report_classes: Chosen[ReportClass] = Field(
        ("comprehensive-3d", "comprehensive", "enhanced"),
        description="SR classes of the report: the first that is accepted is sent",
    )
    summary_page: bool = Field(True, description="begin the heatmaps with a summary page")
    multi_frame: bool = Field(False, description="one multi-frame Secondary Capture instead of single ones")
    keep_character_set: bool = Field(False, description="encode text as the source did, not as ISO_IR 192")
    rejection_notes: bool = Field(
        False, description="send a rejection note for results that do not count any more"
    )


class Confirmed(Frozen):
    """A destination that is asked whether it keeps what it stored."""

    confirm: Confirm = Field(
        "auto",
        description="how storage is confirmed: commitment, query or none; auto: commitment, else query",
    )


class DicomDestination(Confirmed, DicomObjects, Peer):
    """A PACS that receives results by C-STORE."""

    kind: Literal["dicom"] = Field("dicom", description=_KIND)


class WebDestination(Delivered):
    """A destination that is reached by HTTP; its secrets are read at each attempt, so they may be renewed."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")] = Field(
        description="its base URL, without user, query and fragment"
    )
    token_file: Path | None = Field(None, description="file that holds a bearer token")
    token_variable: str | None = Field(None, description="variable that holds a bearer token")
    username: str | None = Field(None, description="user name of basic authentication")
    password_file: Path | None = Field(None, description="file that holds its password")
    password_variable: str | None = Field(None, description="variable that holds its password")
    tls: PeerTls = PeerTls()  # where the URL is https

    @property
    def has_secret(self) -> bool:
        """Whether we say who we are."""
        return any((self.token_file, self.token_variable, self.username))

    @model_validator(mode="after")
    def _has_one_way_to_sign_in(self) -> Self:
        tokens = [self.token_file, self.token_variable]
        passwords = [self.password_file, self.password_variable]
        if sum(value is not None for value in tokens + passwords) > 1:
            raise ValueError("name one file or variable with a token or a password")
        if (self.username is None) != (passwords == [None, None]):
            raise ValueError("username and a file or variable with its password go together")
        return self


class StowDestination(DicomObjects, WebDestination):
    """A PACS that receives results by STOW-RS."""

    kind: Literal["stow"] = Field(description=_KIND)


class FhirDestination(WebDestination):
    """A FHIR R4 server that receives a DiagnosticReport."""

    kind: Literal["fhir"] = Field(description=_KIND)
    patient_system: str | None = Field(
        None, description="URI of the system of patient IDs, where the study does not tell it"
    )
    accession_system: str | None = Field(None, description="URI of the system of accession numbers")


class Hl7Destination(Delivered):
    """A system that receives HL7 messages ORU^R01 over MLLP."""

    kind: Literal["hl7"] = Field(description=_KIND)
    host: str = Field(description="its address")
    port: int = Field(ge=1, le=65535, description="its port")
    sending_application: str = Field("LUNGNODE", description="MSH-3")
    sending_facility: str = Field("", description="MSH-4")
    receiving_application: str = Field("", description="MSH-5")
    receiving_facility: str = Field("", description="MSH-6")
    processing_id: Literal["P", "T", "D"] = Field(
        "P", description="MSH-11: P production, T training, D debugging"
    )
    service: str = Field(
        "COVID19CT^COVID-19 analysis of a chest CT^L",
        pattern=r"^[^|~\\&\x00-\x1f]+$",
        description="OBR-4, what was done: identifier, text and coding system",
    )
    tls: PeerTls | None = None  # a table, even an empty one: its port is encrypted


class SenderDestination(Confirmed, DicomObjects):
    """Whoever sent the study, if `[[peers]]` has an address for its AE title."""

    kind: Literal["sender"] = Field(description=_KIND)

    def at(self, peer: Peer) -> DicomDestination:
        """Return the destination that `peer` is."""
        return DicomDestination.model_validate({**dict(peer), **dict(self), "kind": "dicom"})


def _kind(value: Any) -> Any:
    return value.get("kind", "dicom") if isinstance(value, dict) else getattr(value, "kind", None)


KINDS: Final = ("dicom", "sender", "stow", "fhir", "hl7")
Destination = Annotated[
    Annotated[DicomDestination, Tag("dicom")]
    | Annotated[SenderDestination, Tag("sender")]
    | Annotated[StowDestination, Tag("stow")]
    | Annotated[FhirDestination, Tag("fhir")]
    | Annotated[Hl7Destination, Tag("hl7")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message=f"There are these kinds of destination: {', '.join(KINDS)}",
    ),
]
