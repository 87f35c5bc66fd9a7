"""Of two answers to one history, which one was preferred: by checks, by labels, by what was kept, by what came last."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import calls, feedback, interaction, list_store, open_store, record_id, says, validation
from tracemill.core.examples import LabelledExample, PreferenceExample
from tracemill.core.records import AnyRecord, Interaction
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.regenerations import (
    APART_US,
    MOST_ANSWERS,
    Turn,
    asked_again,
    preferred,
    turn_of,
)
from tracemill.dataset.steps import WithoutFields
from tracemill.feedback.attach import attach
from tracemill.workspace import Workspace

RECIPE = Recipe(name="again", signals=("regenerations",))
ASK = [says("user", "Name a river.")]


def answered(name: str, answer: str, /, *, minutes: float, **fields: Any) -> Interaction:
    messages = fields.pop("messages", ASK)
    given = {"conversation_id": "c", **fields}
    return interaction(name, messages, minutes=minutes, response=says("assistant", answer), **given)


FIRST, SECOND = answered("a", "Oslo.", minutes=0), answered("b", "Glomma.", minutes=1)


def went_on(answer: str, minutes: float = 5) -> Interaction:
    history = [*ASK, says("assistant", answer), says("user", "And a lake?")]
    return interaction(
        f"on {answer}", history, minutes=minutes, conversation_id="c", response=says("assistant", "Mjøsa.")
    )


def pairs(*records: AnyRecord) -> set[tuple[str, str, str]]:
    """(better, worse, evidence) of a conversation's records, by the answers."""
    attachments = attach(list_store(records))
    texts: dict[str, str] = {}
    turns: list[Turn] = []
    for record in records:
        if isinstance(record, Interaction):
            turn = turn_of(record, attachments.of(record.id), RECIPE)
            assert isinstance(turn, Turn)
            turns.append(turn)
            texts[record.id] = str((record.response or {}).get("content"))
    return {(texts[better.id], texts[worse.id], evidence) for better, worse, evidence, _ in preferred(turns)}


def test_what_came_last_is_preferred_when_nothing_else_is_known() -> None:
    assert pairs(FIRST, SECOND) == {("Glomma.", "Oslo.", "later")}
    third = answered("d", "Lågen.", minutes=2)
    assert pairs(FIRST, SECOND, third) == {("Lågen.", "Oslo.", "later"), ("Lågen.", "Glomma.", "later")}


def test_what_the_conversation_went_on_with_is_preferred() -> None:
    assert pairs(FIRST, SECOND, went_on("Oslo.")) == {("Oslo.", "Glomma.", "kept")}
    assert pairs(FIRST, SECOND, went_on("Glomma.")) == {("Glomma.", "Oslo.", "kept")}
    assert pairs(FIRST, SECOND, went_on("Glomma."), went_on("Oslo.")) == set()


def test_checks_and_labels_say_more_than_what_was_kept() -> None:
    kept = went_on("Oslo.")
    failed, passed = validation("v1", "a", passed=False), validation("v2", "b", passed=True)
    assert pairs(FIRST, SECOND, kept, failed, passed) == {("Glomma.", "Oslo.", "check")}
    down, up = feedback("f1", "a", kind="thumbs_down"), feedback("f2", "b", kind="thumbs_up")
    assert pairs(FIRST, SECOND, kept, down, up) == {("Glomma.", "Oslo.", "verdict")}
    assert pairs(FIRST, SECOND, kept, down) == set()  # it was kept, and somebody objected: nothing can be told
    assert pairs(FIRST, SECOND, kept, passed) == set()


def test_samples_that_were_drawn_together_are_not_later_than_each_other() -> None:
    together = answered("b", "Glomma.", minutes=0.01)
    assert pairs(FIRST, together) == set()
    assert pairs(FIRST, together, went_on("Glomma.")) == {("Glomma.", "Oslo.", "kept")}


def test_very_many_answers_are_not_all_compared() -> None:
    many = [_turn(number, chr(65 + number), passed=number % 2 == 0, verdict=0) for number in range(40)]
    assert len(list(preferred(many))) == (MOST_ANSWERS // 2) ** 2


def test_the_same_answer_twice_another_history_and_other_tools_are_no_regeneration() -> None:
    assert pairs(FIRST, answered("b", "Oslo.", minutes=1)) == set()
    assert pairs(FIRST, answered("b", "Glomma.", minutes=1, messages=[says("user", "Another?")])) == set()
    assert pairs(FIRST, answered("b", "Glomma.", minutes=1, tools=[{"type": "function"}])) == set()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"conversation_id": None}, "no_conversation"),
        ({"response": None}, "no_answer"),
        ({"messages": []}, "no_answer"),
    ],
)
def test_what_is_no_turn(fields: dict[str, Any], reason: str) -> None:
    given = {"messages": ASK, "conversation_id": "c", "response": says("assistant", "a"), **fields}
    subject = interaction("x", given.pop("messages"), **given)
    assert turn_of(subject, attach(list_store([])).of(subject.id), RECIPE) == reason


