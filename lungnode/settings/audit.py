"""What the audit trail tells, and to whom."""

from typing import Literal

from pydantic import Field

from lungnode.settings.parts import Frozen
from lungnode.settings.tls import PeerTls


class SyslogSettings(Frozen):
    """The syslog server that audit messages are sent to."""

    host: str | None = Field(None, description="its address; empty: audit messages stay in the table")
    port: int = Field(6514, ge=1, le=65535, description="its port; 6514 is that of TLS, 514 that of UDP")
    transport: Literal["tls", "udp"] = Field("tls", description="tls (RFC 5425) or udp (RFC 5426)")
    timeout_s: float = Field(
        10.0, gt=0, description="seconds without an answer before an attempt is given up"
    )
    retry_max_s: float = Field(
        300.0, gt=0, description="longest wait before another attempt; the first is `clerk.sweep_s`"
    )
    tls: PeerTls = PeerTls()


class AuditSettings(Frozen):
    """What audit messages tell."""

    source: str | None = Field(
        None, description="name of this node in audit messages; empty: the receiver's AE title"
    )
    site: str = Field("", description="the institution's name in audit messages")
    patients: Literal["none", "id", "name"] = Field(
        "id", description="what audit messages tell of a patient: none, id, or id and name"
    )
    syslog: SyslogSettings = SyslogSettings()
