"""The promises of the store: what was written is read, once, and a bad record harms nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.store.conftest import OpenStore
from tracemill.core import codec
from tracemill.core.errors import StoreBusyError, StoreError, StoreFullError, StoreVersionError
from tracemill.core.ids import EPOCH, new_id, now
from tracemill.core.records import AnyRecord, Feedback, Interaction, Model, Step, User
from tracemill.store.base import Filter
from tracemill.store.hot import HotStore


def interaction(**fields: Any) -> Interaction:
    base: dict[str, Any] = {
        "id": new_id(),
        "time": now(),
        "schema_version": 1,
        "producer": "test",
        "sequence": 0,
    }
    return Interaction(**{**base, **fields})


def chat(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(texts)]


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking opens thousands of databases
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(strategies.records, max_size=8, unique_by=lambda record: record.id))
def test_what_is_written_is_read_exactly(open_at: OpenStore, records: list[AnyRecord]) -> None:
    store = open_at(f"workspace-{new_id()}")
    assert store.append(records).stored == len(records)
    assert list(store.scan()) == records
    assert [store.get(record.id) for record in records] == records
    again = store.append(records)
    assert (again.stored, again.duplicates, again.refused) == (0, len(records), ())
    assert store.verify() == []
    assert store.erase([record.id for record in records]) == len(records)
    assert list(store.scan()) == []
    assert store.daily() == []
    assert store.daily_tools() == []
    assert store.verify() == []
    store.close()


def test_the_same_on_both_databases(store: HotStore) -> None:
    odd = interaction(
        conversation_id="nul\x00", session_id="\ud800", extra={"n": float("inf"), "b": b"\x00", "big": 2**90}
    )
    calls = [
        interaction(messages=chat(*"abcde"[: 2 * n + 1]), response={"role": "assistant", "content": "bdf"[n]})
        for n in range(3)
    ]
    assert store.append([odd, *calls]).stored == 4
    assert list(store.scan()) == [odd, *calls]
    assert list(store.scan(Filter(conversation_id="nul\x00"))) == [odd]
    assert list(store.scan(Filter(session_id="\ud800"))) == [odd]
    assert store.append([odd]).duplicates == 1
    assert store.append([msgspec.structs.replace(odd, turn=5)]).refused[0].reason == "conflict"
    assert store.erase([calls[0].id]) == 1
    assert list(store.scan(Filter(after=1))) == calls[1:]
    assert store.verify() == []
    assert store.size() > 0


def test_the_same_id_with_another_body_is_quarantined_and_not_overwritten(open_at: OpenStore) -> None:
    store = open_at()
    first = interaction(intent="first")
    second = msgspec.structs.replace(first, intent="second")
    mate = interaction()
    store.append([first])
    result = store.append([second, mate])
    assert (result.stored, result.duplicates) == (1, 0)
    (refusal,) = result.refused
    assert (refusal.index, refusal.id, refusal.reason) == (0, first.id, "conflict")
    assert store.get(first.id) == first
    (kept,) = store.quarantined()
    assert codec.decode(kept.raw) == second
    store.append([second])
    assert len(store.quarantined()) == 1, "the same refused bytes again are kept once"


def test_within_one_batch_a_repeat_is_a_duplicate_and_another_body_a_conflict(open_at: OpenStore) -> None:
    store = open_at()
    first = interaction(intent="first")
    result = store.append([first, first, msgspec.structs.replace(first, intent="other")])
    assert (result.stored, result.duplicates, [entry.index for entry in result.refused]) == (1, 1, [2])


def test_a_poisoned_item_is_quarantined_alone(open_at: OpenStore) -> None:
    store = open_at()
    good = [interaction(sequence=index) for index in range(3)]
    bomb: Any = {}
    for _ in range(3000):
        bomb = {"x": bomb}
    plain = codec.to_plain(good[0])
    poison = [
        b"",
        b"\xc1garbage",
        msgspec.msgpack.encode({**plain, "id": "not an id"}),
        msgspec.msgpack.encode({**plain, "record": "nobody"}),
        msgspec.msgpack.encode({**plain, "duration_ms": "soon"}),
        codec.encode(good[1])[:-3],
    ]
    items = [codec.encode(good[0]), *poison, codec.encode(good[1]), codec.encode(good[2])]
    result = store.append_encoded(items)
    assert result.stored == 3
    assert [entry.index for entry in result.refused] == list(range(1, 7))
    assert {entry.reason for entry in result.refused} <= {"malformed", "invalid"}
    assert list(store.scan()) == good
    assert {entry.raw for entry in store.quarantined()} == set(poison)
    deep = store.append([interaction(extra=bomb), good[0]])
    assert (deep.duplicates, deep.refused[0].reason) == (1, "too_deep")


def test_unknown_fields_of_a_newer_producer_are_stored(open_at: OpenStore) -> None:
    store = open_at()
    record = interaction()
    item = msgspec.msgpack.encode({**codec.to_plain(record), "novel": {"x": 1}, "schema_version": 7})
    assert store.append_encoded([item]).stored == 1
    found = store.get(record.id)
    assert found is not None
    assert (found.schema_version, found.extra) == (7, {"$unknown": {"novel": {"x": 1}}})
    assert store.append_encoded([item]).duplicates == 1


def test_a_logged_conversation_is_kept_once(open_at: OpenStore) -> None:
    turns = chat(*(f"turn {index}: {os.urandom(300).hex()}" for index in range(41)))
    calls = [interaction(messages=turns[:end], response=turns[end], sequence=end) for end in range(1, 41, 2)]
    once, repeated = open_at("once"), open_at("repeated")
    once.append([interaction(messages=turns)])
    for call in calls:  # one by one, so that the parent is found in the database and not in the batch
        repeated.append([call])
        repeated._writer.forget()
    assert list(repeated.scan()) == calls
    assert [repeated.get(call.id) for call in reversed(calls)] == calls[::-1]
    stored = [sum(row.stored_bytes for row in store.daily()) for store in (once, repeated)]
    assert stored[1] < 1.5 * stored[0]
    assert repeated.verify() == []


def test_branches_of_a_conversation_share_what_they_have_in_common(open_at: OpenStore) -> None:
    store = open_at()
    history = chat("a", "b", "c")
    one = interaction(messages=history, response={"role": "assistant", "content": "left"})
    left = interaction(messages=[*history, {"role": "assistant", "content": "left"}, {"role": "user", "content": "on"}])
    right = interaction(
        messages=[*history, {"role": "assistant", "content": "right"}, {"role": "user", "content": "on"}]
    )
    store.append([one, left, right])
    assert list(store.scan()) == [one, left, right]


def test_key_order_within_a_message_is_kept(open_at: OpenStore) -> None:
    store = open_at()
    straight = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    turned = [{"content": "x", "role": "user"}, {"content": "y", "role": "assistant"}]
    records = [
        interaction(messages=straight),
        interaction(messages=[*turned, {"role": "user", "content": "z"}]),
    ]
    store.append(records)
    found = [record for record in store.scan() if isinstance(record, Interaction)]
    assert [list(record.messages[0]) for record in found] == [["role", "content"], ["content", "role"]]


def test_erasing_a_record_leaves_those_that_continued_it_whole(open_at: OpenStore) -> None:
    store = open_at()
    turns = chat(*(f"turn {index} " * 200 for index in range(9)))
    calls = [interaction(messages=turns[:end], response=turns[end]) for end in (1, 3, 5, 7)]
    store.append(calls)
    left = list(calls)
    for call in (calls[1], calls[0], calls[2]):
        assert store.erase([call.id]) == 1
        left.remove(call)
        assert list(store.scan()) == left
        assert store.verify() == []
    continued = interaction(messages=turns[:9])
    store.append([continued])
    assert store.get(continued.id) == continued


def test_parts_go_with_the_last_record_that_uses_them(open_at: OpenStore, tmp_path: Path) -> None:
    store = open_at()
    canary = "canary-" + os.urandom(8).hex()
    prompt = {"role": "system", "content": f"{canary} " + "be kind " * 300}
    artifact = {"nodes": [f"{canary} node {index}" for index in range(900)]}
    records = [
        interaction(
            messages=[prompt, *chat(f"{canary} {index}")],
            artifact=artifact,
            conversation_id=f"{canary}-{index}",
        )
        for index in range(3)
    ]
    store.append(records)
    assert list(store.scan()) == records
    assert store.erase([records[0].id]) == 1
    assert list(store.scan()) == records[1:]
    assert store.erase([record.id for record in records]) == 2
    store.close()
    left = b"".join(path.read_bytes() for path in (tmp_path / "workspace").rglob("*") if path.is_file())
    assert canary.encode() not in left


def test_filters(open_at: OpenStore) -> None:
    store = open_at()
    start = EPOCH + timedelta(days=20_000)
    user = User(pseudonym="p", key_id="k")
    records: list[AnyRecord] = [
        interaction(platform="a", time=start, conversation_id="c1", success=True, user=user),
        interaction(
            platform="b",
            time=start + timedelta(hours=1),
            conversation_id="c2",
            success=False,
            model=Model(name="m"),
        ),
        interaction(platform="b", time=start + timedelta(hours=2), session_id="c1"),
    ]
    about = records[1].id
    records.append(
        Feedback(
            id=new_id(),
            time=start,
            schema_version=1,
            producer="p",
            sequence=1,
            kind="thumbs_up",
            interaction_id=about,
        )
    )
    records.append(
        Step(
            id=new_id(),
            time=start,
            schema_version=1,
            producer="p",
            sequence=2,
            interaction_id=about,
            platform="b",
        )
    )
    store.append(records)

    def read(**fields: Any) -> list[int]:
        found = list(store.scan(Filter(**fields), page=2))
        assert store.count(Filter(**fields)) == len(found)
        return [records.index(record) for record in found]

    assert read() == [0, 1, 2, 3, 4]
    assert read(types=("interaction",)) == [0, 1, 2]
    assert read(types=("feedback", "step")) == [3, 4]
    assert read(platforms=("b",)) == [1, 2, 4]
    assert read(platforms=("a", "nowhere")) == [0]
    assert read(platforms=("nowhere",)) == []
    assert read(conversation_id="c1") == [0]
    assert read(session_id="c1") == [2]
    assert read(conversation_id="none") == []
    assert read(user="p") == [0]
    assert read(model="m") == [1]
    assert read(interaction_id=about) == [3, 4]
    assert read(success=True) == [0]
    assert read(success=False) == [1]
    assert read(since=start + timedelta(hours=1)) == [1, 2]
    assert read(until=start + timedelta(hours=1)) == [0, 3, 4]
    assert read(after=2) == [2, 3, 4]
    assert read(after=1, up_to=3) == [1, 2]
    assert store.watermark() == 5
    assert store.known([records[0].id, new_id()]) == {records[0].id}
    assert store.get("no id") is None
    assert store.get(new_id()) is None


def test_a_place_is_never_given_twice(open_at: OpenStore) -> None:
    store = open_at()
    first = interaction()
    store.append([first])
    store.erase([first.id])
    second = interaction()
    store.append([second])
    assert store.watermark() == 2
    assert list(store.scan(Filter(after=1))) == [second]


def test_a_dictionary_is_trained_and_holds_nothing_personal(open_at: OpenStore, tmp_path: Path) -> None:
    store = open_at()
    secrets = [os.urandom(9).hex() for _ in range(600)]
    records = [
        interaction(
            conversation_id=f"c{index}",
            messages=chat(f"my number is {secret}, what is my balance today? " * 12, "it is fine"),
        )
        for index, secret in enumerate(secrets)
    ]
    for start in range(0, 600, 100):
        store.append(records[start : start + 100])
    assert list(store.scan()) == records
    assert store.verify() == []
    store.close()
    with sqlite3.connect(tmp_path / "workspace" / "store.db") as connection:
        dictionaries = [body for (body,) in connection.execute("SELECT body FROM dictionaries WHERE length(body) > 0")]
    connection.close()
    assert dictionaries, "no dictionary was trained"
    assert not [secret for secret in secrets if any(secret.encode() in body for body in dictionaries)]
    again = open_at()
    assert list(again.scan()) == records


def _append_many(path: str, start: int, count: int) -> None:
    from tracemill.core.settings import load_settings
    from tracemill.store.tiered import open_store

    store = open_store(load_settings({"workspace": path}, environment={}))
    for index in range(start, start + count):
        shared = [{"role": "user", "content": f"question {index % 7} " * 40}]
        store.append([interaction(messages=shared, platform=f"p{index % 5}", conversation_id=f"c{index}")])
    store.close()


def test_several_processes_write_one_database(open_at: OpenStore, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_append_many, args=(str(tmp_path / "workspace"), number * 100, 40))
        for number in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    store = open_at()
    assert store.count() == 120
    assert store.verify() == []


def test_threads_read_while_one_writes(open_at: OpenStore) -> None:
    store = open_at()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(15):
                seen = [record.sequence for record in store.scan(page=7)]
                assert seen == sorted(seen)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    for index in range(60):
        store.append([interaction(sequence=index, messages=chat("x" * 50))])
    for thread in readers:
        thread.join()
    assert failures == []


WRITER = """
import sys
from tracemill.core.settings import load_settings
from tracemill.core.records import Interaction
from tracemill.core.ids import new_id, now
from tracemill.store.tiered import open_store
store = open_store(load_settings({"workspace": sys.argv[1]}, environment={}))
number = 0
while True:
    batch = [
        Interaction(id=new_id(), time=now(), schema_version=1, producer="w", sequence=number + i,
                    messages=[{"role": "user", "content": f"question {number} " * 30}])
        for i in range(20)
    ]
    number += 20
    assert store.append(batch).stored == 20
    print(*[record.id for record in batch], sep="\\n", flush=True)
