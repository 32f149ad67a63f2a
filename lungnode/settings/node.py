"""All settings of one node."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from lungnode.settings.audit import AuditSettings
from lungnode.settings.commitment import CommitmentSettings
from lungnode.settings.destinations import Destination
from lungnode.settings.notify import NotifySettings
from lungnode.settings.peers import Peer
from lungnode.settings.receiver import ReceiverSettings
from lungnode.settings.retention import RetentionSettings
from lungnode.settings.rules import Rule
from lungnode.settings.store import StoreSettings
from lungnode.settings.web import WebSettings
from lungnode.settings.work import AnalysisSettings, ClerkSettings, DeliverySettings

PREFIX: Final = "LUNGNODE_"
# Source: unix(7), sun_path holds 108 bytes, the closing zero included.
_LONGEST_SOCKET: Final = 107


class Settings(BaseSettings):
    """All settings of one node."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    data: Path = Field(
        default_factory=lambda: Path.home() / ".local/share/lungnode",
        description="folder of everything we keep",
    )
    database_url: str | None = Field(None, description="SQLAlchemy URL; empty: SQLite in the data folder")
    broker_url: str | None = Field(
        None, description="Redis or Valkey URL; empty: embedded, on a socket in the data folder"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is logged"
    )
    receiver: ReceiverSettings = ReceiverSettings()
    clerk: ClerkSettings = ClerkSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    delivery: DeliverySettings = DeliverySettings()
    web: WebSettings = WebSettings()
    notify: NotifySettings = NotifySettings()
    audit: AuditSettings = AuditSettings()
    commitment: CommitmentSettings = CommitmentSettings()
    retention: RetentionSettings = RetentionSettings()
    store: StoreSettings = StoreSettings()
    peers: tuple[Peer, ...] = ()
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def spool(self) -> Path:
        """Where the receiver puts what it acknowledged."""
        return self.data / "spool"

    @property
    def alerts(self) -> Path:
        """Where the receiver puts what the audit trail is to know."""
        return self.data / "alerts"

    @property
    def archive(self) -> Path:
        """Where the clerk keeps instances, unless `store.url` says otherwise: see `lungnode.store`."""
        return self.data / "archive"

    @property
    def quarantine(self) -> Path:
        """Where the clerk keeps what it cannot index."""
        return self.data / "quarantine"

    @property
    def outputs(self) -> Path:
        """Where the worker keeps what it composed, unless `store.url` says otherwise."""
        return self.data / "outputs"

    @property
    def uploads(self) -> Path:
        """Where the web keeps uploaded files for a while; analysis workers read them here."""
        return self.data / "uploads"

    @property
    def models(self) -> Path:
        """Where registered models are kept; workers of every host read them here."""
        return self.data / "models"

    @property
    def cache(self) -> Path:
        """Where trainings keep compressed slices of studies; while none runs it can be deleted."""
        return self.data / "cache"

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{self.data / 'lungnode.sqlite3'}"

    @property
    def broker_socket(self) -> Path:
        """The embedded broker's Unix socket.

        In the data folder; where that path is too long for a socket, in a private folder below /tmp that is
        named after the user and the data folder, so that every process of the node finds the same one.
        """
        beside = self.data.absolute() / "valkey.sock"
        if len(os.fsencode(beside)) <= _LONGEST_SOCKET:
            return beside
        digest = sha256(os.fsencode(self.data.absolute())).hexdigest()[:16]
        return Path("/tmp") / f"lungnode-{os.getuid()}-{digest}" / "valkey.sock"  # noqa: S108 - see prepare_socket

    @property
    def broker(self) -> str:
        """The Celery broker URL in force."""
        return self.broker_url or f"redis+socket://{quote(os.fsencode(self.broker_socket))}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let arguments win over variables, and variables over the file named by LUNGNODE_CONFIG."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=os.environ.get("LUNGNODE_CONFIG"))
        return init_settings, env_settings, toml
