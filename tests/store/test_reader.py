"""What a reader remembers: it stands until something is removed, or what it saw is rolled back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.store.conftest import OpenStore
from tests.store.test_hot import chat, interaction
from tracemill.store.engine import reading
from tracemill.store.hot import HotStore


def refreshed(store: HotStore) -> bool:
    with store.reader.lock, reading(store.engine) as connection:
        return store.reader.refresh(connection)


def test_what_is_remembered_stands_until_something_is_removed(open_at: OpenStore) -> None:
    store = open_at("workspace")
    first = interaction(messages=chat("one", "two"), platform="a")
    store.append([first, interaction(messages=chat("one", "two", "three"), platform="a")])
    list(store.scan())
    assert not refreshed(store)
    store.append([interaction(messages=chat("four"), platform="b")])
    assert not refreshed(store)
    store.erase([first.id])
    assert [one.platform for one in store.scan()] == ["a", "b"]
    assert not refreshed(store)


def test_what_was_rolled_back_is_not_remembered(open_at: OpenStore) -> None:
    """The number of a name that a failed transaction added is given to another one afterwards."""
    store = open_at("workspace")
    store.append([interaction(platform="first")])

    def fail() -> None:
        with store.exclusive() as connection:
            assert store.reader.names.numbers(connection, ["never"], create=True)
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        fail()
    assert store.append([interaction(platform="second")]).stored == 1
    assert [one.platform for one in store.scan()] == ["first", "second"]


def test_what_a_failed_batch_read_is_not_remembered(open_at: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_at("workspace")
    record = interaction(platform="first")
    store.append([record])

    def broken(*_: Any) -> None:
        raise RuntimeError("power")

    with monkeypatch.context() as patched:
        patched.setattr("tracemill.store.writer.put_in_quarantine", broken)
        with pytest.raises(RuntimeError, match="power"):
            store.append([record, interaction(platform="never")])
    assert store.append([interaction(platform="second")]).stored == 1
    assert [one.platform for one in store.scan()] == ["first", "second"]
    assert refreshed(store) is False
