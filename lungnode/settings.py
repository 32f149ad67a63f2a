"""Settings: one TOML file and `LUNGNODE_*` variables, frozen after reading.

A variable overrides the file; nested names join with two underscores: `LUNGNODE_RECEIVER__PORT=104`.
Every field is described here once; `docs/operations.md` lists them and a test compares the two.
"""

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from lungnode.errors import SettingsError

# Source: PS3.5 6.2, AE: 16 characters at most, no backslash, no control characters, not only spaces.
AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
Network = IPv4Network | IPv6Network
OutputKind = Literal["sr", "sc", "pm"]

# Source: unix(7), sun_path holds 108 bytes, the closing zero included.
_LONGEST_SOCKET: Final = 107
_PREFIX: Final = "LUNGNODE_"
# Kubernetes tells every pod of a service that is called lungnode: these are its variables, not ours.
_SERVICE_LINK: Final = re.compile(r"LUNGNODE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_\w+)")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReceiverSettings(_Frozen):
    """What the Storage SCP accepts and how much of it."""

    ae_title: AETitle = Field(
        "LUNGNODE", description="our AE title; the only called one unless others are listed"
    )
    host: str = Field("0.0.0.0", description="address to listen on")  # noqa: S104 - scanners come from outside
    port: int = Field(11112, ge=0, le=65535, description="DICOM port; 0 takes a free one")
    processes: int = Field(2, ge=1, le=64, description="processes that share the listening socket")
    max_associations: int = Field(128, ge=1, description="associations open at once, over all processes")
    called_ae_titles: tuple[AETitle, ...] = Field((), description="further called AE titles to accept")
    any_called_ae_title: bool = Field(False, description="accept every called AE title")
    calling_ae_titles: tuple[AETitle, ...] = Field((), description="calling AE titles to accept; empty: all")
    networks: tuple[Network, ...] = Field((), description="peer addresses to accept, as networks; empty: all")
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


class ClerkSettings(_Frozen):
    """When a study is taken as complete, and how often the clerk looks."""

    poll_s: float = Field(0.5, gt=0, description="seconds between two looks at the spool")
    quiet_s: float = Field(
        30.0, gt=0, description="seconds without a new instance before a study is complete"
    )
    gap_quiet_s: float = Field(120.0, gt=0, description="the same for a study with gaps or a missing count")
    sweep_s: float = Field(5.0, gt=0, description="seconds between two looks for due and abandoned rows")


class AnalysisSettings(_Frozen):
    """The model and the limits of one analysis."""

    model: Path | None = Field(None, description="folder of the model; empty: the one Lungnode ships")
    batch: int = Field(8, ge=1, le=256, description="slices given to the model at once")
    runtime: Literal["auto", "tensorflow", "openvino"] = Field(
        "auto", description="what runs the model; auto: TensorFlow on a GPU, else OpenVINO"
    )
    precision: Literal["auto", "int8", "bf16", "fp32"] = Field(
        "auto", description="numbers that OpenVINO computes with; auto: the fastest that passed the gate"
    )
    profile: Literal["full", "fast"] = Field(
        "full", description="full: every slice that shows lung; fast: a sample of them"
    )
    fast_slices: int = Field(
        48, ge=10, description="slices of a series that the fast profile looks at, evenly spread"
    )
    lease_s: float = Field(
        60.0, gt=0, description="seconds after which a silent worker's study is taken back"
    )
    hard_limit_s: float = Field(900.0, gt=0, description="seconds after which an analysis is killed")
    max_attempts: int = Field(3, ge=1, description="attempts before a study is quarantined")
    heatmaps: int = Field(20, ge=1, le=200, description="slices reported with a heatmap, at most")
    summary_identification: bool = Field(False, description="draw name and ID on the summary page")
    qualification: Literal["RESEARCH", "PRODUCT"] = Field(
        "RESEARCH", description="Content Qualification of outputs; PRODUCT only where local law allows it"
    )

    @model_validator(mode="after")
    def _tensorflow_is_the_reference(self) -> Self:
        if self.runtime == "tensorflow" and self.precision not in ("auto", "fp32"):
            raise ValueError(f"TensorFlow computes in fp32 only, and analysis.precision is {self.precision}")
        return self

    @property
    def at_most(self) -> int | None:
        """Slices of a series that are looked at; None: all of them."""
        return self.fast_slices if self.profile == "fast" else None


