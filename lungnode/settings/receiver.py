"""What the receiver accepts."""

from pydantic import Field

from lungnode.settings.parts import AETitle, Frozen, Network
from lungnode.settings.tls import ReceiverTls


class ReceiverSettings(Frozen):
    """What the Storage SCP accepts and how much of it."""

    ae_title: AETitle = Field(
        "LUNGNODE", description="our AE title; the only called one unless others are listed"
    )
    host: str = Field("0.0.0.0", description="address to listen on")  # noqa: S104 - scanners come from outside
    port: int = Field(11112, ge=0, le=65535, description="DICOM port; 0 takes a free one")
    processes: int = Field(2, ge=1, le=64, description="processes that share the listening socket")
    max_associations: int = Field(128, ge=1, description="associations open at once, over all processes")
    max_associations_per_address: int = Field(
        64,
        ge=1,
        description="associations open at once from one address; behind a load balancer: all of them",
    )
    called_ae_titles: tuple[AETitle, ...] = Field((), description="further called AE titles to accept")
    any_called_ae_title: bool = Field(False, description="accept every called AE title")
    calling_ae_titles: tuple[AETitle, ...] = Field((), description="calling AE titles to accept; empty: all")
    networks: tuple[Network, ...] = Field((), description="peer addresses to accept, as networks; empty: all")
    proxies: tuple[Network, ...] = Field(
        (),
        description="load balancers, as networks, whose connections begin with the PROXY protocol's header",
    )
    artim_s: float = Field(
        10.0, gt=0, description="seconds a peer has to send its A-ASSOCIATE-RQ or to close"
    )
    idle_s: float = Field(60.0, gt=0, description="seconds of silence after which an association is aborted")
    max_pdu_bytes: int = Field(
        262_144, ge=4096, description="maximum length of the P-DATA-TF PDUs we receive"
    )
    unknown_sop_classes: bool = Field(
        False, description="also store SOP classes that pynetdicom does not know"
    )
    disk_warn_bytes: int = Field(10_000_000_000, ge=0, description="free space below which we warn")
    disk_reject_bytes: int = Field(
        1_000_000_000, ge=0, description="free space below which we refuse: 0xA700"
    )
    max_waiting_studies: int | None = Field(
        None,
        ge=1,
        description="studies that may wait for their analysis; with more, new associations are rejected for "
        "the time being; empty: any number",
    )
    tls: ReceiverTls = ReceiverTls()
