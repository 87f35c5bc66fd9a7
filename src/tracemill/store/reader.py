"""Rows back to records, with what they share put in its place."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import zstandard
from sqlalchemy import Connection, Select, bindparam, select

from tracemill.core.codec import decode
from tracemill.core.errors import RecordError, StoreError
from tracemill.core.records import AnyRecord
from tracemill.store.chains import rolling
from tracemill.store.dictionary import Compressor, dictionary_of
from tracemill.store.names import Names
from tracemill.store.parts import PartReader
from tracemill.store.rows import assemble, named_columns
from tracemill.store.sealing import SEALED, Sealer, key_of
from tracemill.store.tables import dictionaries, records

_encode = msgspec.msgpack.Encoder().encode
_SEALED = SEALED.encode()
_GENERATION = "SELECT value FROM counters WHERE name = 'generation'"  # as text: it is asked at every turn


def _lineage_of_a_place() -> Select[Any]:
    columns = (
        *(records.c.place, records.c.id, records.c.parent, records.c.shared),
        *(records.c.raw_bytes, records.c.body),
    )
    first = select(*columns).where(records.c.place == bindparam("wanted")).cte("lineage", recursive=True)
    return select(first.union_all(select(*columns).join(first, records.c.place == first.c.parent)))


_LINEAGE = _lineage_of_a_place()


class Reader:
    """Assembles records. Holds the caches a store shares between its verbs; ``lock`` is held while they are used."""

    def __init__(self, cache_bytes: int, sealer: Sealer) -> None:
        self.lock = threading.RLock()
        self.sealer = sealer
        self.compressor = Compressor()
        self.parts = PartReader(self.compressor)
        self.names = Names()
        self._budget = cache_bytes
        self._cached = 0
        self._trajectories: OrderedDict[int, tuple[list[Any], int]] = OrderedDict()
        self._generation = -1

    @property
    def generation(self) -> int:
        """Grows when something that may be remembered was removed; as of the last refresh."""
        return self._generation

    def refresh(self, connection: Connection) -> bool:
        """Drop the caches when something may have been removed since they were filled. True when it did."""
        generation = connection.exec_driver_sql(_GENERATION).scalar() or 0  # there is none until something is removed
        if generation == self._generation:
            return False
        self.forget()
        self._generation = generation
        self.load_dictionaries(connection)
        return True

    def forget(self) -> None:
        """Drop the caches: after a rollback too, since numbers and places that were seen in it are given out again."""
        self._generation = -1
        self.parts.forget()
        self.names.forget()
        self.compressor.forget()
        self._trajectories.clear()
        self._cached = 0

    def records(self, connection: Connection, rows: Sequence[Any]) -> Iterator[AnyRecord]:
        """The records of some rows, in their order."""
        values = self.names.values(connection, {number for row in rows for number in named_columns(row)})
        for row in rows:
            yield self.record(connection, row, values)

    def record(self, connection: Connection, row: Any, values: dict[int, str]) -> AnyRecord:
        """One record. Raises StoreError when its stored form is damaged."""
        return decode(self.encoded(connection, row, values))

    def encoded(self, connection: Connection, row: Any, values: dict[int, str]) -> bytes:
        """One record as :func:`tracemill.core.codec.encode` writes it, up to the order of its fields."""
        body = self.body(connection, row)
        plain = assemble(row, body, values)
        if row.parent is not None:
            inherited = self.trajectory(connection, row.parent)[: row.shared]
            plain["messages"] = [*inherited, *body.get("messages", ())]
        if plain.get("messages") and row.place not in self._trajectories:  # whoever reads on in order needs it next
            response = plain.get("response")
            trajectory = [*plain["messages"], *([] if response is None else [response])]
            self._remember(row.place, trajectory, row.raw_bytes)
        return _encode(plain)

    def body(self, connection: Connection, row: Any) -> dict[str, Any]:
        """The decoded body of a row, parts in their places, sealed content opened."""
        try:
            raw = self.unpack(connection, bytes(row.body))
            body: dict[str, Any] = self.parts.decode(connection, raw)
        except (zstandard.ZstdError, msgspec.MsgspecError, RecordError, KeyError) as error:
            raise StoreError(
                f"record {bytes(row.id).hex()} is damaged: {error}",
                hint="Run `tracemill doctor`, restore from a backup.",
            ) from error
        if SEALED in body:
            content = self.sealer.open(bytes(row.id), body.pop(SEALED))
            assert isinstance(content, dict)  # whole records are sealed in the archive only
            body |= content
        return body

    def key_of(self, connection: Connection, row: Any) -> bytes | None:
        """The id of the key a row's content is sealed with; None for one that is not sealed."""
        raw = self.unpack(connection, bytes(row.body))
        if _SEALED not in raw:
            return None
        blob = self.parts.decode(connection, raw).get(SEALED)
        return key_of(blob) if blob is not None else None

    def unpack(self, connection: Connection, packed: bytes) -> bytes:
        """An encoded body out of its compressed form; loads the dictionary it names."""
        identity = dictionary_of(packed)
        if not self.compressor.knows(identity):
            self.load_dictionaries(connection)
        return self.compressor.decompress(packed)

    def load_dictionaries(self, connection: Connection) -> None:
        """Make every stored dictionary known to the compressor."""
        for identity, body in connection.execute(select(dictionaries.c.id, dictionaries.c.body)):
            if body:  # an empty one failed to train or is used by nothing any more
                self.compressor.add(identity, bytes(body))

    def trajectory(self, connection: Connection, place: int) -> list[Any]:
        """Messages and response of a stored interaction, ancestors included. Not to be changed by the caller."""
        known = self._trajectories.get(place)
        if known is not None:
            self._trajectories.move_to_end(place)
            return known[0]
        lineage = self._lineage(connection, place)
        trajectory: list[Any] = []
        if lineage and lineage[0].parent is not None:
            trajectory = self._trajectories[lineage[0].parent][0]
        for row in lineage:
            body = self.body(connection, row)
            inherited = trajectory[: row.shared] if row.parent is not None else []
            response = body.get("response")
            trajectory = [*inherited, *body.get("messages", ()), *([] if response is None else [response])]
            self._remember(row.place, trajectory, row.raw_bytes)
        return trajectory

    def _lineage(self, connection: Connection, place: int) -> list[Any]:
        """The row of a place and its ancestors up to one whose trajectory is at hand, oldest first."""
        lineage: list[Any] = []
        following: int | None = place
        for row in connection.execute(_LINEAGE, {"wanted": place}):
            if row.place != following:
                break
            lineage.append(row)
            following = row.parent
            if following is None or following in self._trajectories:
                return lineage[::-1]
        raise StoreError(f"the record at place {following} is missing", hint="Run `tracemill doctor`.")

    def _remember(self, place: int, trajectory: list[Any], size: int) -> None:
        self._trajectories[place] = (trajectory, size)
        self._cached += size
        while self._cached > self._budget and len(self._trajectories) > 1:
            _, (_, freed) = self._trajectories.popitem(last=False)
            self._cached -= freed

    def digest_at(self, connection: Connection, place: int, length: int) -> bytes | None:
        """The rolling digest of the first messages of a stored trajectory; None when it is shorter."""
        trajectory = self.trajectory(connection, place)
        return rolling(trajectory[:length])[-1] if len(trajectory) >= length else None
