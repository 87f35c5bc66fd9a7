"""Every verb answers the same whether records lie in the database, in the archive, or in both; on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.store.test_archive import OLD, archive, archiver_of, interaction, sample
from tests.store.test_hot import chat
from tracemill.core.ids import now
from tracemill.core.records import AnyRecord, Feedback, Model, Step, User
from tracemill.core.settings import load_settings
from tracemill.store.base import Filter
from tracemill.store.resealing import merge_small, restore, verify_objects
from tracemill.store.tiered import TieredStore, open_store

Open = Callable[..., TieredStore]
NIL = "00000000-0000-0000-0000-000000000000"
LATER = now() + timedelta(days=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one and the same workspace as often as asked, on each database."""
    given: dict[str, Any] = {"workspace": str(tmp_path / "workspace")}
    if request.param == "postgresql":
        import psycopg

        base = request.getfixturevalue("postgres")
        name = f"tiers_{abs(hash(str(tmp_path)))}"
        with psycopg.connect(base, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        address = base.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")
        given["database"] = address
    stores: list[TieredStore] = []

    def open_one(**more: Any) -> TieredStore:
        stores.append(open_store(load_settings({**given, **more}, environment={})))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def odd_records() -> list[AnyRecord]:
    """What nobody sends on a good day."""
    base: dict[str, Any] = {"schema_version": 1, "producer": "p", "sequence": 3}
    far = datetime(9998, 12, 31, 23, 59, tzinfo=UTC)
    found: list[AnyRecord] = [
        interaction(1, time=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), platform="a/b"),
        interaction(2, time=datetime(1, 1, 1, 5, tzinfo=UTC), platform=".."),
        interaction(3, time=far, platform="%2F", conversation_id=None),
        interaction(4, time=now() + timedelta(days=400), platform="früh ☃"),
        interaction(5, time=OLD, platform="長" * 100, messages=[]),
        interaction(6, time=OLD, platform="x" * 5000, session_id="s" * 900),
        interaction(7, time=OLD, platform="broken \ud800", messages=chat("half \udcff a pair")),
        interaction(8, time=OLD, user=None, model=None, success=None, conversation_id="broken \ud800"),
        interaction(9, time=OLD, extra={"unknown": [float("nan"), float("inf"), 2**80, -(2**63), None, {"": ""}]}),
        interaction(10, time=OLD, messages=[{}, {"role": None}, {"content": [{"type": "text", "text": "part ΟΔΟΣ"}]}]),
        interaction(11, time=OLD, messages=chat("ΟΔΟΣ ΣΑΣ"), response={"role": "assistant", "content": "İSTANBUL ẞ K"}),
        interaction(12, time=OLD, messages=chat("nul \x00 and \x7f"), session_id="nul \x00", model=Model(name="ΜΣ")),
        interaction(13, time=OLD, platform="__none__", user=User(pseudonym="u" * 300, key_id="k")),
    ]
    for number, turn in enumerate(list(found)):
        found.append(Step(id=_id(), interaction_id=turn.id, index=1, time=turn.time, **base))
        if number % 2:
            said = Feedback(
                id=_id(), kind="thumbs_up", interaction_id=turn.id, time=now(), platform=turn.platform, **base
            )
            found.append(said)
        found.append(Feedback(id=_id(), kind="comment", comment=f"ΟΔΟΣ {number}", time=OLD, **base))
    return found


def _id() -> str:
    from tracemill.core.ids import new_id

    return new_id()


