"""Records made by hand, and the real trajectories as records, for the tests of feedback, datasets and exports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec

from tracemill.capture.importers.base import ImportContext
from tracemill.capture.importers.tau_bench import read_tau_bench
from tracemill.capture.ingest import Reject
from tracemill.core.codec import encode
from tracemill.core.ids import derived_id
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.records import (
    SCHEMA_VERSION,
    AnyRecord,
    Consent,
    Decision,
    Feedback,
    Interaction,
    Purpose,
    Step,
    User,
    Validation,
)
from tracemill.core.settings import Settings
from tracemill.store.base import Filter, Said, Store
from tracemill.store.consents import row_of
from tracemill.store.hot import HotStore

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def base(name: str, minutes: float = 0) -> dict[str, Any]:
    """The base fields of a record; ``name`` gives its id, ``minutes`` its time."""
    time = START + timedelta(minutes=minutes)
    return {
        "id": record_id(name),
        "time": time,
        "schema_version": SCHEMA_VERSION,
        "producer": "test",
        "sequence": 0,
    }


def record_id(name: str) -> str:
    """The id of the record that :func:`base` names so."""
    return derived_id("test", name)


def interaction(name: str, messages: list[dict[str, Any]], /, *, minutes: float = 0, **fields: Any) -> Interaction:
    return Interaction(**base(name, minutes), messages=messages, **fields)


def feedback(name: str, target: str | None = None, /, *, minutes: float = 0, **fields: Any) -> Feedback:
    target_id = None if target is None else record_id(target)
    return Feedback(**base(name, minutes), interaction_id=target_id, **fields)


def reward(target: str, score: float) -> Feedback:
    return feedback(f"reward {target}", target, kind="score", name="reward", score=score, annotator_kind="CODE")


def validation(name: str, target: str | None = None, /, *, minutes: float = 0, **fields: Any) -> Validation:
    target_id = None if target is None else record_id(target)
    return Validation(**base(name, minutes), interaction_id=target_id, **fields)


def step(name: str, target: str | None = None, /, *, minutes: float = 0, **fields: Any) -> Step:
    target_id = None if target is None else record_id(target)
    return Step(**base(name, minutes), interaction_id=target_id, **fields)


def decision(name: str, target: str | None = None, /, *, minutes: float = 0, **fields: Any) -> Decision:
    target_id = None if target is None else record_id(target)
    return Decision(**base(name, minutes), interaction_id=target_id, **fields)


def user(name: str) -> User:
    return User(pseudonym=name, key_id="k")


def says(role: str, content: str | None, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def calls(tool: str, arguments: str, call_id: str) -> dict[str, Any]:
    """An assistant message that calls one tool."""
    call = {"id": call_id, "type": "function", "function": {"name": tool, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def result(call_id: str, content: str, tool: str = "search") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "name": tool, "content": content}


def open_store(folder: Path, records: Sequence[AnyRecord] = ()) -> HotStore:
    """A real store in a folder, with records in it."""
    store = HotStore(f"sqlite:///{folder / 'store.db'}", Settings())
    appended = store.append(records)
    assert not appended.refused, appended.refused
    return store


def tau_bench(path: Path, key: bytes = b"k" * 32, *, expand: bool = False) -> Iterator[AnyRecord]:
    """The real trajectories as the importer reads them, with rewards as feedback; ``expand``: one record a model call."""
    context = ImportContext(pseudonymize=Pseudonymizer(key).user, platform="airline", expand=expand)
    for record in read_tau_bench(path, context):
        assert not isinstance(record, Reject)
        yield record


def tau_bench_source(path: Path) -> dict[str, dict[str, Any]]:
    """The runs of the file itself, by the id of the interaction each became."""
    interactions = [record for record in tau_bench(path) if isinstance(record, Interaction)]
    return {record.id: run for record, run in zip(interactions, json.loads(path.read_bytes()), strict=True)}


def chat_records(numbers: Iterable[int]) -> list[AnyRecord]:
    """Chats that went well, each of a user of its own: a row each."""
    return [
        interaction(
            *(str(number), [says("user", f"q{number}")]),
            response=says("assistant", f"a{number}"),
            success=True,
            user=user(f"user {number}"),
            minutes=number,
        )
        for number in numbers
    ]


class ListStore:
    """The part of a store that builds read, over a list: for laws that need many stores in any order."""

    def __init__(self, records: Sequence[AnyRecord]) -> None:
        self.records = list(records)

    def scan(self, where: Filter | None = None) -> Iterator[AnyRecord]:
        wanted = where or Filter()
        for place, record in enumerate(self.records, 1):
            tag = str(type(record).__struct_config__.tag)
            if wanted.types and tag not in wanted.types:
                continue
            if place <= wanted.after or (wanted.up_to is not None and place > wanted.up_to):
                continue
            if wanted.unlinked and getattr(record, "interaction_id", None) is not None:
                continue
            if wanted.platforms and getattr(record, "platform", None) not in wanted.platforms:
                continue
            yield record

    def get(self, record_id: str) -> AnyRecord | None:
        return next((record for record in self.records if record.id == record_id), None)

    def get_many(self, ids: Sequence[str], *, up_to: int | None = None) -> dict[str, AnyRecord]:
        return {record.id: record for record in self.records[:up_to] if record.id in ids}

    def known(self, ids: Sequence[str]) -> set[str]:
        return set(ids) & {record.id for record in self.records}

    def consents(self, purposes: Sequence[Purpose], *, after: int = 0, up_to: int | None = None) -> list[Said]:
        rows = [
            Said(row["time"], row["id"], row["person"], record.purpose, row["platform"], record.granted, place, False)
            for place, record in enumerate(self.records, 1)
            if isinstance(record, Consent) and record.purpose in purposes and place > after
            for row in [row_of(msgspec.msgpack.decode(encode(record)), place)]
            if up_to is None or place <= up_to
        ]
        return sorted(rows, key=lambda one: one.id)

    def linked(self, ids: Sequence[str]) -> set[str]:
        return {record.id for record in self.records if getattr(record, "interaction_id", None) in set(ids)}

    def watermark(self) -> int:
        return len(self.records)


def list_store(records: Sequence[AnyRecord]) -> Store:
    """A :class:`ListStore` as the protocol it serves a part of."""
    return cast("Store", ListStore(records))
