"""Settings: one TOML file and `LUNGNODE_*` variables, frozen after reading.

A variable overrides the file; nested names join with two underscores: `LUNGNODE_RECEIVER__PORT=104`.
Every field is described here once; `docs/operations.md` lists them and a test compares the two.
"""

from lungnode.settings.audit import AuditSettings, SyslogSettings
from lungnode.settings.commitment import CommitmentSettings
from lungnode.settings.destinations import (
    Destination,
    DicomDestination,
    DicomObjects,
    FhirDestination,
    Hl7Destination,
    OutputKind,
    ReportClass,
    SenderDestination,
    StowDestination,
    WebDestination,
)
from lungnode.settings.node import Settings
from lungnode.settings.notify import NotifySettings
from lungnode.settings.parts import AETitle, Network
from lungnode.settings.peers import Peer, QueryModel
from lungnode.settings.reading import load_settings
from lungnode.settings.receiver import ReceiverSettings
from lungnode.settings.retention import RetentionSettings
from lungnode.settings.rules import Rule
from lungnode.settings.store import StoreSettings
from lungnode.settings.tls import PeerTls, ReceiverTls
from lungnode.settings.web import OidcSettings, WebSettings
from lungnode.settings.work import AnalysisSettings, ClerkSettings, DeliverySettings

__all__ = [
    "AETitle",
    "AnalysisSettings",
    "AuditSettings",
    "ClerkSettings",
    "CommitmentSettings",
    "DeliverySettings",
    "Destination",
    "DicomDestination",
    "DicomObjects",
    "FhirDestination",
    "Hl7Destination",
    "Network",
    "NotifySettings",
    "OidcSettings",
    "OutputKind",
    "Peer",
    "PeerTls",
    "QueryModel",
    "ReceiverSettings",
    "ReceiverTls",
    "ReportClass",
    "RetentionSettings",
    "Rule",
    "SenderDestination",
    "Settings",
    "StoreSettings",
    "StowDestination",
    "SyslogSettings",
    "WebDestination",
    "WebSettings",
    "load_settings",
]