def every_filter(records: list[AnyRecord], step: int) -> list[Filter]:
    """Each field alone, and of every two together each so many'th pair."""
    linked = next(record.interaction_id for record in records if isinstance(record, Step))
    platforms = {record.platform for record in records if record.platform is not None}
    values: list[dict[str, Any]] = [
        {"types": ("interaction",)},
        {"types": ("step", "feedback", "feedback", "nothing")},
        *({"platforms": (name,)} for name in sorted(platforms, key=repr)),
        {"platforms": ("",)},
        {"platforms": ("shop", "desk", "nowhere")},
        {"conversation_id": "c3"},
        {"conversation_id": "broken \ud800"},
        {"session_id": "s" * 900},
        {"session_id": "nul \x00"},
        {"user": "u2"},
        {"user": "u" * 300},
        {"interaction_id": linked},
        {"interaction_id": NIL},
        {"model": "m1"},
        {"model": "ΜΣ"},
        {"success": True},
        {"success": False},
        {"since": OLD + timedelta(minutes=20)},
        {"since": datetime(1970, 1, 1, tzinfo=UTC)},
        {"until": datetime(1970, 1, 1, tzinfo=UTC)},
        {"until": OLD},
        {"after": 17},
        {"up_to": 33},
        {"visible_to": "u1"},
        {"visible_to": "u4"},
        {"visible_to": "nobody"},
        {"unlinked": True},
    ]
    pairs = list(combinations(values, 2))[::step]
    return [Filter(), *(Filter(**one) for one in values), *(Filter(**{**a, **b}) for a, b in pairs)]


def answers(store: TieredStore, records: list[AnyRecord], filters: list[Filter]) -> dict[str, Any]:
    """Everything a reader can ask, each answer beside its question, in a form that can be compared where NaN is in it."""
    ids = [record.id for record in records]
    found: dict[str, Any] = {"daily": store.daily(), "tools": store.daily_tools(), "watermark": store.watermark()}
    for where in filters:
        found[f"page {where}"] = [(place, record.id) for place, record in store.page(where, 9)]
        found[f"count {where}"] = store.count(where)
    for where in filters[:40:2]:
        found[f"scan {where}"] = repr(list(store.scan(where, page=7)))
        for text in ("ΟΔΟΣ", "ς", "İstanbul", "QUESTION 1"):
            hits = store.search(text, where, limit=6)
            found[f"search {text!r} {where}"] = [(place, record.id) for place, record in hits]
    for who in (None, "u1", "u2", "nobody"):
        found[f"get for {who}"] = repr([store.get(identity, visible_to=who) for identity in [*ids, NIL, "x"]])
    for up_to in (None, 0, 20, 10_000):
        many = store.get_many([*ids, NIL], up_to=up_to)
        found[f"many {up_to}"] = repr([many.get(identity) for identity in ids])
    found["known"] = store.known([*ids, NIL])
    found["linked"] = store.linked(ids[:40])
    found["linked to nil"] = store.linked([NIL])
    found["inside"] = store.inside(ids)
    found["nothing"] = [store.page(Filter(), 0), store.get_many([]), store.known([]), store.linked([])]
    return found


def compare(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    """One line for each question with another answer."""
    other = {question: (wanted[question], got[question]) for question in wanted if got[question] != wanted[question]}
    assert not other, "\n".join(f"{question}: {str(pair)[:300]}" for question, pair in list(other.items())[:20])


@pytest.mark.parametrize("format", ["parquet", "jsonl.gz"])
def test_every_question_has_the_same_answer_in_either_tier_and_in_both(opened: Open, format: str) -> None:  # noqa: A002
    store, stale = opened(archive_format=format), opened()
    records = [*sample(30), *odd_records()]
    result = store.append(records)
    assert (result.stored, result.refused) == (len(records), ())
    filters = every_filter(records, 17 if store.engine.dialect.name == "sqlite" else 61)
    before = answers(store, records, filters)
    assert archive(store, OLD + timedelta(minutes=9)).records > 20  # half of it
    compare(answers(store, records, filters), before)
    compare(answers(stale, records, filters), before)
    archive(store, datetime(9999, 12, 31, tzinfo=UTC))
    assert super(TieredStore, store).count() == 0
    compare(answers(stale, records, filters), before)
    assert verify_objects(store) == store.verify() == []
    merge_small(stale, archiver_of(stale))
    compare(answers(store, records, filters), before)
    for file in stale.archived_files():
        restore(stale, file)
    assert store.archived_files() == []
    compare(answers(store, records, filters), before)
    assert store.verify() == []
