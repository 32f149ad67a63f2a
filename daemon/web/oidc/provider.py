"""What is asked of the provider: where it is, a token for a code, and whether its token is true."""

import time
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import httpx
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import OidcSettings

_TIMEOUT_S: Final = 10.0
_FRESH_S: Final = 600.0  # how long what the provider says of itself is believed
_LEEWAY_S: Final = 60  # between its clock and ours
# Never "none", and nothing that is signed with the client's secret.
_ALGORITHMS: Final = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]


@dataclass(frozen=True)
class Asked:
    """What a browser was sent away with."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str


class Provider:
    """The provider that the settings name."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._known: tuple[float, dict[str, Any]] | None = None

    @property
    def issuer(self) -> str:
        """Whose tokens are believed."""
        return self._settings.issuer

    def address(self, asked: Asked) -> str:
        """Return where a browser is sent.

        Raises:
            UnavailableError: The provider gives no answer.
        """
        metadata = self._metadata()
        with self._client(asked) as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"],
                state=asked.state,
                nonce=asked.nonce,
                code_verifier=asked.verifier,
            )
        return str(url)

    def claims(self, asked: Asked, code: str) -> dict[str, Any]:
        """Exchange a code, and return what the provider says of a person.

        Raises:
            UnavailableError: The provider gives no answer.
            UnusableError: It refuses the code, or its token is not true.
        """
        metadata = self._metadata()
        try:
            with self._client(asked) as client:
                token = client.fetch_token(
                    metadata["token_endpoint"], code=code, code_verifier=asked.verifier, timeout=_TIMEOUT_S
                )
                claims = self._checked(str(token.get("id_token", "")), asked.nonce, metadata)
                return self._userinfo(client, metadata, claims) | claims
        except OAuthError as error:
            raise UnusableError(f"The provider refuses the sign-in: {error.error}.") from error
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(f"The provider gives no answer: {type(error).__name__}.") from error

    def _client(self, asked: Asked) -> Any:
        own = self._settings
        return OAuth2Client(
            own.client_id,
            own.client_secret.get_secret_value() or None,
            scope=" ".join(own.scopes),
            redirect_uri=asked.redirect_uri,
            code_challenge_method="S256",
            timeout=_TIMEOUT_S,
        )

    def _metadata(self) -> dict[str, Any]:
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH_S:
                found = self._get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
                if found.get("issuer", "").rstrip("/") != self.issuer.rstrip("/"):
                    raise UnusableError("The provider calls itself otherwise than web.oidc.issuer does.")
                self._known = time.monotonic(), found | {"keys": self._get(str(found["jwks_uri"]))}
            return self._known[1]

    def _get(self, url: str) -> dict[str, Any]:
        try:
            answer = httpx.get(url, timeout=_TIMEOUT_S, follow_redirects=True)
            document: dict[str, Any] = answer.raise_for_status().json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise UnavailableError(f"The OIDC provider gives no answer: {type(error).__name__}.") from error
        return document

    def _checked(self, id_token: str, nonce: str, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return the claims of a token that the provider signed, for us and for this sign-in, lately."""
        wanted: dict[str, Any] = {
            "iss": {"essential": True, "value": metadata["issuer"]},
            "aud": {"essential": True, "value": self._settings.client_id},
            "sub": {"essential": True},
            "exp": {"essential": True},
            "nonce": {"essential": True, "value": nonce},
        }
        try:
            keys = KeySet.import_key_set(metadata["keys"])
            token = jwt.decode(id_token, keys, algorithms=_ALGORITHMS)
            jwt.JWTClaimsRegistry(leeway=_LEEWAY_S, **wanted).validate(token.claims)
        except (JoseError, ValueError) as error:
            self._known = None  # the provider may have new keys
            raise UnusableError(f"The provider's token is not true: {type(error).__name__}.") from error
        return dict(token.claims)

    def _userinfo(self, client: Any, metadata: dict[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
        """Return what the provider tells beside the token; of the same person only."""
        if "userinfo_endpoint" not in metadata:
            return {}
        answer = client.get(metadata["userinfo_endpoint"], timeout=_TIMEOUT_S)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        # Source: OpenID Connect Core 1.0, 5.3.2.
        return told if told.get("sub") == claims["sub"] else {}
