"""Authorities and certificates of tests, as PEM files: made by trustme, never ours."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme

LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Identity:
    """A certificate with its chain, and its key: two files, as DCMTK and OpenSSL want them."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """One certificate authority, and a folder for what it signs."""

    folder: Path
    _ca: trustme.CA = field(default_factory=trustme.CA)
    _names: Iterator[str] = field(default_factory=lambda: (f"{n:02d}" for n in range(100)))

    @property
    def file(self) -> Path:
        """Its own certificate."""
        path = self.folder / "authority.pem"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._ca.cert_pem.write_to_path(path)
        return path

    def sign(
        self,
        *names: str,
        common_name: str | None = None,
        expires: datetime | None = None,
        at: Identity | None = None,
    ) -> Identity:
        """Return a certificate of these names ("localhost" where none is given), in the files `at`."""
        made = self._ca.issue_cert(
            *(names or ("localhost",)),
            common_name=common_name,
            not_after=expires or datetime.now(UTC) + timedelta(days=365),
        )
        number = next(self._names)
        identity = at or Identity(self.folder / f"{number}.pem", self.folder / f"{number}.key")
        self.folder.mkdir(parents=True, exist_ok=True)
        identity.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        identity.key.write_bytes(made.private_key_pem.bytes())
        return identity
