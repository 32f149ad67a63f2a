"""Where the files of studies are kept."""

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from lungnode.settings.parts import Frozen


class StoreSettings(Frozen):
    """The store of archive and outputs; its keys come from where AWS's own programs find them."""

    url: str = Field(
        "", description="s3://bucket or s3://bucket/prefix for archive and outputs; empty: the data folder"
    )
    endpoint: str = Field("", description="URL of the S3-compatible server; empty: that of AWS")
    region: str = Field("", description="its region; empty: as AWS's variables say, else us-east-1")
    cache_bytes: int = Field(
        20_000_000_000, ge=0, description="bytes of local copies, beyond which those not used lately go"
    )
    timeout_s: float = Field(
        20.0, gt=0, description="seconds without an answer before an attempt is given up"
    )

    @field_validator("url")
    @classmethod
    def _is_s3(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme != "s3" or not parts.hostname or parts.query or parts.fragment):
            raise ValueError("a store is s3://bucket/prefix")
        return url.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.username):
            raise ValueError("an endpoint is an http or https URL without user")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _has_a_store(self) -> Self:
        if self.endpoint and not self.url:
            raise ValueError("an endpoint needs a url")
        return self

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """What keys begin with; empty or with a slash at its end."""
        path = urlsplit(self.url).path.strip("/")
        return f"{path}/" if path else ""
