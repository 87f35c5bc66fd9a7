"""What holds of every way to split, in whole builds: nothing that belongs together is parted, nothing is lost."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.support import START, interaction, list_store, record_id, reward, says, user
from tests.dataset.test_build import sample
from tests.dataset.test_laws import attempts
from tracemill.core.ids import id_bytes
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import KEEP, Drop, Verdict
from tracemill.dataset import shards
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe, parse_recipe
from tracemill.dataset.version import Version

SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}
METHODS: list[dict[str, Any]] = [
    {"shares": SHARES},
    {"folds": 3},
    {"folds": 2, "by": ["label", "turns"]},
    {"shares": SHARES, "by": ["outcome", "words"]},
    {"shares": SHARES, "by": "time"},
]
UNGROUPED = ["conversation", "near_duplicate"]


def recipe(split: dict[str, Any]) -> Recipe:
    return parse_recipe({"name": "law", "split": split})


def built(records: list[AnyRecord], folder: str | Path, split: dict[str, Any]) -> Version:
    return build_version(list_store(records), recipe(split), Path(folder))


@st.composite
def timed(draw: st.DrawFn) -> list[AnyRecord]:
    """The attempts of the laws of builds, at different times."""
    moments = st.integers(0, 12).map(lambda hours: START + timedelta(hours=hours))
    return [
        msgspec.structs.replace(record, time=draw(moments)) if isinstance(record, Interaction) else record
        for record in draw(attempts())
    ]


def holding(version: Version, records: list[AnyRecord]) -> dict[str, str | None]:
    """The split of every interaction that has examples, by its id; the rest under None."""
    ids = {record.id for record in records if isinstance(record, Interaction)}
    return {fate.id: fate.split for fate in version.fates() if fate.id in ids}


def shared(record: Interaction, kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    values = {kind: getattr(record, kind) for kind in kinds}
    return [(kind, str(value)) for kind, value in values.items() if value is not None]


@pytest.mark.parametrize("split", METHODS, ids=str)
@given(timed())
@settings(max_examples=25)
def test_nothing_that_is_shared_is_in_two_splits(split: dict[str, Any], records: list[AnyRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        version = built(records, folder, split)
        assert version.verify() == []
        found = holding(version, records)
        seen: dict[tuple[str, str], set[str]] = {}
        for record in records:
            if isinstance(record, Interaction) and (name := found[record.id]) is not None:
                for key in shared(record, ("user", "conversation_id", "session_id", "task_id")):
                    seen.setdefault(key, set()).add(name)
        assert all(len(names) == 1 for names in seen.values())


@pytest.mark.parametrize("split", METHODS, ids=str)
@given(timed())
@settings(max_examples=25)
def test_every_interaction_is_in_one_split_or_straddles(split: dict[str, Any], records: list[AnyRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        version = built(records, folder, split)
        interactions = sum(isinstance(record, Interaction) for record in records)
        straddling = version.manifest.drops.get("split.straddles", 0)
        assert sum(share.interactions for share in version.manifest.shares.values()) + straddling == interactions
        assert not straddling or split.get("by") == "time"
        assert set(version.manifest.shares) == set(recipe(split).split)


@pytest.mark.parametrize("split", [*METHODS, {"folds": 2, "group": UNGROUPED}], ids=str)
@given(timed(), st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_the_order_of_storing_leaves_no_trace(
    split: dict[str, Any], records: list[AnyRecord], order: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        one, other = (
            built(some, folder, split)
            for some, folder in ((records, here), (order.sample(records, len(records)), there))
        )
        assert one.manifest_sha256 == other.manifest_sha256


@given(timed())
@settings(max_examples=40)
def test_the_test_is_later_than_everything_before_it(records: list[AnyRecord]) -> None:
    times = {record.id: record.time for record in records if isinstance(record, Interaction)}
    with tempfile.TemporaryDirectory() as folder:
        version = built(records, folder, {"shares": SHARES, "by": "time"})
        found = holding(version, records)
        by_split = [[times[one] for one, name in found.items() if name == split] for split in SHARES]
        begins = version.manifest.shares["test"].begins
    for earlier, later in ((0, 1), (0, 2), (1, 2)):
        assert all(before < after for before in by_split[earlier] for after in by_split[later])
    assert all(begins is not None and begins <= time for time in by_split[2])


@given(timed(), st.integers(1, 8))
@settings(max_examples=30)
def test_unrelated_records_move_nothing_of_a_hold_out(records: list[AnyRecord], more: int) -> None:
    added: list[AnyRecord] = [
        interaction(f"new {n}", [says("user", f"n{n}")], response=says("assistant", f"m{n}"), success=True)
        for n in range(more)
    ]
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        before = holding(built(records, here, {"shares": SHARES}), records)
        after = holding(built([*records, *added], there, {"shares": SHARES}), records)
    assert before == after


def test_trials_that_are_compared_stay_together_where_tasks_do_not(tmp_path: Path) -> None:
    records: list[AnyRecord] = []
    for task in range(12):
        for trial in range(2):
            name = f"{task} {trial}"
            talk = [says("user", f"do {task}"), says("assistant", f"done {trial}")]
            records.append(interaction(name, talk, task_id=str(task), conversation_id=name))
            records.append(reward(name, float(trial)))
    version = built(records, tmp_path, {"folds": 3, "group": "conversation"})
    assert version.manifest.groups == 12
    found = holding(version, records)
    assert all(found[record_id(f"{task} 0")] == found[record_id(f"{task} 1")] for task in range(12))


def test_a_straddling_group_is_in_no_split_and_says_so(tmp_path: Path) -> None:
    names = {"early": (0, "a"), "late": (500, "b"), "one side": (10, "c"), "other side": (400, "c")}
    records: list[AnyRecord] = [
        interaction(
            name, [says("user", name)], response=says("assistant", name), minutes=at, user=user(person), success=True
        )
        for name, (at, person) in names.items()
    ]
    records.append(reward("one side", 1.0))
    version = built(records, tmp_path, {"cuts": {"test": START + timedelta(minutes=300)}})
    fates = {fate.id: fate for fate in version.fates()}
    assert {name: fates[record_id(name)].split for name in names} == {
        "early": "train",
        "late": "test",
        "one side": None,
        "other side": None,
    }
    assert fates[record_id("one side")].dropped == "split.straddles"
    assert fates[record_id("one side")].left_out == {}
    assert fates[record_id("reward one side")].dropped == "feedback.not_used"
    assert version.manifest.drops == {
        "split.straddles": 2,
        "feedback.not_used": 1,
        "trials.no_task": 2,
        "labelled.no_label": 2,
        "edits.no_correction": 2,
    }
    assert "1 groups of 2 interactions reach over the moment" in version.manifest.notes[0]
    assert version.manifest.shares["train"].wanted is None


def even(record: Interaction) -> Verdict[Interaction]:
    return KEEP if id_bytes(record.id)[-1] % 2 == 0 else Drop("odd")


def test_strata_have_about_their_shares_and_stand_in_the_manifest(tmp_path: Path) -> None:
    draw = random.Random(2)
    records: list[AnyRecord] = [
        interaction(
            str(number),
            [says("user", str(number))],
            response=says("assistant", "a"),
            user=user(f"u{draw.randint(0, 60)}"),
            platform="chat" if number % 10 else "phone",
            success=draw.random() < 0.3,
        )
        for number in range(400)
    ]
    split = {"shares": {"train": 0.8, "test": 0.2}, "by": ["platform", "success"]}
    shares = built(records, tmp_path, split).manifest.shares
    totals = Counter[str]()
    for share in shares.values():
        totals.update(share.strata)
    assert set(totals) == {f"platform={p}, success={s}" for p in ("chat", "phone") for s in ("true", "false")}
    for name, share in shares.items():
        assert share.wanted == {"train": 0.8, "test": 0.2}[name]
        for stratum, total in totals.items():
            assert abs(share.strata[stratum] - share.wanted * total) <= 2
    kept = build_version(list_store(records), Recipe(name="even", steps=(even,)), tmp_path)
    assert sum(share.interactions for share in kept.manifest.shares.values()) < 300  # of what the steps keep


@given(st.lists(st.integers(0, 5), min_size=2, max_size=24), st.sampled_from(["fold", "hold"]))
@settings(max_examples=20)
def test_near_duplicates_stay_together_where_that_is_asked_for(kinds: list[int], how: str) -> None:
    pytest.importorskip("numpy")
    from tracemill.quality.documents import document
    from tracemill.quality.duplicates import Document, brute_force

    records: list[AnyRecord] = []
    for number, kind in enumerate(kinds):
        text = " ".join(f"word{kind}x{place}" for place in range(60)) + f" end{number}"
        records.append(interaction(str(number), [says("user", text)], response=says("assistant", "a"), success=True))
    split: dict[str, Any] = {"folds": 3} if how == "fold" else {"shares": SHARES}
    with tempfile.TemporaryDirectory() as folder:
        version = built(records, folder, {**split, "group": UNGROUPED})
        found = holding(version, records)
    texts = [
        Document(record.id, document([*record.messages, record.response or {}]))
        for record in records
        if isinstance(record, Interaction)
    ]
    alike = brute_force(texts, 0.8)
    assert len(alike) == sum(n * (n - 1) // 2 for n in Counter(kinds).values())
    assert all(found[one] == found[other] for one, other in alike)
    assert version.manifest.groups == len(set(kinds))


def test_a_feature_can_hold_groups_together(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        interaction(str(number), [says("user", str(number))], success=True, scenario=None, platform=f"p{number % 4}")
        for number in range(40)
    ]
    version = built(records, tmp_path, {"folds": 2, "group": ["platform"]})
    assert version.manifest.groups == 4
    assert [share.interactions for share in version.manifest.shares.values()] == [20, 20]


def test_an_interrupted_build_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numpy")
    monkeypatch.setattr(shards, "SHARD_PLACES", 20)
    split = {"folds": 3, "by": ["success", "words"], "group": [*UNGROUPED, "task"]}
    content = {"name": "law", "split": split, "features": ["words", "user_share", "outcome", "conversation_age_days"]}
    whole = build_version(list_store(sample()), parse_recipe(content), tmp_path / "whole")
    assert all("user_share" in example.features for example in whole.examples("fold_1") if example.platform == "chat")
    for stop in range(1, 7):
        calls_left = iter(range(stop))

        def interrupted(stage: str, done: int, total: int | None, left: Iterator[int] = calls_left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_version(list_store(sample()), parse_recipe(content), tmp_path / "parts", progress=interrupted)
    parts = build_version(list_store(sample()), parse_recipe(content), tmp_path / "parts")
    assert parts.verify() == []
    assert parts.manifest_sha256 == whole.manifest_sha256


def test_answers_to_one_history_stay_together_and_have_features(tmp_path: Path) -> None:
    records: list[AnyRecord] = []
    for number in range(12):
        for again in range(2):
            name, question = f"{number} {again}", [says("user", f"question {number}")]
            answer = says("assistant", f"answer {again}")
            common: dict[str, Any] = {"conversation_id": f"c{number}", "user": user(f"u{number}-{again}")}
            records.append(interaction(name, question, response=answer, minutes=10 * again, **common))
    content = {"signals": ["regenerations"], "features": ["turns", "user_interactions"]}
    version = build_version(
        list_store(records), parse_recipe({**content, "split": {"folds": 3, "group": "user"}}), tmp_path
    )
    assert version.count(type="preference") == 12
    assert version.manifest.groups == 12
    assert all(example.features == {"turns": 2, "user_interactions": 1} for example in version.examples())
