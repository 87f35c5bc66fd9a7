"""Content sealed by person: it reads as before, lies nowhere in clear, opens nowhere else, and dies with its key."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.privacy.scanning import hits
from tests.store.test_archive import archive, interaction
from tracemill.core.errors import SettingError, StoreError
from tracemill.core.ids import new_id
from tracemill.core.records import AnyRecord, Feedback, Interaction, Step
from tracemill.core.settings import load_settings
from tracemill.store.base import Filter
from tracemill.store.resealing import restore, verify_objects
from tracemill.store.sealing import DESTROYED, SEALED
from tracemill.store.tiered import TieredStore, open_store

Open = Callable[..., TieredStore]
CANARY = "what nobody else may read 5f1c"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    stores: list[TieredStore] = []

    def open_one(name: str = "workspace", **more: Any) -> TieredStore:
        arguments = {"workspace": str(tmp_path / name), "subject_encryption": True, **more}
        stores.append(open_store(load_settings(arguments, environment={})))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def spoken(number: int) -> Interaction:
    return interaction(
        number,
        messages=[{"role": "user", "content": f"{CANARY} {number}"}],
        response={"role": "assistant", "content": f"{CANARY} answer {number}"},
        extra={"note": CANARY},
    )


def test_sealed_records_read_as_before_in_both_tiers(opened: Open, tmp_path: Path) -> None:
    store = opened()
    records = [spoken(number) for number in range(20)]
    store.append(records)
    assert list(store.scan()) == records
    assert hits(tmp_path, {"canary": CANARY.encode()}) == []
    archive(store)
    assert list(store.scan_hot()) == []
    assert list(store.scan()) == records
    assert hits(tmp_path, {"canary": CANARY.encode()}) == []
    assert [record.id for _, record in store.search(f"{CANARY} 7", Filter())] == [records[7].id]
    assert store.append(records).duplicates == 20
    for file in store.archived_files():
        restore(store, file)
    assert list(store.scan()) == records
    assert [record.id for _, record in store.search(f"{CANARY} answer 3", Filter())] == [records[3].id]
    assert hits(tmp_path, {"canary": CANARY.encode()}) == []
    assert store.verify() == []
    store.erase([record.id for record in records])
    assert all(row.records == 0 for row in store.daily())


@settings(
    max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.lists(strategies.records, max_size=5, unique_by=lambda record: record.id))
def test_whatever_a_record_holds_comes_back(opened: Open, records: list[AnyRecord]) -> None:
    store = opened(new_id())
    stored = store.append(records).stored
    kept = list(store.scan())
    assert len(kept) == stored
    archive(store, until=max((record.time for record in kept), default=None))
    assert sorted(map(repr, store.scan())) == sorted(map(repr, kept))


def test_destroying_a_key_kills_the_backup_too(opened: Open, tmp_path: Path) -> None:
    store = opened(subject_keys=str(tmp_path / "elsewhere" / "subjects.db"))
    records = [spoken(number) for number in range(10)]
    store.append(records)
    archive(store)
    mine = [record for record in records if record.user == records[0].user]
    shutil.copytree(tmp_path / "workspace", tmp_path / "backup")
    assert mine[0].user is not None
    assert store.sealer.destroy([mine[0].user.pseudonym]) == 1
    backup = opened("backup", subject_keys=str(tmp_path / "elsewhere" / "subjects.db"))
    found = {record.id: record for record in backup.scan()}
    for record in records:
        if record in mine:
            shell = found[record.id]
            assert isinstance(shell, Interaction)
            assert (shell.messages, shell.response) == ([], None)
            assert DESTROYED in shell.extra
        else:
            assert found[record.id] == record
    assert backup.verify() == []
    assert verify_objects(backup) == []
    with closing(sqlite3.connect(tmp_path / "elsewhere" / "subjects.db")) as connection:
        assert connection.execute("SELECT count(*) FROM subject_keys").fetchone() == (4,)


def test_sealed_content_opens_with_its_own_record_only(opened: Open, tmp_path: Path) -> None:
    store = opened()
    records = [spoken(0), spoken(5)]  # of one person, so under one key
    assert records[0].user == records[1].user
    store.append(records)
    store.close()
    with closing(sqlite3.connect(tmp_path / "workspace" / "store.db")) as connection:
        (first,), (second,) = connection.execute("SELECT body FROM records ORDER BY place").fetchall()
        connection.execute("UPDATE records SET body = ? WHERE place = 1", (second,))
        connection.commit()
    again = opened()
    with pytest.raises(StoreError, match="another record's"):
        again.get(records[0].id)
    assert again.get(records[1].id) == records[1]
    assert first != second


def test_another_master_key_is_told_apart_from_damage(opened: Open) -> None:
    store = opened(master_key="ab" * 32)
    store.append([spoken(0)])
    store.close()
    other = opened(master_key="cd" * 32)
    with pytest.raises(StoreError, match="not wrapped by this master key"):
        list(other.scan())


def test_what_belongs_to_a_persons_interaction_is_sealed_with_it(opened: Open, tmp_path: Path) -> None:
    store = opened()
    about = spoken(0)
    base: dict[str, Any] = {"time": about.time, "schema_version": 1, "producer": "p", "interaction_id": about.id}
    beside = Step(id=new_id(), sequence=1, outputs=CANARY, platform=about.platform, **base)
    store.append([beside, about])
    archive(store)
    late = Feedback(id=new_id(), sequence=2, kind="report", comment=CANARY, **base)
    store.append([late])
    assert list(store.scan()) == [beside, about, late]
    assert hits(tmp_path, {"canary": CANARY.encode()}) == []
    archive(store)
    assert list(store.scan()) == [beside, about, late]
    assert hits(tmp_path, {"canary": CANARY.encode()}) == []
    assert about.user is not None
    store.sealer.destroy([about.user.pseudonym])
    fresh = opened()
    assert CANARY not in repr(list(fresh.scan()))


def test_what_names_nobody_is_stored_as_ever(opened: Open) -> None:
    store = opened()
    base = {"time": spoken(0).time, "schema_version": 1, "producer": "p", "sequence": 0}
    said = Feedback(id=new_id(), kind="thumbs_up", comment="good", **base)  # type: ignore[arg-type]
    store.append([said])
    assert list(store.scan()) == [said]
    with store.engine.connect() as connection:
        body = bytes(connection.exec_driver_sql("SELECT body FROM records").scalar_one())
    assert SEALED.encode() not in body


def test_records_of_before_are_read_with_those_of_after(opened: Open) -> None:
    plain = opened(subject_encryption=False)
    before, after = spoken(1), spoken(2)
    plain.append([before])
    plain.close()
    sealed = opened()
    sealed.append([after])
    sealed.close()
    assert list(opened(subject_encryption=False).scan()) == [before, after]


@pytest.mark.parametrize("more", [{"keep_raw_user_ids": True}, {"archive_format": "jsonl.gz"}, {"master_key": "abc"}])
def test_settings_that_exclude_each_other_are_refused(opened: Open, more: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        opened(**more).append([spoken(0)])
