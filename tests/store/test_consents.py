"""Whose records are stored: decided by narrow rows that survive the archive, retention and erasure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from tests.dataset.support import base, interaction, record_id, says, user
from tests.store.conftest import OpenStore
from tracemill.core.ids import id_bytes
from tracemill.core.records import AnyRecord, Consent, Purpose, Step
from tracemill.core.settings import load_settings
from tracemill.store import consents
from tracemill.store.base import Appended, Filter
from tracemill.store.consents import person_digest
from tracemill.store.engine import writing
from tracemill.store.hot import HotStore
from tracemill.store.tables import consents as table
from tracemill.store.tables import counters
from tracemill.store.tiered import TieredStore, open_store
from tracemill.store.tombstones import RECORD, digest_of


def said(name: str, person: str, purpose: Purpose, granted: bool, /, *, minutes: float = 0, **fields: Any) -> Consent:
    return Consent(**base(name, minutes), user=user(person), purpose=purpose, granted=granted, **fields)


def turn(name: str, person: str | None, **fields: Any) -> AnyRecord:
    whose = None if person is None else user(person)
    return interaction(name, [says("user", f"question {name}")], user=whose, **fields)


def step(name: str, target: str) -> Step:
    return Step(**base(name), interaction_id=record_id(target), reasoning="thought")


def reasons(result: Appended) -> dict[int, str]:
    return {refusal.index: refusal.reason for refusal in result.refused}


def stored(store: HotStore, *types: str) -> set[str]:
    return {record.id for record in store.scan(Filter(types=types))}


def test_who_withdrew_storing_is_not_stored_and_counted(store: HotStore) -> None:
    assert store.append([turn("before", "ann"), turn("other", "bob")]).stored == 2
    assert store.append([said("no", "ann", "store", False)]).stored == 1
    result = store.append([turn("after", "ann"), turn("more", "bob"), step("s", "after")])
    assert (result.stored, result.duplicates, reasons(result)) == (1, 0, {0: "no_consent", 2: "no_consent"})
    assert stored(store, "interaction") == {record_id(name) for name in ("before", "other", "more")}
    assert store.quarantined() == []  # what was refused for want of consent is kept nowhere
    assert reasons(store.append([step("late", "after")])) == {0: "no_consent"}
    store.append([said("yes", "ann", "store", True, minutes=5)])
    assert store.append([turn("again", "ann")]).stored == 1


def test_a_withdrawal_holds_for_all_of_the_batch_it_comes_in(store: HotStore) -> None:
    result = store.append([turn("one", "ann"), said("no", "ann", "store", False), turn("two", "bob")])
    assert (result.stored, reasons(result)) == (2, {0: "no_consent"})


def test_another_process_hears_of_it(open_at: OpenStore) -> None:
    one, other = open_at(), open_at()
    assert other.append([turn("before", "ann")]).stored == 1
    one.append([said("no", "ann", "store", False)])
    assert len(stored(other)) == 2  # whoever reads in between must not take the news from the writer
    assert reasons(other.append([turn("after", "ann")])) == {0: "no_consent"}


def test_the_newest_holds_and_of_one_time_the_greater_id(store: HotStore) -> None:
    pair = sorted([record_id("x"), record_id("y")])
    grant = Consent(**{**base("x"), "id": pair[0]}, user=user("ann"), purpose="store", granted=True)
    denial = Consent(**{**base("x"), "id": pair[1]}, user=user("ann"), purpose="store", granted=False)
    for records in ([denial], [grant]):
        store.append(records)
    assert reasons(store.append([turn("one", "ann")])) == {0: "no_consent"}
    store.append([said("older", "ann", "store", True, minutes=-5)])
    assert reasons(store.append([turn("two", "ann")])) == {0: "no_consent"}


def test_a_platform_that_is_named_alone_is_meant(store: HotStore) -> None:
    store.append([said("no", "ann", "store", False, platform="shop")])
    result = store.append([turn("a", "ann", platform="shop"), turn("b", "ann", platform="help"), turn("c", "ann")])
    assert reasons(result) == {0: "no_consent"}
    store.append([said("all", "ann", "store", False, minutes=1)])
    store.append([said("but", "ann", "store", True, minutes=2, platform="help")])
    result = store.append([turn("d", "ann", platform="help"), turn("e", "ann")])
    assert reasons(result) == {1: "no_consent"}


def test_a_default_of_denied_asks_for_a_grant(tmp_path: Path) -> None:
    config = tmp_path / "tracemill.yaml"
    config.write_text("consent_defaults: {store: denied}\n")
    settings = load_settings({"workspace": str(tmp_path / "w")}, environment={}, config=config)
    store = open_store(settings)
    result = store.append([turn("a", "ann"), turn("nobody", None), step("s", "a"), said("yes", "bob", "store", True)])
    assert reasons(result) == {0: "no_consent", 1: "no_consent", 2: "no_consent"}
    assert store.append([turn("b", "bob")]).stored == 1
    store.close()


def test_erasure_leaves_of_a_withdrawal_a_stone_and_of_a_grant_nothing(store: HotStore) -> None:
    store.append([said("no", "ann", "store", False), said("yes", "ann", "train", True)])
    assert store.erase([record_id("no"), record_id("yes")]) == 2
    left = store.consents(("store", "train"))
    assert [(one.granted, one.erased, one.id) for one in left] == [(False, True, digest_of(RECORD, record_id("no")))]
    assert id_bytes(record_id("no")) not in {one.id for one in left}
    assert reasons(store.append([turn("after", "ann")])) == {0: "no_consent"}


def test_rows_are_bounded_by_place_and_name_nobody(store: HotStore) -> None:
    store.append([said("one", "ann", "train", False)])
    mark = store.watermark()
    store.append([said("two", "bob", "train", False), said("other", "bob", "share", False)])
    assert [one.person for one in store.consents(("train",), up_to=mark)] == [person_digest("ann")]
    assert [one.person for one in store.consents(("train",), after=mark)] == [person_digest("bob")]
    assert len(store.consents(("train", "share"))) == 3


def test_records_of_before_the_rows_get_theirs(open_at: OpenStore) -> None:
    store = open_at()
    store.append([said("no", "ann", "store", False), turn("b", "bob")])
    with writing(store.engine) as connection:
        connection.execute(delete(table))
        connection.execute(delete(counters).where(counters.c.name == consents.INDEXED))
    assert store.consents(("store",)) == []
    again = open_at()
    (row,) = again.consents(("store",))
    assert (row.person, row.place) == (person_digest("ann"), 1)
    assert reasons(again.append([turn("after", "ann")])) == {0: "no_consent"}


def test_the_archive_does_not_matter(open_at: OpenStore) -> None:
    pytest.importorskip("obstore")
    from tracemill.store.keeping import run_archive

    store = open_at()
    assert isinstance(store, TieredStore)
    store.append([said("no", "ann", "store", False), turn("b", "bob")])
    assert run_archive(store, days_old=0).records == 2
    assert reasons(store.append([turn("after", "ann")])) == {0: "no_consent"}
    assert store.erase([record_id("no")]) == 1
    assert [one.erased for one in store.consents(("store",))] == [True]