_turns = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # the answer
        st.sampled_from([None, True, False]),
        st.sampled_from([-1, 0, 1]),
        st.booleans(),  # whether the conversation went on with it
    ),
    max_size=6,
)


def _turn(number: int, answer: str, passed: bool | None, verdict: int) -> Turn:
    prompt, end = b"p" * 16, answer.encode() * 16
    return Turn(
        conversation=b"c" * 16,
        time=2 * APART_US * number,
        id=record_id(str(number)),
        spine=prompt + end,
        prompt=1,
        tools=b"t" * 16,
        answer=end,
        question="",
        passed=passed,
        verdict=verdict,
    )


@given(_turns, st.randoms(use_true_random=False))
def test_by_brute_force_and_in_any_order(drawn: list[tuple[str, bool | None, int, bool]], order: Any) -> None:
    turns = [_turn(number, answer, passed, verdict) for number, (answer, passed, verdict, _) in enumerate(drawn)]
    on = sorted({answer for answer, _, _, kept in drawn if kept})
    after = [
        Turn(
            conversation=b"c" * 16,
            time=99 * APART_US,
            id=record_id(f"on {answer}"),
            spine=b"p" * 16 + answer.encode() * 16 + b"x" * 32,
            prompt=3,
            tools=b"t" * 16,
            answer=b"x" * 16,
            question="",
        )
        for answer in on
    ]
    last = {turn.answer: turn for turn in turns}
    expected = set()
    for better, worse in itertools.permutations(last.values(), 2):
        kept, newest = [answer.encode() * 16 for answer in on], max(last.values(), key=lambda turn: turn.time)
        if better.passed is True and worse.passed is False:
            expected.add((better.id, worse.id, "check"))
        elif {better.passed, worse.passed} == {True, False}:
            continue
        elif better.verdict > 0 > worse.verdict:
            expected.add((better.id, worse.id, "verdict"))
        elif better.verdict < 0 < worse.verdict:
            continue
        elif better.passed is not False and better.verdict >= 0 and worse.passed is not True and worse.verdict <= 0:
            if kept == [better.answer]:
                expected.add((better.id, worse.id, "kept"))
            elif not kept and better is newest:
                expected.add((better.id, worse.id, "later"))
    everything = [*turns, *after]
    shuffled = order.sample(everything, len(everything))
    assert {(one.id, other.id, evidence) for one, other, evidence, _ in preferred(shuffled)} == expected


def test_a_build_names_every_record_it_used_and_gives_others_a_reason(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        SECOND,
        validation("v1", "a", passed=False),
        FIRST,
        validation("v2", "b", passed=True),
        went_on("Oslo."),
        interaction("alone", ASK, response=says("assistant", "Rhine.")),
    ]
    store = open_store(tmp_path, records)
    version = build_version(store, RECIPE, tmp_path)
    (example,) = version.examples()
    assert isinstance(example, PreferenceExample)
    assert (example.prompt, example.chosen, example.rejected) == (ASK, [SECOND.response], [FIRST.response])
    assert example.sources == sorted(record_id(name) for name in ("a", "b", "v1", "v2"))
    assert (example.signal, example.pairs) == ("regenerated_check", [(SECOND.id, FIRST.id)])
    fates = {fate.id: fate.left_out for fate in version.fates()}
    assert fates[record_id("alone")] == {"regenerations": "no_conversation"}
    assert fates[record_id("on Oslo.")] == {"regenerations": "not_answered_again"}
    assert fates[record_id("a")] == {}
    assert version.verify() == []
    store.close()


def test_what_it_went_on_with_is_a_source_too(tmp_path: Path) -> None:
    on = went_on("Oslo.")
    store = open_store(tmp_path, [FIRST, SECOND, on])
    recipe = msgspec.structs.replace(RECIPE, features=("characters",))
    (example,) = build_version(store, recipe, tmp_path).examples()
    assert example.features == {"characters": len("Name a river.Oslo.")}  # of the better side
    assert example.sources == sorted([FIRST.id, SECOND.id, on.id])
    assert (example.signal, example.confidence) == ("regenerated_kept", 0.7)
    store.close()