"""


def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(open_at: OpenStore, tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for attempt in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "workspace")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(20 * (3 + 5 * attempt)):
            acknowledged.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().splitlines()
        acknowledged.update(line for line in lines if len(line) == 36)
        process.wait()
        process.stdout.close()
    store = open_at()
    stored = [record.id for record in store.scan()]
    assert acknowledged - set(stored) == set()
    assert len(stored) == len(set(stored))
    assert len(stored) % 20 == 0, "half a batch was stored"
    assert store.verify() == []


def test_a_database_of_a_newer_version_is_refused(open_at: OpenStore, tmp_path: Path) -> None:
    open_at().close()
    with sqlite3.connect(tmp_path / "workspace" / "store.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreVersionError, match="9999"):
        open_at()


def test_a_locked_database_says_so_and_stores_nothing(
    open_at: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracemill.store.engine.BUSY_TIMEOUT_SECONDS", 0.05)
    store = open_at()
    other = sqlite3.connect(tmp_path / "workspace" / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    record = interaction()
    with pytest.raises(StoreBusyError):
        store.append([record])
    other.execute("ROLLBACK")
    other.close()
    assert store.append([record]).stored == 1


def test_a_full_disk_stores_nothing_of_the_batch_and_goes_on_when_there_is_room(open_at: OpenStore) -> None:
    store = open_at()
    store.append([interaction()])
    pool_limit = "PRAGMA max_page_count = {}"

    def limit(pages: int) -> None:
        store._engine.dispose()
        store_limit[0] = pages

    from sqlalchemy import event

    store_limit = [100]

    @event.listens_for(store._engine, "connect")
    def _limit(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute(pool_limit.format(store_limit[0]))

    limit(100)
    big = [interaction(extra={"x": os.urandom(60_000).hex()}) for _ in range(10)]
    with pytest.raises(StoreFullError):
        store.append(big)
    assert store.count() == 1
    limit(100_000)
    assert store.append(big).stored == 10
    assert store.verify() == []


def test_damage_is_found_and_named(open_at: OpenStore, tmp_path: Path) -> None:
    store = open_at()
    records = [interaction(messages=chat(f"text {index} " * 30)) for index in range(3)]
    store.append(records)
    store.close()
    with sqlite3.connect(tmp_path / "workspace" / "store.db") as connection:
        connection.execute("UPDATE records SET body = substr(body, 1, length(body) - 4) WHERE place = 2")
    connection.close()
    store = open_at()
    with pytest.raises(StoreError, match=records[1].id.replace("-", "")):
        store.get(records[1].id)
    assert store.get(records[2].id) == records[2]
    (problem,) = store.verify()
    assert records[1].id.replace("-", "") in problem
