"""Encrypted transport: what we show, whom we believe, what we speak."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from lungnode.settings.parts import AETitle, Frozen

Profile = Literal["bcp195", "bcp195-modified"]
Verification = Literal["name", "authority", "none"]


class ReceiverTls(Frozen):
    """The receiver's second port, on which associations are encrypted."""

    port: int = Field(2762, ge=0, le=65535, description="DICOM port for TLS; 0 takes a free one")
    certificate: Path | None = Field(
        None,
        description="PEM file: our certificate, then those that lead to its authority; empty: no TLS port",
    )
    private_key: Path | None = Field(
        None, description="PEM file of its private key, without password; empty: it is in `certificate`"
    )
    authorities: Path | None = Field(
        None, description="PEM file of the authorities that sign peers' certificates"
    )
    client_certificates: Literal["required", "optional"] = Field(
        "required",
        description="required: whoever shows none is turned away; optional: one that is shown must be good",
    )
    profile: Profile = Field(
        "bcp195", description="profile of PS3.15 Annex B: bcp195 (B.12) or bcp195-modified (B.13)"
    )
    subjects: dict[AETitle, str] = Field(
        default_factory=dict,
        description="calling AE titles that need a certificate of this subject, on any port",
    )
    only: bool = Field(False, description="true: the port without TLS is not opened")

    @property
    def key_file(self) -> Path | None:
        """The file with our private key."""
        return self.private_key or self.certificate

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.certificate is None:
            if self.only:
                raise ValueError("receiver.tls.only needs receiver.tls.certificate")
        elif self.authorities is None and self.client_certificates == "required":
            raise ValueError("client certificates can only be required with receiver.tls.authorities")
        if self.subjects and self.authorities is None:
            raise ValueError("receiver.tls.subjects needs receiver.tls.authorities")
        return self


class PeerTls(Frozen):
    """How we call a peer whose port is encrypted."""

    verify: Verification = Field(
        "name",
        description="name: its certificate comes from an authority and bears its name; authority: any name; "
        "none: any certificate",
    )
    authorities: Path | None = Field(
        None, description="PEM file of the authorities that sign its certificate; empty: the system's"
    )
    server_name: str | None = Field(None, description="the name its certificate bears; empty: its host")
    certificate: Path | None = Field(
        None,
        description="PEM file: our certificate, then those that lead to its authority; empty: we show none",
    )
    private_key: Path | None = Field(
        None, description="PEM file of its private key, without password; empty: it is in `certificate`"
    )
    profile: Profile = Field(
        "bcp195", description="profile of PS3.15 Annex B: bcp195 (B.12) or bcp195-modified (B.13)"
    )

    @property
    def key_file(self) -> Path | None:
        """The file with our private key."""
        return self.private_key or self.certificate
