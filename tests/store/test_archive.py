"""The archive: the same answers before and after, whatever is cut off, whoever else is at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.store.test_hot import chat
from tracemill.core.archive import ArchivedFile
from tracemill.core.codec import encode
from tracemill.core.errors import ArchiveError
from tracemill.core.ids import microseconds, new_id, now
from tracemill.core.records import AnyRecord, Feedback, Interaction, Model, Step, User
from tracemill.core.settings import load_settings
from tracemill.store.archived import archive_folder
from tracemill.store.archiving import Archiver, ArchiveReport, escaped
from tracemill.store.base import Filter
from tracemill.store.cold import catalogue
from tracemill.store.cold.layout import SealedRow, from_table, to_table
from tracemill.store.resealing import merge_small, reseal, restore, verify_objects
from tracemill.store.sealing import Sealer
from tracemill.store.tiered import TieredStore, open_store

SEALER = Sealer(load_settings({}, environment={}))
OLD = now() - timedelta(days=90)


def archiver_of(store: TieredStore) -> Archiver:
    return Archiver(store, store.objects, archive_folder(store.settings))


def archive(store: TieredStore, until: Any = None, progress: Any = None) -> ArchiveReport:
    archiver = archiver_of(store)
    report = ArchiveReport(False, str(store.objects.place))
    archiver.run(archiver.plan({}, microseconds(until or now() - timedelta(days=30))), report, progress)
    return report


def interaction(number: int, **fields: Any) -> Interaction:
    return Interaction(
        **{
            "id": new_id(),
            "time": OLD + timedelta(minutes=number),
            "schema_version": 1,
            "producer": "p",
            "sequence": number,
            "platform": "shop" if number % 3 else "desk",
            "conversation_id": f"c{number % 7}",
            "user": User(pseudonym=f"u{number % 5}", key_id="k"),
            "model": Model(provider="openai", name=f"m{number % 2}"),
            "messages": chat(f"question {number}"),
            "response": {"role": "assistant", "content": f"answer {number}"},
            "success": number % 4 != 0,
            **fields,
        }
    )


def sample(count: int = 60) -> list[AnyRecord]:
    found: list[AnyRecord] = []
    for number in range(count):
        turn = interaction(number)
        found.append(turn)
        base: dict[str, Any] = {
            "schema_version": 1,
            "producer": "p",
            "sequence": number,
            "time": turn.time + timedelta(seconds=5),
        }
        if number % 4 == 0:
            said = Feedback(id=new_id(), kind="thumbs_up", interaction_id=turn.id, platform=turn.platform, **base)
            found.append(said)
        if number % 6 == 0:
            found.append(Step(id=new_id(), interaction_id=turn.id, index=1, **base))
    found.append(interaction(count, time=now()))
    return found


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., TieredStore]]:
    stores: list[TieredStore] = []

    def open_one(name: str = "workspace", **given: Any) -> TieredStore:
        store = open_store(load_settings({"workspace": str(tmp_path / name), **given}, environment={}))
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.close()


FILTERS = [
    Filter(),
    Filter(types=("interaction",)),
    Filter(types=("feedback", "step")),
    Filter(platforms=("shop",)),
    Filter(platforms=("shop", "desk"), success=False),
    Filter(conversation_id="c3"),
    Filter(user="u2"),
    Filter(user="nobody"),
    Filter(model="m1", success=True),
    Filter(since=OLD + timedelta(minutes=20), until=OLD + timedelta(minutes=40)),
    Filter(after=17),
    Filter(up_to=33),
    Filter(after=10, up_to=30, platforms=("desk",)),
    Filter(visible_to="u1"),
    Filter(visible_to="u4", types=("feedback",)),
]


def answers(store: TieredStore, ids: list[str]) -> dict[str, Any]:
    """Everything a reader can ask."""
    found: dict[str, Any] = {"watermark": store.watermark(), "daily": store.daily(), "tools": store.daily_tools()}
    for number, where in enumerate(FILTERS):
        found[f"scan {number}"] = list(store.scan(where, page=7))
        found[f"page {number}"] = store.page(where, 5)
        if where.visible_to is None:
            found[f"count {number}"] = store.count(where)
    for text in ("Question 1", "ANSWER 33", "question", "thumbs_up", "nowhere", '"u1"', "u1"):
        found[f"search {text}"] = store.search(text)
        found[f"search {text} few"] = store.search(text, Filter(platforms=("shop",), after=4), limit=3)
        found[f"search {text} own"] = store.search(text, Filter(visible_to="u1"), limit=1000)
    found["get"] = [store.get(identity) for identity in ids]
    found["visible"] = [store.get(identity, visible_to="u1") for identity in ids]
    found["many"] = store.get_many(ids)
    found["some"] = store.get_many(ids, up_to=20)
    found["known"] = store.known([*ids, new_id()])
    return found


@pytest.mark.parametrize("format", ["parquet", "jsonl.gz"])
def test_nobody_who_reads_notices(opened: Callable[..., TieredStore], format: str) -> None:  # noqa: A002
    store = opened(archive_format=format)
    records = sample()
    store.append(records)
    ids = [record.id for record in records]
    before = answers(store, ids)
    report = archive(store)
    assert report.records == len(records) - 1
    assert super(TieredStore, store).count() == 1
    assert set(report.platforms) == {"shop", "desk", ""}
    assert answers(store, ids) == before
    assert store.verify() == []
    assert verify_objects(store) == []
    again = opened()
    assert answers(again, ids) == before


def test_a_text_is_found_wherever_it_stands(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    arguments = '{"note": "naïve \\"quoted\\" line\\nbreak", "city": "Lyon"}'
    call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
    history = [*chat("hello"), {"role": "assistant", "content": None, "tool_calls": [call]}]
    first = interaction(1, messages=history[:1], response=history[1])
    second = interaction(2, messages=history, response={"role": "assistant", "content": "Grüße, Straße"})
    long = "needle in a part " + "hay " * 3000
    third = interaction(3, messages=chat("x"), artifact={"nodes": [{"text": long}]}, intent='say "hi"')
    shared = interaction(4, messages=chat("y"), artifact={"nodes": [{"text": long}]})
    records = [first, second, third, shared]
    for record in records:
        store.append([record])
    wanted: dict[str, list[AnyRecord]] = {
        "lyon": [first, second],
        'naïve "quoted"': [first, second],
        "line\nbreak": [first, second],
        "look_up": [first, second],
        "GRÜSSE": [],
        "grüße": [second],
        "Needle in a PART": [third, shared],
        'say "hi"': [third],
        "messages": [],
        "hay ": [third, shared],
    }
    for _ in range(2):
        for text, expected in wanted.items():
            assert [record for _, record in store.search(text)] == expected, text
        archive(store)
    with pytest.raises(ValueError, match="nothing to look for"):
        store.search(" ")


def test_what_is_archived_is_not_stored_twice(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    records = sample()
    store.append(records)
    archive(store)
    result = store.append(records)
    assert (result.stored, result.duplicates, result.refused) == (0, len(records), ())
    first = records[0]
    assert isinstance(first, Interaction)
    changed = replace_struct(first, intent="something else")
    (refusal,) = store.append([changed]).refused
    assert (refusal.reason, refusal.id) == ("conflict", first.id)
    assert store.get(first.id) == first


def replace_struct(record: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(record, **changes)


def test_running_it_again_does_nothing(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    store.append(sample())
    assert archive(store).records > 0
    files = store.archived_files()
    report = archive(store)
    assert (report.records, report.objects, report.cleaned) == (0, [], 0)
    assert store.archived_files() == files


def test_a_conversation_goes_on_after_its_beginning_was_archived(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    call = {"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    history = [*chat("find it"), asked, {"role": "tool", "tool_call_id": "1", "content": "found " * 40}]
    first = interaction(1, messages=history[:1], response=history[1])
    second = interaction(2, messages=history, response={"role": "assistant", "content": "here"}, time=now())
    third = interaction(3, messages=[*history, {"role": "assistant", "content": "here"}, *chat("more")], time=now())
    for record in (first, second, third):
        store.append([record])
    tools = store.daily_tools()
    assert archive(store).records == 1
    assert list(store.scan()) == [first, second, third]
    assert store.daily_tools() == tools
    assert store.verify() == []
    fourth = interaction(4, messages=third.messages, response={"role": "assistant", "content": "bye"}, time=now())
    store.append([fourth])
    assert store.get(fourth.id) == fourth
    store.erase([second.id])
    store.erase([third.id, fourth.id])
    assert [(row.tool, row.called) for row in store.daily_tools()] == [("search", 1)]


def test_small_objects_are_merged_and_rows_come_back(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    records = sample()
    ids = [record.id for record in records]
    store.append(records)
    before = answers(store, ids)
    for minutes in (15, 35, 80):
        archive(store, OLD + timedelta(minutes=minutes))
    many = len(store.archived_files())
    assert merge_small(store, archiver_of(store)) > 0
    assert len(store.archived_files()) < many
    assert answers(store, ids) == before
    assert verify_objects(store) == []
    on_disk = {path.name.split(".")[0] for path in Path(str(store.objects.place)).rglob("*.parquet")}
    assert on_disk == {file.id for file in store.archived_files()}
    for file in store.archived_files():
        restore(store, file)
    assert store.archived_files() == []
    assert answers(store, ids) == before
    assert store.verify() == []
    assert not list(Path(str(store.objects.place)).rglob("*.parquet"))


def test_the_room_shared_by_logged_calls_comes_back_as_small_as_it_was(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    history: list[dict[str, Any]] = []
    for turn in range(40):
        history = [*history, {"role": "user", "content": f"please do {turn} " + "x" * 200}]
        answer = {"role": "assistant", "content": f"done {turn}"}
        store.append([interaction(1, messages=history, response=answer, sequence=turn)])
        history = [*history, answer]
    rows = [(row.called, row.tool) for row in store.daily_tools()]
    archive(store)
    for file in store.archived_files():
        restore(store, file)
    with store.engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT sum(length(body)), count(parent) FROM records").one()
    assert kept[1] == 39
    assert kept[0] < 40 * 400
    assert [(row.called, row.tool) for row in store.daily_tools()] == rows


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(strategies.records, max_size=6))
def test_columns_give_every_record_back(records: list[AnyRecord]) -> None:
    rows = [SealedRow(number, record, 10 + number, 5, number or None) for number, record in enumerate(records)]
    back = list(from_table(to_table(rows, SEALER), SEALER))
    assert [encode(row.record) for row in back] == [encode(record) for record in records]
    assert [replace(row, record=None) for row in back] == [replace(row, record=None) for row in rows]  # type: ignore[arg-type]


@given(st.text(max_size=30), st.text(max_size=30))
def test_names_of_platforms_are_safe_and_never_meet(one: str, other: str) -> None:
    one, other = (text.encode("utf-8", "replace").decode() for text in (one, other))
    assert (escaped(one) == escaped(other)) == (one == other)
    assert not set(escaped(one)) - set("~-_") - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class StoppedError(Exception):
    pass


STEPS = ("sealing", "sealed", "uploaded", "leaving", "committed")


@pytest.mark.parametrize("point", STEPS)
def test_stopped_at_any_step_it_loses_nothing_and_the_next_run_finishes(
    opened: Callable[..., TieredStore], point: str
) -> None:
    store = opened()
    records = sample()
    ids = [record.id for record in records]
    store.append(records)
    before = answers(store, ids)

    def stop(step: str, _done: int, _total: int | None) -> None:
        if step == point:
            raise StoppedError

    with pytest.raises(StoppedError):
        archive(store, progress=stop)
    assert answers(store, ids) == before
    archive(store)
    assert answers(store, ids) == before
    assert super(TieredStore, store).count() == 1
    on_disk = {path.name.split(".")[0] for path in Path(str(store.objects.place)).rglob("*.parquet")}
    assert on_disk == {file.id for file in store.archived_files()}
    assert not list(archive_folder(store.settings).iterdir())


def test_a_row_erased_while_it_is_sealed_stays_erased(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    records = sample()
    store.append(records)
    gone = next(record for record in records if isinstance(record, Step))

    def erase(step: str, _done: int, _total: int | None) -> None:
        if step == "uploaded" and store.known([gone.id]):
            store.erase([gone.id])

    report = archive(store, progress=erase)
    assert report.skipped
    archive(store)
    assert list(store.scan()) == [record for record in records if record is not gone]


def test_damage_is_found_and_named(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    store.append(sample())
    archive(store)
    paths = sorted(Path(str(store.objects.place)).rglob("*.parquet"))
    assert len(paths) == 3
    flipped = bytearray(paths[0].read_bytes())
    flipped[len(flipped) // 3] ^= 1
    paths[0].write_bytes(flipped)
    swapped = paths[1].read_bytes()
    paths[1].write_bytes(paths[2].read_bytes())
    paths[2].unlink()
    problems = "\n".join(verify_objects(store))
    for path in paths:
        assert path.name in problems
    with pytest.raises(ArchiveError):
        list(opened().scan())
    paths[0].write_bytes(
        bytes(flipped[: len(flipped) // 3])
        + bytes([flipped[len(flipped) // 3] ^ 1])
        + bytes(flipped[len(flipped) // 3 + 1 :])
    )
    paths[2].write_bytes(paths[1].read_bytes())
    paths[1].write_bytes(swapped)
    assert verify_objects(store) == []


def test_a_merge_that_was_overtaken_changes_nothing(opened: Callable[..., TieredStore]) -> None:
    store = opened()
    records = sample()
    store.append(records)
    for minutes in (30, 80):
        archive(store, OLD + timedelta(minutes=minutes))
    shop = [file for file in store.archived_files() if file.platform == "shop"]
    desk = [file for file in store.archived_files() if file.platform == "desk"]
    other = opened()

    class Overtaken(Archiver):
        def upload(self, file: ArchivedFile, path: Path) -> None:
            super().upload(file, path)
            if file.platform == "shop":
                assert reseal(other, archiver_of(other), desk, frozenset())
                with other.exclusive() as connection:
                    assert catalogue.retire(connection, shop[:1])

    overtaken = Overtaken(store, store.objects, archive_folder(store.settings))
    assert not reseal(store, overtaken, shop, frozenset())
    with store.exclusive() as connection:
        for file in shop[:1]:
            retired = replace_struct(file, status="retired")
            assert catalogue.change(connection, replace_struct(retired, status="live"), "retired")
    assert list(store.scan()) == records
    assert verify_objects(store) == []


def test_large_histories_are_never_all_in_memory(
    opened: Callable[..., TieredStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracemill.store import resealing
    from tracemill.store.cold import sealed

    store = opened()
    records: list[AnyRecord] = []
    talks: list[list[dict[str, Any]]] = [[], [], []]
    for turn in range(40):  # three talks at once, each call with the whole history: some 3 MB in all
        for talk, history in enumerate(talks):
            history.append({"role": "user", "content": f"talk {talk}, please do {turn} " + "x" * 500})
            answer = {"role": "assistant", "content": f"done {turn} " + "y" * 500}
            base: dict[str, Any] = {"sequence": turn, "conversation_id": f"t{talk}", "response": answer}
            time = OLD.replace(hour=12) + timedelta(seconds=turn)
            records.append(interaction(1, messages=list(history), time=time, **base))
            history.append(answer)
    for record in records:
        store.append([record])

    def stored() -> tuple[int, int]:
        with store.engine.connect() as connection:
            size, parents = connection.exec_driver_sql("SELECT sum(length(body)), count(parent) FROM records").one()
        return int(size), int(parents)

    before, parents = stored()
    assert parents == 3 * 39
    for module in (sealed, resealing):
        monkeypatch.setattr(module, "GROUP_WHOLE", 300_000)
    monkeypatch.setattr(resealing, "_PIECE_BYTES", 100_000)
    archive(store, OLD.replace(hour=12) + timedelta(seconds=20))
    archive(store)
    merge_small(store, archiver_of(store))
    (file,) = store.archived_files()
    tables = list(store.cold.sealed(file).tables())
    assert len(tables) >= 6
    assert max(table.nbytes for table in tables) < 450_000
    assert verify_objects(store) == []
    pieces: list[int] = []
    bring_back = store.bring_back

    def brought(connection: Any, rows: Any) -> None:
        pieces.append(sum(len(encode(row.record)) for row in rows))
        bring_back(connection, rows)

    monkeypatch.setattr(store, "bring_back", brought)
    assert restore(store, file) == len(records)
    assert len(pieces) > 20
    assert max(pieces) < 150_000
    assert list(store.scan()) == records
    assert store.verify() == []
    assert stored()[1] >= parents - 3  # where one object ended and the next began
    assert stored()[0] < before * 2


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(strategies.records, max_size=6))
def test_lines_give_every_record_back(tmp_path: Path, records: list[AnyRecord]) -> None:
    from tracemill.store.cold.sealed import SealWriter, read_lines

    rows = [SealedRow(number, record, 10 + number, 5, number or None) for number, record in enumerate(records)]
    path = tmp_path / "object"
    with SealWriter(path, "jsonl.gz", SEALER) as writer:
        writer.write(rows)
    back = list(read_lines(path.read_bytes(), "object"))
    assert [encode(row.record) for row in back] == [encode(record) for record in records]
    assert [replace(row, record=None) for row in back] == [replace(row, record=None) for row in rows]  # type: ignore[arg-type]


def test_two_workspaces_never_clean_up_each_others_archive(opened: Callable[..., TieredStore], tmp_path: Path) -> None:
    import os

    shared = str(tmp_path / "bucket")
    one, other = (opened(name, archive_url=shared) for name in ("one", "other"))
    records = sample(9)
    one.append(records)
    archive(one)
    for path in (tmp_path / "bucket").rglob("*.parquet"):
        os.utime(path, (0, 0))  # long past every lease
    other.append(sample(3))
    with pytest.raises(ArchiveError, match="another workspace"):
        archive(other)
    archive(one)
    assert list(one.scan()) == records
    assert len(list(other.scan())) > 3
    assert verify_objects(one) == []
