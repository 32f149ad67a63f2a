"""How studies are completed, analysed and delivered."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from lungnode.settings.parts import Asking, Frozen


class ClerkSettings(Frozen):
    """When a study is taken as complete, and how often the clerk looks."""

    poll_s: float = Field(0.5, gt=0, description="seconds between two looks at the spool")
    quiet_s: float = Field(
        30.0, gt=0, description="seconds without a new instance before a study is complete"
    )
    gap_quiet_s: float = Field(120.0, gt=0, description="the same for a study with gaps or a missing count")
    sweep_s: float = Field(5.0, gt=0, description="seconds between two looks for due and abandoned rows")
    ask: Asking = Field(
        "fetch",
        description="no; count: ask a study's source how many images it has; fetch: fetch missing ones, too",
    )
    ask_after_s: float = Field(
        5.0, ge=0, description="seconds without a new instance before a study's source is asked"
    )
    ask_attempts: int = Field(3, ge=1, description="times that a source is asked, or fetched from, in vain")


class AnalysisSettings(Frozen):
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


class DeliverySettings(Frozen):
    """How results are retried."""

    max_attempts: int = Field(20, ge=1, description="transient failures before a delivery is dead")
    backoff_s: float = Field(5.0, gt=0, description="first wait after a transient failure; doubles each time")
    backoff_max_s: float = Field(3600.0, gt=0, description="longest wait between two attempts")
    lease_s: float = Field(
        120.0, gt=0, description="seconds after which a silent courier's delivery is taken back"
    )
    threads: int = Field(4, ge=1, description="deliveries sent at once by one delivery worker")
    slowest_bytes_s: int = Field(
        100_000,
        ge=1,
        description="bytes a second of what is sent that a peer must take, beyond its timeout_s",
    )
    per_destination: int = Field(
        3, ge=1, description="deliveries sent at once to one destination, by all delivery workers"
    )
