"""The folder or bucket that holds the archive's objects, through obstore: local, S3, R2 and whatever speaks S3.

Objects are written once and never changed (conditional create). Credentials come from the settings, the environment or
the AWS tools' own files; they appear in no message and no log.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tracemill.core.errors import ArchiveError, SettingError
from tracemill.core.settings import Settings

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

_CHUNK = 8 * 1024 * 1024
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as the bucket lists it."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """Where the archive lies, without anything secret: a folder, or a bucket with a prefix."""

    folder: Path | None
    bucket: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        return str(self.folder) if self.folder is not None else f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def place_of(settings: Settings) -> Place:
    """Where the settings put the archive. Raises SettingError for an address nobody knows."""
    url = settings.archive_url
    if not url:
        if settings.s3_bucket_name:
            return Place(None, settings.s3_bucket_name)
        return Place(Path(settings.workspace).resolve() / "archive")
    if "://" not in url:
        return Place(Path(url).resolve())
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Place(Path(parts.path))
    if parts.scheme in ("s3", "s3a", "r2") and parts.netloc:
        return Place(None, parts.netloc, parts.path.strip("/"))
    raise SettingError(
        f"setting 'archive_url' has the value {url!r}: no such kind of storage",
        hint="Give a folder, or s3://bucket/prefix with s3_endpoint for a service other than AWS.",
    )


def _needed() -> Any:
    """Import obstore where it is used first: whoever archives nothing need not have it."""
    try:
        import obstore  # noqa: PLC0415 - an optional part
    except ImportError as error:
        raise ArchiveError(
            "the archive needs packages that are not installed", hint="pip install 'tracemill[archive]'"
        ) from error
    return obstore


class Objects:
    """Reads and writes the archive's objects. Every method raises ArchiveError; safe for use by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.place = place_of(settings)
        self._opened: LocalStore | S3Store | None = None

    @property
    def _store(self) -> LocalStore | S3Store:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> LocalStore | S3Store:
        _needed()
        from obstore.store import LocalStore, S3Store  # noqa: PLC0415 - an optional part

        if self.place.folder is not None:
            try:
                self.place.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ArchiveError(f"the archive's folder {self.place.folder} cannot be made: {error}") from error
            return LocalStore(self.place.folder)
        given = self._settings
        options: Any = {"region": given.s3_region, "conditional_put": "etag"}
        if given.s3_endpoint:
            options["endpoint"] = given.s3_endpoint
            options["virtual_hosted_style_request"] = False
        if given.s3_access_key:
            options |= {"access_key_id": given.s3_access_key, "secret_access_key": given.s3_secret_key}
        elif "AWS_ACCESS_KEY_ID" not in os.environ:
            from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415 - reads the AWS tools' files

            options["credential_provider"] = Boto3CredentialProvider()
        timeout = timedelta(seconds=given.s3_timeout_seconds)
        client: Any = {"timeout": timeout, "allow_http": _is_loopback(given.s3_endpoint)}
        retries: Any = {"max_retries": given.s3_retries, "retry_timeout": timeout * (given.s3_retries + 1)}
        prefix = self.place.prefix or None
        with _said(f"the bucket {self.place}"):
            return S3Store(
                self.place.bucket, prefix=prefix, client_options=client, retry_config=retries, config=options
            )

    def put(self, key: str, path: Path) -> None:
        """Write a new object out of a file. One of this key is never overwritten: it can only be an earlier try's.

        Whoever calls this reads the object back (:meth:`digest`) before believing in it.
        """
        _needed()
        if self.place.folder is not None:
            self._put(key, path, None)
            with _said(f"object {key}"):  # an erasure may have taken it away already
                _sync(self.place.folder, key)
            return
        given = self._settings
        attributes = {"Storage-Class": given.s3_storage_class} if given.s3_storage_class else None
        for attempt in range(given.s3_retries + 1):
            try:
                self._put(key, path, attributes)
            except ArchiveError as error:  # a conditional write whose answer is lost is not tried again by the library
                if error.final or attempt == given.s3_retries:
                    raise
                sleep(random.uniform(0, min(5.0, 0.1 * 2**attempt)))
            else:
                return

    def _put(self, key: str, path: Path, attributes: Any) -> None:
        import obstore  # noqa: PLC0415 - an optional part
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - an optional part

        found = suppress(AlreadyExistsError, FileExistsError)  # the answer of an earlier try was lost
        with _said(f"object {key}"), path.open("rb") as file, found:
            # In one piece: what a kill leaves of a multipart upload is invisible to listing, and is paid for.
            obstore.put(self._store, key, file, mode="create", use_multipart=False, attributes=attributes)

    def digest(self, key: str) -> tuple[str, int]:
        """SHA-256 (hex) and size of an object, read whole."""
        obstore = _needed()
        digest, size = hashlib.sha256(), 0
        with _said(f"object {key}"):
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return digest.hexdigest(), size

    def read(self, key: str) -> bytes:
        """An object, whole."""
        obstore = _needed()
        with _said(f"object {key}"):
            return bytes(obstore.get(self._store, key).bytes())

    def download(self, key: str, to: Path) -> None:
        """An object into a file."""
        obstore = _needed()
        with _said(f"object {key}"), to.open("wb") as file:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                file.write(chunk)

    def open(self, key: str, size: int) -> Any:
        """An object for pyarrow to read pieces of: a mapped file, or ranges over HTTP."""
        import pyarrow as pa  # noqa: PLC0415 - an optional part

        if self.place.folder is not None:
            path = self.place.folder / key
            try:
                return pa.memory_map(str(path))
            except OSError as error:
                raise _missing(key) if not path.exists() else ArchiveError(f"object {key}: {error}") from error
        return pa.PythonFile(_Ranges(self, key, size), mode="r")

    def range(self, key: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (exclusive) of an object."""
        obstore = _needed()
        with _said(f"object {key}"):
            return bytes(obstore.get_range(self._store, key, start=start, end=end))

    def delete(self, key: str) -> None:
        """Delete an object and, where the bucket keeps them, every version of it. One that is gone is no error."""
        from obstore.exceptions import NotFoundError  # noqa: PLC0415 - an optional part

        obstore = _needed()
        with _said(f"object {key}"), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._store, key)
        if self.place.folder is None:
            self._delete_versions(key)

    def _delete_versions(self, key: str) -> None:
        """Remove the versions and delete markers that a versioned bucket keeps of an object."""
        import boto3  # noqa: PLC0415 - an optional part
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        given = self._settings
        full = f"{self.place.prefix}/{key}" if self.place.prefix else key
        try:
            client = boto3.client(
                "s3",
                endpoint_url=given.s3_endpoint or None,
                region_name=given.s3_region,
                aws_access_key_id=given.s3_access_key or None,
                aws_secret_access_key=given.s3_secret_key or None,
            )
            pages = client.get_paginator("list_object_versions").paginate(Bucket=self.place.bucket, Prefix=full)
            for page in pages:
                for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    if entry["Key"] == full and entry["VersionId"] != "null":
                        client.delete_object(Bucket=self.place.bucket, Key=full, VersionId=entry["VersionId"])
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code not in ("NotImplemented", "MethodNotAllowed", "501"):  # R2 and others keep no versions
                raise ArchiveError(f"versions of object {key} cannot be removed: {code}") from error
        except BotoCoreError as error:
            raise ArchiveError(f"versions of object {key} cannot be removed: {error}") from error

    def list(self) -> Iterator[Stored]:
        """Every object under the archive's prefix."""
        obstore = _needed()
        with _said(f"the archive at {self.place}"):
            for page in obstore.list(self._store):
                for entry in page:
                    yield Stored(entry["path"], entry["size"], entry["last_modified"])

    def leftovers(self) -> Iterator[Path]:
        """Files a kill left in a local archive's folder, which listing does not show."""
        if self.place.folder is not None and self.place.folder.is_dir():
            yield from (path for path in self.place.folder.rglob("*#*") if path.is_file())


class _Ranges(io.RawIOBase):
    """A read-only file over ranges of an object."""

    def __init__(self, objects: Objects, key: str, size: int) -> None:
        self._objects, self._key, self._size, self._at = objects, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        data = self._objects.range(self._key, self._at, end)
        self._at += len(data)
        return data


def _is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in _LOOPBACK


def _sync(folder: Path, key: str) -> None:
    """Put an object and the folders that name it on the device: a rename alone does not survive a power cut."""
    path = folder / key
    for target in (path, *path.parents):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if target == folder:
            return


def _missing(key: str) -> ArchiveError:
    error = ArchiveError(f"object {key} is missing", hint="Run `tracemill archive verify`; restore it from a copy.")
    error.missing = error.final = True
    return error


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Turn obstore's errors into ArchiveErrors; theirs name the request with its headers, ours the object."""
    from obstore.exceptions import (  # noqa: PLC0415 - an optional part
        AlreadyExistsError,
        BaseError,
        NotFoundError,
        PermissionDeniedError,
        UnauthenticatedError,
    )

    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise _missing(what.removeprefix("object ")) from error
    except (AlreadyExistsError, FileExistsError) as error:
        raise ArchiveError(f"{what} exists already") from error
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        refused = ArchiveError(
            f"{what}: access is refused", hint="Check s3_access_key, s3_secret_key and the bucket's policy."
        )
        refused.final = True
        raise refused from error
    except (BaseError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArchiveError(f"{what}: {first[:300]}", hint="Nothing left the database; run it again.") from error
