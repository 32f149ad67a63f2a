"""One bucket of an S3-compatible store: five requests, and what they raise in our words.

Credentials are found as AWS's own programs find them: variables, a shared file, the role of the host. Only
what every S3-compatible server knows is used: no conditional writes, no checksums but Content-MD5.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from lungnode.settings import StoreSettings
from lungnode.store.files import StoreAwayError

THREADS: Final = 16  # requests at once
_PIECE: Final = 1 << 20
_WHOLE: Final = 16 << 20  # bytes that go in one request, and are in memory meanwhile
_CONNECT_S: Final = 5.0
_TRIES: Final = 3


class Bucket:
    """A bucket; nothing is connected before the first request, so it may be made before a fork."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings

    def __reduce__(self) -> tuple[type["Bucket"], tuple[StoreSettings]]:
        """Let another process connect for itself."""
        return Bucket, (self._settings,)

    @property
    def url(self) -> str:
        """Where its keys begin."""
        return f"s3://{self._settings.bucket}"

    def put(self, key: str, file: Path, told: Mapping[str, str]) -> bool:
        """Store a file, durably; False where the server cannot have checked every byte: read it back.

        Raises:
            StoreAwayError: The store does not take it.
            OSError: The file cannot be read.
        """
        if file.stat().st_size > _WHOLE:
            fs = self._fs
            with self._translated():
                fs.put_file(str(file), f"{self._settings.bucket}/{key}", Metadata=dict(told))
            return False
        self.put_bytes(key, file.read_bytes(), told)
        return True

    def put_bytes(self, key: str, body: bytes, told: Mapping[str, str] | None = None) -> None:
        """Store bytes, durably; the server refuses them when they come to it as others.

        Raises:
            StoreAwayError: The store does not take them.
        """
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        self._call("put_object", Key=key, Body=body, ContentMD5=md5, Metadata=dict(told or {}))

    def get(self, key: str) -> "Answer":
        """Begin to read an object.

        Raises:
            FileNotFoundError: There is none.
            StoreAwayError: The store does not answer.
        """
        return Answer(self, self._call("get_object", Key=key))

    def keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the keys that begin so, with their bytes."""
        for page in self._pages(prefix):
            yield from ((each["Key"], each["Size"]) for each in page.get("Contents", ()))

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield what stands between a prefix and the next slash."""
        for page in self._pages(prefix, Delimiter="/"):
            for each in page.get("CommonPrefixes", ()):
                yield each["Prefix"].removeprefix(prefix).rstrip("/")

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        self._call("delete_object", Key=key)

    def check(self) -> None:
        """Make sure that it answers and knows us."""
        self._call("list_objects_v2", Prefix=self._settings.prefix, MaxKeys=1)

    def _pages(self, prefix: str, **how: str) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=prefix, **how, **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _call(self, request: str, **arguments: Any) -> Any:
        fs = self._fs
        with self._translated():
            return fs.call_s3(request, Bucket=self._settings.bucket, **arguments)

    def read(self, body: Any, size: int) -> bytes:
        """Read from an answer's body."""
        from fsspec.asyn import sync  # noqa: PLC0415 - nobody without an object store loads it

        with self._translated():
            return bytes(sync(self._fs.loop, body.read, size))

    @cached_property
    def _fs(self) -> Any:
        try:
            from s3fs import S3FileSystem  # noqa: PLC0415 - nobody without an object store loads it
        except ImportError as error:
            raise StoreAwayError(
                "s3fs is not installed.", advice="Install lungnode[s3], or the lock that has it."
            ) from error
        own = self._settings
        fs = S3FileSystem(
            endpoint_url=own.endpoint or None,
            use_listings_cache=False,
            client_kwargs={"region_name": own.region} if own.region else {},
            config_kwargs={
                "connect_timeout": min(_CONNECT_S, own.timeout_s),
                "read_timeout": own.timeout_s,
                "retries": {"total_max_attempts": 1},  # s3fs tries again
                "max_pool_connections": 2 * THREADS,
                "s3": {"addressing_style": "path" if own.endpoint else "auto"},
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )
        fs.retries = _TRIES
        return fs

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say in our words why the store cannot be used; a key that is not there is none of it."""
        from aiohttp import ClientError as HttpError  # noqa: PLC0415 - as above
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            yield
        except (OSError, BotoCoreError, ClientError, HttpError) as error:
            if isinstance(error, FileNotFoundError) and _code(error) == "NoSuchKey":
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreAwayError(
                f"The object store {self._settings.url} cannot be used: {reason.rstrip('.')}."
            ) from error


class Answer:
    """An object that is being read."""

    def __init__(self, bucket: Bucket, answer: Mapping[str, Any]) -> None:
        self._bucket, self._answer = bucket, answer

    @property
    def told(self) -> Mapping[str, str]:
        """What was stored with it."""
        return dict(self._answer.get("Metadata") or {})

    @property
    def stored_at_ns(self) -> int:
        """When it was stored."""
        return int(self._answer["LastModified"].timestamp() * 1e9)

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes.

        Raises:
            StoreAwayError: The store fell silent.
        """
        while piece := self._bucket.read(self._answer["Body"], _PIECE):
            yield piece


def _code(error: OSError) -> str:
    """Return what S3 calls an error."""
    return str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))
