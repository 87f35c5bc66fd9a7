"""Readers, archivers, mergers, erasures and restores at once, over one or two open stores, on each database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.store.test_archive import OLD, archive, archiver_of, interaction, sample
from tests.store.test_tiers_agree import Open, opened
from tracemill.core.errors import ArchiveError
from tracemill.core.ids import new_id, now
from tracemill.core.records import AnyRecord, Feedback
from tracemill.store.base import Filter
from tracemill.store.resealing import merge_small, restore, verify_objects
from tracemill.store.tiered import TieredStore

__all__ = ["opened"]  # a fixture


def long_talks() -> list[AnyRecord]:
    """Conversations of which every call repeats the history: rows that hang together."""
    found: list[AnyRecord] = []
    for talk in range(6):
        history: list[dict[str, Any]] = []
        for turn in range(12):
            history = [*history, {"role": "user", "content": f"talk {talk}, please do {turn} " + "x" * 100}]
            answer = {"role": "assistant", "content": f"done {turn} of {talk}"}
            at = OLD + timedelta(days=turn // 3, minutes=turn)
            call = interaction(talk, messages=history, response=answer, sequence=turn, time=at, platform=f"p{talk % 2}")
            found.append(call)
            history = [*history, answer]
    return found


def verbs_of(records: list[AnyRecord]) -> list[list[Callable[[TieredStore], bool]]]:
    """Questions, and whether the answer is that of a store that holds these records."""
    by_id = {record.id: record for record in records}
    ids = list(by_id)

    def page(store: TieredStore) -> bool:
        return [record for _, record in store.page(Filter(), 500)] == records

    def count(store: TieredStore) -> bool:
        return store.count() == len(records)

    def search(store: TieredStore) -> bool:
        return len(store.search("please do 3")) == 6 * 9

    def known(store: TieredStore) -> bool:
        return store.known(ids) == set(ids) and store.get_many(ids) == by_id

    def get(store: TieredStore) -> bool:
        return [store.get(identity) for identity in ids[::9]] == records[::9]

    def again(store: TieredStore) -> bool:
        return store.append(records[::5]).duplicates == len(records[::5])

    return [[page, get], [count, search], [known, page, again]]


def at_once(works: Sequence[Callable[[], object]]) -> list[threading.Thread]:
    """Threads, begun. What one raises fails the test: an exception that nobody catches in a thread is a warning."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


def test_readers_see_every_record_while_it_moves(opened: Open) -> None:
    moving, reading = opened(archive_file_bytes=1024 * 1024), opened()
    records = long_talks()
    for record in records:
        moving.append([record])
    wrong: list[str] = []
    done = threading.Event()

    def look(store: TieredStore, verbs: Sequence[Callable[[TieredStore], bool]]) -> None:
        while not done.is_set():
            wrong.extend(verb.__name__ for verb in verbs if not verb(store))

    stores = (moving, reading, reading)
    threads = at_once([partial(look, *each) for each in zip(stores, verbs_of(records), strict=True)])
    try:
        for _ in range(2):
            for day in range(1, 5):
                archive(moving, OLD + timedelta(days=day))
            merge_small(moving, archiver_of(moving))
            for file in moving.archived_files():
                restore(moving, file)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert list(reading.scan()) == records
    assert moving.verify() == []


def erase_and_restore(store: TieredStore, ids: Sequence[str]) -> None:
    """As somebody would who is not alone; who changed an object meanwhile has the word."""
    for identity in ids:
        store.erase([identity])
    for file in store.archived_files()[:2]:
        try:
            restore(store, file)
        except ArchiveError as error:
            if "meanwhile" not in error.message and not error.missing:
                raise


def test_two_archivers_an_eraser_and_one_who_restores(opened: Open) -> None:
    stores = [opened(), opened(), opened()]
    records = long_talks()
    for record in records:
        stores[0].append([record])
    gone = sorted({record.id for record in records[7::11]})
    works: list[Callable[[], object]] = [
        partial(archive, stores[0]),
        partial(archive, stores[1]),
        partial(erase_and_restore, stores[2], gone),
    ]
    for _ in range(2):
        for thread in at_once(works):
            thread.join()
    archive(stores[1])
    kept = [record for record in records if record.id not in gone]
    for store in stores:
        assert list(store.scan()) == kept
        assert store.verify() == []
    places = [row.place for file in stores[0].archived_files() for row in stores[0].cold.sealed(file).all_rows()]
    assert len(places) == len(set(places)) == len(kept)
    assert verify_objects(stores[0]) == []


