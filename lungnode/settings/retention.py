"""How long files are kept."""

from pydantic import Field

from lungnode.settings.parts import Frozen


class RetentionSettings(Frozen):
    """When the files of a study may be deleted; its rows stay."""

    days: int | None = Field(
        None, ge=1, description="days without a new instance after which files go; empty: never by age"
    )
    max_bytes: int | None = Field(
        None, ge=0, description="bytes that studies and results may take; beyond, the oldest go; empty: any"
    )
    least_days: int = Field(1, ge=0, description="days that a study is kept whatever max_bytes says")
    unsettled_days: int | None = Field(
        None,
        ge=1,
        description="days after which what ended badly and nobody mended keeps files no longer; empty: never",
    )
    sweep_s: float = Field(60.0, gt=0, description="seconds between two looks for files to delete")