def test_what_a_step_changed_stays_changed(tmp_path: Path) -> None:
    """The comparison comes after the steps, and must not bring back what they took out."""
    records = [
        answered(name, answer, minutes=at, messages=[{**ASK[0], "secret": "x"}])
        for at, (name, answer) in enumerate((("a", "Oslo."), ("b", "Glomma.")))
    ]
    store = open_store(tmp_path, records)
    recipe = Recipe(name="again", signals=("regenerations",), steps=(WithoutFields(fields=("secret",)),))
    version = build_version(store, recipe, tmp_path)
    (example,) = version.examples()
    assert isinstance(example, PreferenceExample)
    assert example.prompt == ASK
    store.close()


ROUTER = [says("user", "How do I reset my router password?")]
ROUTER_AGAIN = [says("user", "how do i reset the router password")]


def test_a_question_put_again_in_a_call_of_its_own(tmp_path: Path) -> None:
    records = [
        answered("a", "Routers connect networks.", minutes=0, messages=ROUTER),
        answered("b", "Press reset.", minutes=2, messages=ROUTER_AGAIN),
        answered("late", "Press reset.", minutes=90, messages=ROUTER),
    ]
    store = open_store(tmp_path, records)
    version = build_version(store, Recipe(name="again", signals=("rephrases",)), tmp_path)
    (example,) = version.examples()
    assert isinstance(example, LabelledExample)
    assert (example.prompt, example.completion) == (ROUTER, [records[0].response])
    assert example.sources == sorted([records[0].id, records[1].id])
    assert example.label is False
    store.close()


def test_a_call_that_sends_the_history_along_is_left_to_the_messages() -> None:
    first = answered("a", "Routers connect networks.", minutes=0, messages=ROUTER)
    second = answered("b", "Press reset.", minutes=1, messages=[*ROUTER, first.response, *ROUTER_AGAIN])
    turns = [turn_of(one, attach(list_store([])).of(one.id), RECIPE) for one in (first, second)]
    assert list(asked_again([turn for turn in turns if isinstance(turn, Turn)])) == []


def test_what_a_policy_redacts_does_not_come_back(tmp_path: Path) -> None:
    ask = [says("user", "I am ada.lovelace@example.org: name a river for me please.")]
    records = [
        answered("a", "Oslo, ada.lovelace@example.org.", minutes=0, messages=ask),
        answered("b", "Glomma.", minutes=1, messages=ask),
    ]
    with Workspace.open(tmp_path / "w") as workspace:
        workspace.store.append(records)
        recipe = msgspec.structs.replace(RECIPE, redaction="standard", signals=("regenerations", "rephrases"))
        version = workspace.build_dataset(recipe).version
        (example,) = version.examples()
    assert isinstance(example, PreferenceExample)
    assert example.chosen == [says("assistant", "Glomma.")]
    files = [path for path in version.path.iterdir() if path.is_file()]
    assert files
    assert not [path for path in files if b"lovelace@" in path.read_bytes()]


@pytest.mark.parametrize(("better", "worse"), [("a", "b"), ("b", "a")])
def test_two_signals_that_give_one_preference_do_so_in_any_order(tmp_path: Path, better: str, worse: str) -> None:
    recipe = Recipe(name="again", signals=("trials", "regenerations"), trial_score="success")
    records: list[AnyRecord] = [
        answered(better, "Glomma.", minutes=5, task_id="t", success=True),
        answered(worse, "Oslo.", minutes=1, task_id="t", success=False),
    ]
    one = build_version(list_store(records), recipe, tmp_path / "one")
    other = build_version(list_store(records[::-1]), recipe, tmp_path / "other")
    assert one.count() == 1
    assert list(one.examples()) == list(other.examples())
    assert one.manifest_sha256 == other.manifest_sha256


def test_the_same_call_under_another_id_is_no_other_answer(tmp_path: Path) -> None:
    """A provider draws the ids of calls at random."""
    records: list[AnyRecord] = [
        interaction(name, ASK, minutes=minutes, conversation_id="c", response=calls("search", '{"q": 1}', name))
        for name, minutes in (("a", 1), ("b", 5))
    ]
    version = build_version(list_store(records), RECIPE, tmp_path)
    assert version.count() == 0
    assert {fate.left_out.get("regenerations") for fate in version.fates()} == {"not_answered_again"}
