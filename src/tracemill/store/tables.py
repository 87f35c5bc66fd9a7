"""The tables of the hot store (SQLAlchemy Core), the same on SQLite and PostgreSQL.

A record is one row of ``records``: what is filtered by in columns, everything else in ``body`` (see rows.py). Text that
repeats (platform, model, conversation…) stands once in ``names`` and is referred to by number. Times are microseconds
from the Unix epoch, ids their 16 bytes. The migrations under ``migrations/`` make these tables; a test compares both.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

metadata = MetaData()

# SQLite makes only INTEGER PRIMARY KEY the row's own key; BIGINT would add an index of its own.
_Key = BigInteger().with_variant(Integer, "sqlite")

records = Table(
    "records",
    metadata,
    Column("place", _Key, primary_key=True, autoincrement=False),  # order of storing; given by the writer
    Column("id", LargeBinary(16), nullable=False),
    Column("type", SmallInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("producer", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("platform", Integer),
    Column("session", Integer),
    Column("conversation", Integer),
    Column("person", Integer),
    Column("model", Integer),
    Column("interaction", LargeBinary(16)),
    Column("success", SmallInteger),
    Column("parent", BigInteger),  # place of the record whose trajectory begins this one's messages
    Column("shared", Integer),  # how many messages of the parent's trajectory
    Column("raw_bytes", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
Index("records_id", records.c.id, unique=True)
Index("records_time", records.c.time)
for _column in ("session", "conversation", "person", "interaction", "parent"):
    Index(
        f"records_{_column}",
        records.c[_column],
        sqlite_where=records.c[_column].is_not(None),
        postgresql_where=records.c[_column].is_not(None),
    )

names = Table(
    "names",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("value", Text, nullable=False),
)
Index("names_value", names.c.value, unique=True)

# Where a trajectory can be continued: 63 bits of the rolling digest of its messages -> the record that holds them.
chains = Table(
    "chains",
    metadata,
    Column("key", _Key, primary_key=True, autoincrement=False),
    Column("record", BigInteger, nullable=False),
    Column("length", Integer, nullable=False),
)

# Texts and values kept once by content. `uses` counts the references in bodies; at zero the row goes.
parts = Table(
    "parts",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(16), nullable=False),
    Column("uses", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
Index("parts_digest", parts.c.digest, unique=True)

# zstd dictionaries; a compressed body names its own in the frame header.
dictionaries = Table(
    "dictionaries",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=False),
    Column("trained_on", BigInteger, nullable=False),  # bytes of bodies in the store when it was made
    Column("body", LargeBinary, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=True),
    Column("time", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("record", Text),
    Column("digest", LargeBinary(16), nullable=False),
    Column("raw", LargeBinary, nullable=False),
)
Index("quarantine_digest", quarantine.c.digest, unique=True)

# What is changed by every writer: `generation` grows when something cached may have been removed.
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

daily = Table(
    "daily",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # days from the Unix epoch, UTC
    Column("platform", Integer, primary_key=True, autoincrement=False),
    Column("type", SmallInteger, primary_key=True, autoincrement=False),
    Column("label", Integer, primary_key=True, autoincrement=False),
    Column("records", BigInteger, nullable=False),
    Column("succeeded", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_usd", Float, nullable=False),
    Column("duration_ms", Float, nullable=False),
    Column("timed", BigInteger, nullable=False),
    Column("raw_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("answered", BigInteger),  # both NULL in rows older than revision 0003: nobody counted
    Column("answered_well", BigInteger),
    sqlite_with_rowid=False,
)

daily_tools = Table(
    "daily_tools",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("platform", Integer, primary_key=True, autoincrement=False),
    Column("tool", Integer, primary_key=True, autoincrement=False),
    Column("called", BigInteger, nullable=False),
    Column("ran", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("duration_ms", Float, nullable=False),
    Column("timed", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Parts of records that arrive apart; gone once their record is made.
pending = Table(
    "pending",
    metadata,
    Column("source", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# Keys by which programs and people are known to the server. `body` holds everything but what changes with use.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("last_used", BigInteger),
    sqlite_with_rowid=False,
)

# The catalogue of the archive: one row an object (core/archive.py has the shape of ``body``).
archive_metadata = Table(
    "archive_metadata",
    metadata,
    Column("id", Text, primary_key=True),
    Column("status", Text, nullable=False),  # pending, live, retired
    Column("platform", Text, nullable=False),
    Column("day", Integer, nullable=False),  # days from the Unix epoch, UTC
    Column("changed", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# What was erased and must not come back: digests of ids, and of people and conversations up to a time.
tombstones = Table(
    "tombstones",
    metadata,
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(16), primary_key=True),
    Column("time", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Who allowed or withdrew what (store/consents.py): decided by without reading a record. Of an erased withdrawal, `id` is a
# digest. Column order is the order of reading.
consents = Table(
    "consents",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("person", LargeBinary(16), nullable=False),
    Column("purpose", SmallInteger, nullable=False),
    Column("platform", Text, nullable=False),
    Column("granted", SmallInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("erased", SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("consents_person", consents.c.person)

legal_holds = Table(
    "legal_holds",
    metadata,
    Column("id", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# Requests to erase, so that one that was cut off is finished.
erasures = Table(
    "erasures",
    metadata,
    Column("id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# Everything privileged that was done, hash-chained (core/audit.py). The database refuses to change or remove a row.
audit = Table(
    "audit",
    metadata,
    Column("number", _Key, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)