class DeliverySettings(_Frozen):
    """How results are retried."""

    max_attempts: int = Field(20, ge=1, description="transient failures before a delivery is dead")
    backoff_s: float = Field(5.0, gt=0, description="first wait after a transient failure; doubles each time")
    backoff_max_s: float = Field(3600.0, gt=0, description="longest wait between two attempts")
    lease_s: float = Field(
        120.0, gt=0, description="seconds after which a silent courier's delivery is taken back"
    )
    threads: int = Field(4, ge=1, description="deliveries sent at once by one delivery worker")


class Destination(_Frozen):
    """A PACS that receives results."""

    name: str = Field(min_length=1, description="name that rules and the command line use")
    ae_title: AETitle = Field(description="its AE title")
    host: str = Field(description="its address")
    port: int = Field(ge=1, le=65535, description="its DICOM port")
    calling_ae_title: AETitle | None = Field(
        None, description="our AE title towards it; empty: the receiver's"
    )
    outputs: tuple[OutputKind, ...] = Field(
        ("sr", "sc"), description="what to send, in this order: sr, sc, pm"
    )
    multi_frame: bool = Field(False, description="one multi-frame Secondary Capture instead of single ones")
    keep_character_set: bool = Field(False, description="encode text as the source did, not as ISO_IR 192")
    not_applicable: bool = Field(False, description="also send a report for a study that is no chest CT")
    timeout_s: float = Field(
        30.0, gt=0, description="seconds without an answer before an attempt is given up"
    )


class Rule(_Frozen):
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
    retention_days: int | None = Field(
        None, ge=1, description="days to keep the study; for a later version: nothing is deleted yet"
    )


class Settings(BaseSettings):
    """All settings of one node."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
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
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def spool(self) -> Path:
        """Where the receiver puts what it acknowledged."""
        return self.data / "spool"

    @property
    def archive(self) -> Path:
        """Where the clerk keeps instances."""
        return self.data / "archive"

    @property
    def quarantine(self) -> Path:
        """Where the clerk keeps what it cannot index."""
        return self.data / "quarantine"

    @property
    def outputs(self) -> Path:
        """Where the worker keeps what it composed."""
        return self.data / "outputs"

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


def load_settings(**overrides: Any) -> Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: The file or a variable has an unknown name or an unusable value.
    """
    _check_variables(os.environ)
    named = os.environ.get("LUNGNODE_CONFIG")
    if named and not Path(named).is_file():  # pydantic-settings would go on without it
        raise SettingsError(f"The settings file {named} cannot be read: No such file.")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"The settings file {named} cannot be read: {error}.") from error


def _check_variables(environment: Mapping[str, str]) -> None:
    """Refuse a variable that names no setting; pydantic-settings would go on without it."""
    known = {*Settings.model_fields, "config"}
    for name, value in environment.items():
        setting = name.lower().removeprefix(_PREFIX.lower())
        if not name.upper().startswith(_PREFIX) or setting.partition("__")[0] in known:
            continue
        if _SERVICE_LINK.fullmatch(name) or value.startswith(("tcp://", "udp://")):
            continue
        raise SettingsError(
            f"The variable {name} names no setting; docs/operations.md lists all of them, and nested names "
            f"join with two underscores: {_PREFIX}RECEIVER__PORT."
        )


def _sentence(error: ValidationError) -> str:
    """Say what is wrong with the first setting that is."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        return f"There is no setting {where}; docs/operations.md lists all of them."
    if first["type"] == "missing":
        return f"Setting {where} is missing."
    return f"Setting {where}: {first['msg']} (got {first.get('input')!r})."
