"""The web: pages, interfaces, and who may sign in."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from lungnode.settings.parts import Frozen


class OidcSettings(Frozen):
    """Sign-in by an OpenID Connect provider."""

    issuer: str = Field("", description="URL of the provider; empty: no sign-in by OIDC")
    client_id: str = Field("", description="what the provider calls us")
    client_secret: SecretStr = Field(SecretStr(""), description="the secret that it gave us; in a variable")
    name: str = Field("your organisation", description="what the sign-in page calls the provider")
    scopes: tuple[str, ...] = Field(
        ("openid", "profile", "email"), description="scopes that the provider is asked for"
    )
    account_claim: str = Field("preferred_username", description="claim that names the account")
    role_claim: str = Field("groups", description="claim with the groups or roles of a person")
    roles: dict[str, Literal["viewer", "reader", "admin"]] = Field(
        default_factory=dict, description="our role by value of that claim; the highest one counts"
    )
    default_role: Literal["", "viewer", "reader"] = Field(
        "", description="role without such a value; empty: no entry"
    )


class WebSettings(Frozen):
    """Where the web listens, and how long somebody stays signed in."""

    enabled: bool = Field(True, description="whether up starts the web")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port of the web; 0 takes a free one")
    certificate: Path | None = Field(None, description="PEM file with our certificate chain; empty: no TLS")
    private_key: Path | None = Field(None, description="PEM file with the certificate's key")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="proxies whose X-Forwarded-For and -Proto are believed: addresses or networks"
    )
    open_metrics: bool = Field(False, description="let anybody read /metrics, without a token")
    cors_origins: tuple[str, ...] = Field(
        (), description="other sites whose viewers may use REST and DICOMweb with a token, for example OHIF's"
    )
    session_s: float = Field(43_200.0, gt=0, description="seconds after which a session ends in any case")
    session_idle_s: float = Field(1_800.0, gt=0, description="seconds without a request that end a session")
    token_days: int = Field(365, ge=1, description="longest life of an API token, in days")
    upload_bytes: int = Field(
        1_000_000_000, ge=1, description="bytes of one upload, at most; unpacked, at most twice as many"
    )
    upload_s: float = Field(3_600.0, gt=0, description="seconds until an upload that is not kept is deleted")
    oidc: OidcSettings = OidcSettings()

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together")
        return self
