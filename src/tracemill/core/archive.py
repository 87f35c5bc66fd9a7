"""What is known of a sealed object of the archive: one entry of its catalogue (table ``archive_metadata``)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

ArchiveStatus: TypeAlias = Literal["pending", "live", "retired"]
"""``pending``: being written, nothing reads it. ``live``: its rows are nowhere else. ``retired``: its rows are in another
object or gone, and the object itself is to be deleted."""
ArchiveFormat: TypeAlias = Literal["parquet", "jsonl.gz"]


class ArchivedFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object of the archive. Times are microseconds from the Unix epoch, ``day`` is days from it (UTC).

    Records of one platform and day lie in one partition; ``platform`` is empty for records that name none. ``first_id``
    and ``last_id`` are the smallest and largest record id, as 16 bytes; places are those of the order of storing.
    ``raw_bytes`` is what the records take encoded whole, ``hot_bytes`` what their bodies took in
    the database, ``stored_bytes`` the size of the object, ``sha256`` its digest in
    hex. ``types`` counts the records by their tag. ``lease`` is the moment until which
    ``owner`` (host and process) may write a pending object.
    """

    id: str
    object_key: str
    platform: str
    day: int
    status: ArchiveStatus
    format: ArchiveFormat = "parquet"
    lease: int = 0
    owner: str = ""
    records: Annotated[int, Meta(ge=0)] = 0
    types: dict[str, int] = {}
    raw_bytes: int = 0
    hot_bytes: int = 0
    stored_bytes: int = 0
    sha256: str = ""
    storage_class: str = ""
    first_time: int = 0
    last_time: int = 0
    first_place: int = 0
    last_place: int = 0
    first_id: bytes = b""
    last_id: bytes = b""
    created: int = 0
    verified: int = 0

    @property
    def ratio(self) -> float:
        """How many times smaller the object is than its records encoded whole; 0 where nothing is stored."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else 0.0
