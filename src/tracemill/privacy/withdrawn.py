"""Withdrawals kept a second time, beside the receipts: a database restored from a backup has lost the newest of them.

One line a withdrawal in ``receipts/withdrawals.log``: digests of the record's id and of the person, purpose, time in
microseconds, platform as JSON. Nothing of what the person said, and nothing that leads to them without their pseudonym.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tracemill.core.ids import id_text
from tracemill.core.records import Purpose
from tracemill.privacy.lines import append_lines
from tracemill.store import consents
from tracemill.store.base import Said
from tracemill.store.consents import CODES, PURPOSES
from tracemill.store.hot import HotStore
from tracemill.store.tombstones import RECORD, digest_of
from tracemill.store.writer import advance

LOG = "withdrawals.log"


@dataclass(frozen=True, slots=True)
class Stone:
    """A withdrawal without its record."""

    id: bytes
    person: bytes
    purpose: Purpose
    time: int
    platform: str

    @classmethod
    def of(cls, said: Said) -> Stone:
        """The stone of a withdrawal, whether or not its record is still there."""
        identity = said.id if said.erased else digest_of(RECORD, id_text(said.id))
        return cls(identity, said.person, said.purpose, said.time, said.platform)


def append(folder: Path, said: Iterable[Said]) -> int:
    """Write down the withdrawals that are not there yet, on the device when this returns; how many. Raises OSError."""
    known = {stone.id for stone in read(folder)}
    new = [stone for one in said if not one.granted and (stone := Stone.of(one)).id not in known]
    if new:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = "".join(
            f"{one.id.hex()} {one.person.hex()} {one.purpose} {one.time} {json.dumps(one.platform)}\n" for one in new
        )
        append_lines(folder / LOG, lines.encode())
    return len(new)


def read(folder: Path) -> list[Stone]:
    """Every withdrawal that was written down; a line that a kill tore is left out."""
    path = folder / LOG
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split(" ", 4)
        if len(words) == 5 and len(words[0]) == len(words[1]) == 32 and words[2] in CODES and words[4].endswith('"'):
            identity, person, purpose, time, platform = words
            found.append(
                Stone(
                    bytes.fromhex(identity),
                    bytes.fromhex(person),
                    msgspec.convert(purpose, Purpose),
                    int(time),
                    json.loads(platform),
                )
            )
    return found


def agree(store: HotStore, folder: Path) -> int:
    """Have the file and the database know the same withdrawals; how many the database had lost. Raises StoreError, OSError."""
    said = store.consents(PURPOSES)
    append(folder, said)
    known = {Stone.of(one).id for one in said if not one.granted}
    lost = [stone for stone in read(folder) if stone.id not in known]
    if lost:
        with store.exclusive() as connection:
            last = advance(connection, "place", len(lost))  # later than any version that was built without them
            rows = [
                {
                    "id": stone.id,
                    "person": stone.person,
                    "purpose": CODES[stone.purpose],
                    "platform": stone.platform,
                    "granted": 0,
                    "time": stone.time,
                    "place": last - at,
                    "erased": 1,
                }
                for at, stone in enumerate(lost)
            ]
            consents.insert(connection, rows)
            advance(connection, "generation", 1)
    return len(lost)