@pytest.mark.parametrize("verb", ["page", "count", "search", "get", "get_many", "known", "linked", "scan"])
def test_the_first_run_of_all_between_two_looks(opened: Open, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader is about to read in the database leaves it, or comes back to it, just before."""
    store, other = opened(), opened()
    records = sample(12)
    store.append(records)
    ids = [record.id for record in records]
    questions: dict[str, Callable[[], Any]] = {
        "page": lambda: store.page(),
        "count": lambda: store.count(),
        "search": lambda: store.search("question"),
        "get": lambda: store.get(ids[0]),
        "get_many": lambda: store.get_many(ids),
        "known": lambda: store.known(ids),
        "linked": lambda: store.linked(ids),
        "scan": lambda: list(store.scan()),
    }
    wanted = questions[verb]()

    def restore_all() -> None:
        for file in other.archived_files():
            restore(other, file)

    for moving in (lambda: archive(other), restore_all):
        plain = TieredStore._refresh
        moved = threading.Event()

        def refresh(self: TieredStore, plain: Any = plain, moved: Any = moved, moving: Any = moving) -> int:
            if self is not store:
                return int(plain(self))
            before = int(plain(self))
            if not moved.is_set():
                moved.set()
                moving()
            return before

        with monkeypatch.context() as patch:
            patch.setattr(TieredStore, "_refresh", refresh)
            assert questions[verb]() == wanted
        assert questions[verb]() == wanted


def test_a_slow_reader_does_not_take_the_catalogue_back(opened: Open) -> None:
    store = opened()
    records = sample(12)
    store.append(records)
    archive(store, OLD + timedelta(minutes=5))
    threads = [threading.Thread(target=lambda: [store.count() for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    archive(store)
    for thread in threads:
        thread.join()
    assert store.count() == len(records)
    assert {file.id for file in store.cold.files} == {file.id for file in store.archived_files()}


def test_what_a_person_may_see_in_both_tiers(opened: Open) -> None:
    """Their archived interaction, and what was said of it since, which is in the database still."""
    store = opened()
    mine, theirs = interaction(1), interaction(2)
    base: dict[str, Any] = {"schema_version": 1, "producer": "p", "sequence": 1, "time": now()}
    said = [
        Feedback(id=new_id(), kind="comment", comment="a question of taste", interaction_id=turn.id, **base)
        for turn in (mine, theirs)
    ]
    store.append([mine, theirs, *said])

    def seen() -> dict[str, Any]:
        own = Filter(visible_to="u1")
        return {
            "page": store.page(own),
            "count": store.count(own),
            "search": store.search("question", own),
            "get": [store.get(record.id, visible_to="u1") for record in (mine, theirs, *said)],
        }

    before = seen()
    assert before["get"] == [mine, None, said[0], None]
    assert before["count"] == len(before["page"]) == len(before["search"]) == 2
    archive(store)
    assert seen() == before
    for file in store.archived_files():
        restore(store, file)
    assert seen() == before


@pytest.mark.parametrize("point", ["sealing", "sealed", "uploaded", "leaving", "committed", "archiving", "merging"])
def test_interrupted_from_the_keyboard(opened: Open, point: str) -> None:
    from tracemill.store.keeping import run_archive

    store = opened()
    records = sample(20)
    store.append(records)

    def stop(step: str, _done: int, _total: int | None) -> None:
        if step == point:
            raise KeyboardInterrupt

    archive(store, OLD + timedelta(minutes=7))
    with pytest.raises(KeyboardInterrupt):
        run_archive(store, progress=stop)
    assert list(store.scan()) == records
    run_archive(store)
    assert list(store.scan()) == records
    assert super(TieredStore, store).count() == 1
    on_disk = {path.name.split(".")[0] for path in Path(str(store.objects.place)).rglob("*.parquet")}
    assert on_disk == {file.id for file in store.archived_files()}
    assert store.archived_files(("pending", "retired")) == []


def test_cleaning_leaves_the_files_of_whoever_began_meanwhile(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = opened(), opened()
    records = sample(12)
    store.append(records)
    archiver = archiver_of(store)
    plain = archiver._objects.list
    cleaned: list[int] = []

    def listed() -> Iterator[Any]:
        yield from plain()

        def at(step: str, _done: int, _total: int | None) -> None:
            if step == "sealing" and not cleaned:
                cleaned.append(0)
                begun.set()
                go_on.wait(30)

        begun, go_on = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: reports.append(archive(other, progress=at)))
        thread.start()
        begun.wait(30)
        waiting.append((thread, go_on))

    waiting: list[tuple[threading.Thread, threading.Event]] = []
    reports: list[Any] = []
    monkeypatch.setattr(archiver._objects, "list", listed)
    archiver.clean()
    for thread, go_on in waiting:
        go_on.set()
        thread.join()
    assert [report.records for report in reports] == [len(records) - 1]
    assert list(store.scan()) == records


def test_one_look_sees_one_state_of_the_database(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read, and then what they continue; between the two somebody takes that away."""
    moving, store = opened(), opened()
    records = long_talks()
    for record in records:
        moving.append([record])
    plain = store.reader.records
    moved: list[int] = []

    def reading(connection: Any, rows: Any) -> Any:
        if not moved:
            moved.append(archive(moving, OLD + timedelta(days=3)).records)
        return plain(connection, rows)

    monkeypatch.setattr(store.reader, "records", reading)
    assert [record for _, record in store.page(Filter(after=7))] == records[7:]
    assert moved[0] > 0
