"""Who allowed or withdrew what, narrow: a row for each consent record, under a digest of the person's pseudonym.

The rows stand in the database whether their records are there, in the archive or erased, so that a decision never reads a
body. Erasure and retention leave of a withdrawal what a tombstone is: digests, purpose, platform and time. Whoever took
back a consent and then had everything erased has not given it again. A grant goes with its record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from sqlalchemy import Connection, delete, select, update

from tracemill.core.codec import marked_text
from tracemill.core.consent import Default
from tracemill.core.ids import id_bytes, microseconds
from tracemill.core.records import Purpose
from tracemill.store.base import Said
from tracemill.store.names import CHUNK, column_text
from tracemill.store.statements import insert_rows, look_up
from tracemill.store.tables import consents, counters
from tracemill.store.tombstones import PERSON, RECORD, digest_of

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
CODES: dict[str, int] = {purpose: number for number, purpose in enumerate(PURPOSES, 1)}
_PURPOSES: dict[int, Purpose] = dict(enumerate(PURPOSES, 1))
INDEXED = "consents indexed"
"""The counter that says that the rows of all records of before the table are there."""


def person_digest(pseudonym: str) -> bytes:
    """The 16 bytes a person is known by here, by their pseudonym as an encoded record has it."""
    return digest_of(PERSON, pseudonym)


def platform_text(platform: str | None) -> str:
    """A platform as a row has it; empty for all of them."""
    return column_text(marked_text(platform or ""))


def newest(said: Iterable[Said], platform: str) -> Said | None:
    """What holds on a platform: the newest that names it or none; of one time the one of the greater id."""
    return max((one for one in said if one.platform in ("", platform)), key=lambda one: one[:2], default=None)


def allowed(said: Iterable[Said], platform: str, default: Default) -> bool:
    """Whether what one person said of one purpose allows it on a platform; the default where they said nothing."""
    holds = newest(said, platform)
    return default == "granted" if holds is None else holds.granted


def row_of(plain: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The row of a consent record as it is encoded."""
    return {
        "id": id_bytes(plain["id"]),
        "person": person_digest(plain["user"]["pseudonym"]),
        "purpose": CODES[plain["purpose"]],
        "platform": column_text(plain.get("platform") or ""),
        "granted": int(plain["granted"]),
        "time": microseconds(plain["time"]),
        "place": place,
        "erased": 0,
    }


def insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows; those of ids that have one stay as they are."""
    insert_rows(connection, consents, rows, ignore=True)


def bury(connection: Connection, ids: Sequence[str]) -> None:
    """Take records that are erased out: grants go, of a withdrawal stays what names nobody to whoever does not know them."""
    for start in range(0, len(ids), CHUNK):
        chunk = {id_bytes(identity): identity for identity in ids[start : start + CHUNK]}
        found = list(look_up(connection, (consents.c.id, consents.c.granted), consents.c.id, chunk))
        for raw, granted in found:
            one = consents.c.id == bytes(raw)
            if granted:
                connection.execute(delete(consents).where(one))
            else:
                stone = {"id": digest_of(RECORD, chunk[bytes(raw)]), "erased": 1}
                connection.execute(update(consents).where(one).values(stone))


def any_said(connection: Connection, purpose: Purpose) -> bool:
    """Whether anybody ever said anything of a purpose."""
    wanted = select(consents.c.id).where(consents.c.purpose == CODES[purpose]).limit(1)
    return connection.execute(wanted).first() is not None


def of_people(connection: Connection, purpose: Purpose, people: Iterable[bytes]) -> dict[bytes, list[Said]]:
    """What some people said of a purpose, by their digests."""
    found: dict[bytes, list[Said]] = {}
    for row in look_up(connection, tuple(consents.c), consents.c.person, people):
        one = _said(row)
        if one.purpose == purpose:
            found.setdefault(one.person, []).append(one)
    return found


def everything(
    connection: Connection, purposes: Sequence[Purpose], *, after: int = 0, up_to: int | None = None
) -> list[Said]:
    """What everybody said of some purposes between two places in the order of storing, ordered by id."""
    wanted = consents.c.purpose.in_([CODES[purpose] for purpose in purposes])
    statement = select(consents).where(wanted, consents.c.place > after).order_by(consents.c.id)
    if up_to is not None:
        statement = statement.where(consents.c.place <= up_to)
    return [_said(row) for row in connection.execute(statement)]


def _said(row: Any) -> Said:
    return Said(
        row[5],
        bytes(row[0]),
        bytes(row[1]),
        _PURPOSES[row[2]],
        row[3],
        bool(row[4]),
        row[6],
        bool(row[7]),
    )


def is_indexed(connection: Connection) -> bool:
    """Whether the records of before the table have their rows."""
    return connection.execute(select(counters.c.value).where(counters.c.name == INDEXED)).first() is not None
