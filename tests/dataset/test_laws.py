"""What holds of every build: nothing leaks between splits, every pair is there once, the order of storing is invisible."""

from __future__ import annotations

import random
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.dataset.support import interaction, list_store, reward, says, user
from tracemill.core.examples import PreferenceExample, TrajectoryPreference
from tracemill.core.records import AnyRecord, Feedback, Interaction
from tracemill.dataset.build import build_version
from tracemill.dataset.history import shared_length
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version

RECIPE = Recipe(name="law", split={"train": 0.5, "validation": 0.2, "test": 0.3})
_words = st.sampled_from(["a", "b", "c"])
_turns = st.lists(st.builds(says, st.sampled_from(["user", "assistant"]), _words), max_size=4)


@st.composite
def attempts(draw: st.DrawFn) -> list[AnyRecord]:
    """Interactions that share users, conversations and tasks, many of them alike, some with rewards."""
    records: list[AnyRecord] = []
    for number in range(draw(st.integers(0, 14))):
        some = st.none() | st.integers(0, 3)
        person, conversation, task = draw(some), draw(st.none() | st.integers(0, 9)), draw(some)
        fields: dict[str, Any] = {
            "conversation_id": None if conversation is None else f"c{conversation}",
            "user": None if person is None else user(f"u{person}"),
            "task_id": None if task is None else f"t{task}",
            "trial": number,
            "success": draw(st.none() | st.booleans()),
            "response": draw(st.none() | st.builds(says, st.just("assistant"), _words)),
        }
        records.append(interaction(str(number), [says("user", "q"), *draw(_turns)], **fields))
        if draw(st.booleans()):
            records.append(reward(str(number), draw(st.sampled_from([0.0, 0.5, 1.0]))))
    return records


def built(records: list[AnyRecord], folder: str, recipe: Recipe = RECIPE) -> Version:
    return build_version(list_store(records), recipe, Path(folder))


@given(attempts(), st.randoms(use_true_random=False))
def test_the_order_of_storing_leaves_no_trace(records: list[AnyRecord], order: random.Random) -> None:
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        one, other = built(records, here), built(order.sample(records, len(records)), there)
        assert one.verify() == other.verify() == []
        assert one.manifest_sha256 == other.manifest_sha256


@given(attempts())
def test_no_user_conversation_or_task_is_in_two_splits(records: list[AnyRecord]) -> None:
    interactions = {record.id: record for record in records if isinstance(record, Interaction)}
    targets = {record.id: record.interaction_id for record in records if isinstance(record, Feedback)}
    seen: dict[object, set[str]] = {}
    contents: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        version = built(records, folder)
        for split in version.splits():
            for example in version.examples(split):
                contents.setdefault(example.id, set()).add(split)
                for source in example.sources:
                    whose = interactions[targets.get(source) or source]
                    for kind in ("user", "conversation_id", "task_id"):
                        if (value := getattr(whose, kind)) is not None:
                            seen.setdefault((kind, str(value)), set()).add(split)
    assert all(len(splits) == 1 for splits in [*seen.values(), *contents.values()])


@given(attempts())
def test_every_pair_of_trials_with_different_rewards_appears_once_in_its_honest_form(records: list[AnyRecord]) -> None:
    rewards = {r.interaction_id: r.score for r in records if isinstance(r, Feedback)}
    trials = [r for r in records if isinstance(r, Interaction) and r.task_id is not None and r.id in rewards]
    expected = {}
    for one, other in combinations(trials, 2):
        if one.task_id == other.task_id and rewards[one.id] != rewards[other.id]:
            better, worse = sorted((one, other), key=lambda trial: -(rewards[trial.id] or 0.0))
            sides = [t.messages + ([t.response] if t.response else []) for t in (better, worse)]
            shared = shared_length(*sides)
            expected[better.id, worse.id] = shared > 0 and all(
                len(side) > shared and side[shared]["role"] == "assistant" for side in sides
            )
    found: list[tuple[tuple[str, str], bool]] = []
    with tempfile.TemporaryDirectory() as folder:
        for example in built(records, folder, Recipe(name="law", signals=("trials",))).examples():
            assert isinstance(example, (PreferenceExample, TrajectoryPreference))
            found.extend((pair, isinstance(example, PreferenceExample)) for pair in example.pairs)
    assert sorted(found) == sorted(expected.items())


@given(st.lists(strategies.interactions | strategies.feedback | strategies.validations, unique_by=lambda r: r.id))
@settings(max_examples=60)
def test_whatever_was_stored_can_be_built(records: list[AnyRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        version = built(records, folder, Recipe(name="odd", labelled_unit="turn"))
        assert version.verify() == []
        read = {fate.id for fate in version.fates()}
        assert {record.id for record in records if isinstance(record, Interaction)} <= read
        assert read <= {record.id for record in records}
