"""Retention by platform and purpose, legal holds over it, and training data over both tiers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_feedback import conversation
from tracemill.core.errors import SettingError
from tracemill.core.ids import new_id, now
from tracemill.core.records import Feedback, Interaction
from tracemill.core.settings import load_settings
from tracemill.workspace import Workspace


def opened(path: Path, **more: Any) -> Workspace:
    return Workspace.open(path, settings=load_settings({"workspace": str(path), **more}, environment={}))


def aged(days: int, **fields: Any) -> Interaction:
    return conversation(time=now() - timedelta(days=days), **fields)


def hot(workspace: Workspace) -> set[str]:
    return {record.id for record in workspace.store.scan_hot()}


def test_each_platform_leaves_the_database_at_its_own_age(tmp_path: Path) -> None:
    rules = {"quick": {"hot_days": 3}, "*": {"hot_days": 60}}
    with opened(tmp_path, retention=rules) as workspace:
        records = {
            (platform, days): aged(days, platform=platform) for platform in ("quick", "other") for days in (1, 10, 100)
        }
        workspace.store.append(list(records.values()))
        report = workspace.maintain().archive
        assert {name: own.records for name, own in report.platforms.items()} == {"quick": 2, "other": 1}
        assert hot(workspace) == {records[at].id for at in (("quick", 1), ("other", 1), ("other", 10))}
        assert len(list(workspace.records())) == 6


def test_what_is_past_its_time_is_removed_from_both_tiers_unless_it_is_held(tmp_path: Path) -> None:
    with opened(tmp_path, retention={"support": {"store_days": 50}}) as workspace:
        ann, bob = (workspace.pseudonym(name)[0] for name in ("ann", "bob"))
        from tracemill.core.records import User

        def of(person: str, days: int, **more: Any) -> Interaction:
            return aged(days, user=User(pseudonym=person, key_id="k"), **more)

        held, gone, young, elsewhere = of(ann, 90), of(bob, 90), of(bob, 40), of(bob, 90, platform="other")
        workspace.store.append([held, gone, young, elsewhere])
        workspace.archive(days_old=30)
        hold = workspace.place_hold("user", "ann", reason="case 7")
        done = workspace.maintain()
        assert (done.expired, done.held) == ({"support": 1}, 1)
        assert {record.id for record in workspace.records()} == {held.id, young.id, elsewhere.id}
        workspace.release_hold(hold.id)
        assert workspace.maintain().expired == {"support": 1}
        assert {record.id for record in workspace.records()} == {young.id, elsewhere.id}
        assert workspace.verify_archive() == workspace.store.verify() == []


def test_what_belongs_to_a_record_is_kept_and_goes_with_it(tmp_path: Path) -> None:
    from tracemill.core.records import Step, User

    with opened(tmp_path, retention={"support": {"store_days": 50}}) as workspace:
        ann, bob = (workspace.pseudonym(name)[0] for name in ("ann", "bob"))
        base: dict[str, Any] = {"schema_version": 1, "producer": "t", "sequence": 0}
        turns = [
            aged(90, user=User(pseudonym=ann, key_id="k"), conversation_id="held"),
            aged(90, user=User(pseudonym=bob, key_id="k"), conversation_id="not"),
        ]
        parts = [
            Step(id=new_id(), interaction_id=turn.id, index=1, time=turn.time, platform=name, **base)
            for turn in turns
            for name in ("support", None)
        ]
        workspace.store.append([*turns, *parts])
        hold = workspace.place_hold("conversation", "held", reason="case 7")
        kept = [turns[0], *parts[:2]]
        done = workspace.maintain()
        assert list(workspace.records()) == kept
        assert done.expired == {"support": 3}
        workspace.release_hold(hold.id)
        workspace.place_hold("user", "ann", reason="case 8")
        workspace.maintain()
        assert list(workspace.records()) == kept


@pytest.mark.parametrize("archived", [False, True])
def test_what_names_no_platform_has_its_time_too(tmp_path: Path, archived: bool) -> None:
    from tracemill.core.records import Step

    with opened(tmp_path, retention={"*": {"store_days": 50}, "support": {"store_days": 500}}) as workspace:
        base: dict[str, Any] = {"time": now() - timedelta(days=90), "schema_version": 1, "producer": "t", "sequence": 0}
        turn = aged(90)
        kept = Step(id=new_id(), interaction_id=turn.id, index=1, **base)
        loose = Feedback(id=new_id(), kind="comment", comment="good", **base)
        orphan = Step(id=new_id(), interaction_id=new_id(), index=1, **base)
        workspace.store.append([turn, kept, loose, orphan])
        if archived:
            workspace.archive(days_old=30)
        assert workspace.maintain().expired == {"": 2}
        assert list(workspace.records()) == [turn, kept]


def test_training_data_of_all_platforms_keeps_to_the_strictest_purpose(tmp_path: Path) -> None:
    with opened(tmp_path, retention={"support": {"train_days": 20}}) as workspace:
        old, young = aged(40), aged(2)
        workspace.store.append([old, young])
        assert [record.id for record in workspace.training_data()] == [young.id]


def test_any_number_of_days_is_old_enough(tmp_path: Path) -> None:
    rules = {"support": {"hot_days": 10**7, "store_days": 10**9, "train_days": 10**8}}
    with opened(tmp_path, retention=rules, data_retention_days=10**7) as workspace:
        workspace.store.append([aged(400)])
        done = workspace.maintain()
        assert (done.archive.records, done.expired) == (0, {})
        assert workspace.archive(days_old=10**9, dry_run=True).records == 0
        assert len(list(workspace.training_data(platform="support"))) == 1
        assert workspace.storage_statistics()["overview"]["total_records"] == 1


def test_training_data_ends_where_the_purpose_does(tmp_path: Path) -> None:
    with opened(tmp_path, retention={"support": {"train_days": 20}}) as workspace:
        old, young = aged(40), aged(2)
        workspace.store.append([old, young])
        assert [record.id for record in workspace.training_data(platform="support")] == [young.id]
        assert {record.id for record in workspace.records()} == {old.id, young.id}


def test_training_data_is_read_from_both_tiers(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        old, failed, young = aged(40, success=True), aged(41, success=False), aged(1, success=True)
        base: dict[str, Any] = {"time": now(), "schema_version": 1, "producer": "t", "sequence": 0}
        said = Feedback(id=new_id(), kind="thumbs_up", interaction_id=old.id, platform="support", **base)
        workspace.store.append([old, failed, young, said])
        workspace.archive(days_old=30)

        def ids(**more: Any) -> list[str]:
            return [record.id for record in workspace.training_data(platform="support", **more)]

        assert ids() == [old.id, failed.id, young.id]
        assert ids(include_archived=False) == [young.id]
        assert ids(success=True) == [old.id, young.id]
        assert ids(with_feedback=True) == [old.id]
        assert ids(limit=1) == [old.id]
        assert workspace.readiness("support").gates[0].value == 3
        assert workspace.readiness("support").gates[2].value == 1


def test_a_dataset_is_the_same_before_and_after_archiving(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([aged(days, success=True, conversation_id=f"c{days}") for days in range(20, 60)])
        before = workspace.build_dataset().version
        workspace.archive(days_old=30)
        again = workspace.build_dataset()
        assert not again.new
        assert again.version.manifest_sha256 == before.manifest_sha256


def test_a_rule_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    for rule in ({"hot_days": -1}, {"store_days": 0}, {"keep": 3}):
        with pytest.raises(SettingError):
            opened(tmp_path, retention={"x": rule})
