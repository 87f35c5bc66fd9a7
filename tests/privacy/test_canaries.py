"""Invented people sent the way of real ones: what gets through is counted, and none of it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tests.dataset.support import interaction, list_store, says
from tracemill.core.messages import problems, trajectory
from tracemill.core.records import Interaction
from tracemill.dataset.build import build
from tracemill.dataset.privacy_rule import PrivacyViolations
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.residual import canary_check
from tracemill.dataset.steps import MaximumMessages
from tracemill.privacy.canaries import KINDS, canaries, measure
from tracemill.privacy.detect import GROUPS
from tracemill.privacy.policies import MASK
from tracemill.privacy.redact import Redactor

KEY = b"k" * 32


def test_the_same_seed_plants_the_same_and_another_something_else() -> None:
    first = list(canaries(3, 1))
    assert first == list(canaries(3, 1))
    values = {value for canary in first for value in canary.planted.values()}
    assert values.isdisjoint(value for canary in canaries(3, 2) for value in canary.planted.values())
    assert len(values) == sum(len(canary.planted) for canary in first)


def test_every_canary_is_a_sound_conversation_that_holds_what_was_planted() -> None:
    planted: set[str] = set()
    for canary in canaries(6, 5):
        assert list(problems(trajectory(canary.interaction))) == []
        text = msgspec.json.encode(canary.interaction).decode()
        assert [kind for kind, value in canary.planted.items() if value not in text] == []
        planted |= canary.planted.keys()
    assert planted == set(KINDS)
    assert set(KINDS) <= GROUPS.keys()


def test_without_redaction_everything_gets_through_and_with_it_next_to_nothing() -> None:
    everything = measure(9, 3, lambda one: [one])
    assert set(everything) == set(KINDS)
    assert all(passed == planted == 9 for passed, planted in everything.values())
    redactor = Redactor(MASK, KEY)
    redacted = measure(9, 3, lambda one: [redactor.record(one)])
    passed, planted = (sum(number[at] for number in redacted.values()) for at in (0, 1))
    assert planted == 9 * len(KINDS)
    assert passed <= 0.05 * planted
    only_email = measure(9, 3, lambda one: [_without_email(one)])
    assert only_email["email"] == (0, 9)
    assert only_email["iban"] == (9, 9)


def _without_email(one: Interaction) -> Interaction:
    text = msgspec.json.encode(one).decode()
    (canary,) = (found for found in canaries(9, 3) if found.interaction.id == one.id)
    return msgspec.json.decode(text.replace(canary.planted["email"], "[EMAIL]"), type=Interaction)


def test_what_a_recipe_drops_does_not_get_through() -> None:
    def nothing(_: Interaction) -> Iterable[Any]:
        return []

    assert {passed for passed, _ in measure(3, 0, nothing).values()} == {0}


def test_a_build_measures_them_and_keeps_nothing_of_them(tmp_path: Path) -> None:
    turn = interaction("a", [says("user", "hi")], response=says("assistant", "hello"), success=True)
    plain = build(list_store([turn]), Recipe(split={"train": 1.0}), tmp_path).version
    version = build(list_store([turn]), Recipe(split={"train": 1.0}, canaries=4, seed=9), tmp_path).version
    assert plain.manifest.canaries == {}
    assert version.manifest.canaries == dict.fromkeys(sorted(KINDS), (4, 4))
    assert [example.sources for example in version.examples()] == [[turn.id]]
    assert version.verify() == []
    everything = b"".join(path.read_bytes() for path in version.path.iterdir())
    for canary in canaries(4, 9):
        assert canary.interaction.id.encode() not in everything
        assert [value for value in canary.planted.values() if value.encode() in everything] == []
    strict = Recipe(split={"train": 1.0}, canaries=4, name="strict", steps=(MaximumMessages(count=2),))
    dropped = build(list_store([turn]), strict, tmp_path).version
    assert {passed for passed, _ in dropped.manifest.canaries.values()} == {0}


def test_a_recipe_that_makes_no_row_of_a_canary_says_nothing_of_what_would_get_through(tmp_path: Path) -> None:
    turn = interaction("a", [says("user", "hi")], response=says("assistant", "hello"), success=True)
    for name, more in (("other", {"signals": ("labelled",)}), ("short", {"steps": (MaximumMessages(count=2),)})):
        recipe = Recipe(split={"train": 1.0}, canaries=4, name=name, **more)
        manifest = build(list_store([turn]), recipe, tmp_path).version.manifest
        assert set(manifest.canaries.values()) == {(0, 0)}
        assert canary_check(manifest.canaries).state == "unknown"
    strict = Recipe(split={"train": 1.0}, canaries=4, name="strict", steps=(PrivacyViolations(),))
    kept_out = build(list_store([turn]), strict, tmp_path).version.manifest.canaries
    assert set(kept_out.values()) == {(0, 4)}
    assert canary_check(kept_out).state == "passed"
