"""Features say how an interaction was, never what was said; what is not known is absent."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tests.dataset.support import (
    START,
    calls,
    feedback,
    interaction,
    list_store,
    record_id,
    result,
    reward,
    says,
    validation,
)
from tests.dataset.test_laws import attempts
from tracemill.core.errors import DatasetError, RecipeError
from tracemill.core.examples import FeatureColumn, TrajectoryPreference
from tracemill.core.ids import microseconds
from tracemill.core.records import AnyRecord, Interaction, Model
from tracemill.dataset.build import build_version
from tracemill.dataset.features import FEATURES, LONGEST_WORD, Facts, check_features, computed, find_feature, of_all
from tracemill.dataset.recipe import Recipe, parse_recipe, recorded_recipe
from tracemill.feedback.attach import NOTHING, Attached, Scale, attach

SCALES = {"reward": Scale(positive=1.0, negative=0.0)}
OF_ONE = [name for name in FEATURES if not of_all(name)]
OF_ALL = [name for name in FEATURES if of_all(name)]
TYPES = {"integer": int, "number": float, "flag": bool, "word": str}


def urgent(record: Interaction) -> bool:
    """Whether somebody marked it urgent."""
    return "urgent" in record.tags


def depth(record: Interaction) -> float | None:
    return None if record.turn is None else record.turn


def unannotated(record: Interaction):  # type: ignore[no-untyped-def]
    return 1


def many(record: Interaction) -> list[str]:
    return record.tags


def lies(record: Interaction) -> int:
    return "three"  # type: ignore[return-value]


def breaks(record: Interaction) -> int:
    return 1 // len(record.tags)


def turns(record: Interaction) -> int:
    return 0


def facts(record: Interaction, attached: Attached = NOTHING, score: str = "reward") -> Facts:
    return Facts(record, attached, SCALES, score)


def test_every_feature_of_one_interaction() -> None:
    talk = [
        says("system", "You are an assistant with many words that nobody counts."),
        says("user", "Book it? Now?"),
        calls("search", "{}", "c1"),
        result("c1", "Error: timed out"),
        calls("search", "{}", "c2"),
        result("c2", "3 flights"),
        calls("pay", "{}", "c3"),
        result("c3", "Error: declined", "pay"),
        says("assistant", "Here:\n```py\nx = 1\n```\nDone."),
        says("user", "Thanks"),
    ]
    record = interaction(
        "a",
        talk,
        response=says("assistant", "Bye?"),
        platform="air",
        kind="agent",
        model=Model(name="m-1"),
        duration_ms=250.5,
        cost_usd=0.02,
        input_tokens=100,
        output_tokens=20,
        success=True,
        trial=2,
        tools=[{"type": "function", "function": {"name": name}} for name in ("search", "pay", "refund")],
    )
    said: list[AnyRecord] = [
        record,
        reward("a", 1.0),
        feedback("rated", "a", kind="rating", rating=4),
        feedback("note", "a", kind="comment", comment="fine"),
        validation("check", "a", passed=True),
    ]
    found = computed(OF_ONE, facts(record, attach(list_store(said)).of(record.id)))
    quality = found.pop("quality")
    assert isinstance(quality, float)
    assert 0 < quality <= 1
    assert found == {
        "messages": 11,
        "turns": 7,
        "user_turns": 2,
        "assistant_turns": 5,
        "tool_calls": 3,
        "distinct_tools": 2,
        "tools_offered": 3,
        "failures": 2,
        "recoveries": 1,
        "characters": 13 + 27 + 6 + 4,
        "words": 3 + 5 + 1 + 1,
        "user_words": 4,
        "assistant_words": 6,
        "question_marks": 3,
        "code_blocks": 1,
        "input_tokens": 100,
        "output_tokens": 20,
        "tokens": 120,
        "hour": 12,
        "weekday": 7,
        "trial": 2,
        "defects": 0,
        "labels": 2,
        "mean_words": 10 / 7,
        "duration_ms": 250.5,
        "cost_usd": 0.02,
        "score": 1.0,
        "rating": 4.0,
        "platform": "air",
        "kind": "agent",
        "model": "m-1",
        "language": "latin",
        "outcome": "successful",
        "label": "positive",
        "success": True,
    }
    assert {*found, "quality"} == set(OF_ONE)


def test_what_is_not_known_is_absent() -> None:
    found = computed(OF_ONE, facts(interaction("a", [])))
    assert set(OF_ONE) - set(found) == {
        *("input_tokens", "output_tokens", "tokens", "trial", "mean_words", "duration_ms", "cost_usd", "score"),
        *("rating", "quality", "model", "language", "outcome", "label", "success"),
    }


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"completion_status": "partial", "success": True}, "outcome", "partial"),
        ({"success": False}, "outcome", "failed"),
        ({"model": Model(), "model_requested": Model(name="asked")}, "model", "asked"),
        ({"platform": "p" * 200}, "platform", "p" * LONGEST_WORD),
        ({"platform": "\ud800x"}, "platform", "?x"),
        ({"duration_ms": float("nan")}, "duration_ms", None),
        ({"cost_usd": float("inf")}, "cost_usd", None),
        ({"input_tokens": 2**63}, "input_tokens", None),
        ({"input_tokens": 5}, "tokens", None),
        ({"response": says("assistant", "Привет всем")}, "language", "cyrillic"),
        ({"response": says("assistant", "```\nnever closed")}, "code_blocks", 1),
        ({"time": datetime(2026, 1, 4, 23, 59, tzinfo=UTC)}, "weekday", 7),
        ({"time": datetime(2026, 1, 5, tzinfo=UTC)}, "weekday", 1),
    ],
)
def test_odd_values(fields: dict[str, Any], name: str, value: Any) -> None:
    record = msgspec.structs.replace(interaction("a", [says("user", "q")]), **fields)
    assert computed([name], facts(record)).get(name) == value


def test_labels_that_differ_are_mixed_and_success_can_be_the_score() -> None:
    record = interaction("a", [says("user", "q")], success=False)
    said: list[AnyRecord] = [record, reward("a", 0.0), feedback("thumb", "a", kind="thumbs_up")]
    attached = attach(list_store(said)).of(record.id)
    assert computed(["label", "labels"], facts(record, attached)) == {"label": "mixed", "labels": 2}
    assert computed(["score"], facts(record, attached, "success")) == {"score": 0.0}
    assert computed(["label"], facts(record, attach(list_store(said[:2])).of(record.id))) == {"label": "negative"}


@given(strategies.interactions)
def test_every_interaction_has_features_of_their_kinds_that_any_reader_takes(record: Interaction) -> None:
    found = computed(OF_ONE, facts(record))
    for name, value in found.items():
        assert type(value) is TYPES[FEATURES[name].kind]
        assert not isinstance(value, str) or 0 < len(value) <= LONGEST_WORD
    assert json.loads(msgspec.json.encode(found)) == found


# -- one's own


def test_one_can_write_ones_own() -> None:
    names = [f"{__name__}:urgent", f"{__name__}:depth"]
    check_features(names)
    record = interaction("a", [], tags=["urgent"], turn=3)
    assert computed(names, facts(record)) == {"urgent": True, "depth": 3.0}
    assert computed(names, facts(interaction("b", []))) == {"urgent": False}
    assert find_feature(names[0]).column() == FeatureColumn(kind="flag", meaning="Whether somebody marked it urgent.")


def test_ones_own_is_in_the_hash_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(features=("turns", f"{__name__}:urgent"))
    named, described = recipe.plain()["features"]
    assert named == "turns"
    assert described["feature"] == f"{__name__}:urgent"
    assert len(described["sha256"]) == 64
    assert recorded_recipe(recipe.plain(), recipe.hash()) == recipe
    before = recipe.hash(), recipe.plain()
    monkeypatch.setattr(f"{__name__}.urgent", depth)
    assert recipe.hash() != before[0]
    with pytest.raises(RecipeError, match="was changed since"):
        recorded_recipe(before[1], before[0])


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        (["trns"], "features: trns: unknown feature", "Did you mean turns"),
        (["turns", "turns"], "features: turns and turns are one column, turns", ""),
        ([f"{__name__}:turns"], "would take the name of the feature turns", "Rename"),
        ([f"{__name__}:gone"], "cannot be imported", ""),
        ([f"{__name__}:unannotated"], "its annotation does not say what it returns", "-> bool"),
        ([f"{__name__}:many"], "its annotation does not say what it returns", "-> bool"),
    ],
)
def test_what_is_wrong_is_named(names: list[str], message: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"features": names})
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "message"), [("lies", "gave str, but its annotation says integer"), ("breaks", "ZeroDivisionError")]
)
def test_ones_own_that_fails_is_named_with_the_record(name: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        computed([f"{__name__}:{name}"], facts(interaction("a", [])))
    assert message in caught.value.message
    assert record_id("a") in caught.value.message


# -- in a build


def test_rows_have_them_and_are_otherwise_what_they_were(tmp_path: Path) -> None:
    talk = [says("user", "q"), says("assistant", "a")]
    records: list[AnyRecord] = [interaction(str(n), [*talk, says("user", str(n))], success=True) for n in range(6)]
    for trial in range(2):
        records.append(interaction(f"t{trial}", talk[: trial + 1], task_id="t", trial=trial, cost_usd=float(trial)))
        records.append(reward(f"t{trial}", float(trial)))
    names = ("turns", "cost_usd", "trial", f"{__name__}:urgent")
    plain = build_version(list_store(records), Recipe(name="plain"), tmp_path)
    version = build_version(list_store(records), Recipe(name="featured", features=names), tmp_path)
    assert version.verify() == []
    without = {example.id: msgspec.structs.replace(example, features={}) for example in version.examples()}
    assert without == {example.id: example for example in plain.examples()}
    assert version.manifest.features == {find_feature(name).name: find_feature(name).column() for name in names}
    for example in version.examples("train", "supervised"):
        assert example.features["turns"] == len(getattr(example, "messages")) + len(getattr(example, "tail"))  # noqa: B009
        assert example.features["urgent"] is False
    (preference,) = version.examples(type="trajectory_preference")
    assert isinstance(preference, TrajectoryPreference)
    assert preference.features == {"turns": 2, "cost_usd": 1.0, "trial": 1, "urgent": False}  # the better one's


@given(attempts(), st.randoms(use_true_random=False))
def test_features_of_all_records_are_what_counting_gives(records: list[AnyRecord], order: Any) -> None:
    read = {record.id: record for record in records if isinstance(record, Interaction)}
    conversations = Counter(record.conversation_id for record in read.values())
    users = Counter(str(record.user) for record in read.values())
    first: dict[str | None, int] = {}
    for record in read.values():
        at = microseconds(record.time)
        first[record.conversation_id] = min(first.get(record.conversation_id, at), at)
    recipe = Recipe(name="law", features=tuple(OF_ALL))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        version = build_version(list_store(records), recipe, Path(folder))
        shuffled = build_version(list_store(order.sample(records, len(records))), recipe, Path(other))
        assert version.manifest_sha256 == shuffled.manifest_sha256
        examples = list(version.examples())
    for example in examples:
        named = [pair[0] for pair in getattr(example, "pairs", [])]
        sources = [read[source] for source in named or example.sources if source in read]
        expected = []
        for record in sources:
            values: dict[str, Any] = {}
            if record.conversation_id is not None:
                values["conversation_age_days"] = (microseconds(record.time) - first[record.conversation_id]) / 86_400e6
                values["conversation_interactions"] = conversations[record.conversation_id]
            if record.user is not None:
                values["user_interactions"] = users[str(record.user)]
                values["user_share"] = users[str(record.user)] / len(read)
            expected.append(values)
        assert example.features in expected


def test_the_age_of_a_conversation_is_in_days(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        interaction(str(n), [says("user", str(n))], conversation_id="c", minutes=n * 720, success=True,
                    response=says("assistant", str(n)))
        for n in range(3)
    ]  # fmt: skip
    version = build_version(list_store(records[::-1]), Recipe(features=("conversation_age_days",)), tmp_path)
    ages = {example.sources[0]: example.features["conversation_age_days"] for example in version.examples()}
    assert ages == {record_id(str(n)): n / 2 for n in range(3)}
    assert records[0].time == START


def test_the_page_has_every_feature_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "splits.md").read_text(encoding="utf-8")
    rows = [line for line in page.split("## Features")[1].splitlines() if line.startswith("| `")]
    assert rows == [f"| `{one.name}` | {one.kind} | {one.meaning} |" for one in FEATURES.values()]
