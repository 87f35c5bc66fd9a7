"""The state an agent was in, what it did, and what came of it: out of messages, or out of recorded steps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dataset.support import calls, feedback, interaction, list_store, record_id, result, says, step
from tracemill.core.examples import ActionExample
from tracemill.core.records import Action, AnyRecord, Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.actions import actions
from tracemill.feedback.attach import attach
from tracemill.feedback.executions import find_executions

ASK = says("user", "When does the ferry leave?")
TOOLS = [{"type": "function", "function": {"name": "search"}}, {"type": "function", "function": {"name": "book"}}]
TALK = [
    ASK,
    {**calls("search", '{"q": "ferry"}', "c1"), "reasoning_content": "look it up"},
    result("c1", '["10:15"]'),
    says("assistant", "At 10:15."),
]


def run(subject: Interaction, *more: AnyRecord) -> list[ActionExample] | Drop:
    store = list_store([subject, *more])
    attachments = attach(store)
    attachments.executions = find_executions(store)
    (attached,) = attachments.of_batch(store, [subject.id])
    return actions(subject, attached, Recipe())


def made(subject: Interaction, *more: AnyRecord) -> list[ActionExample]:
    found = run(subject, *more)
    assert not isinstance(found, Drop)
    return found


def test_every_call_of_tools_is_an_action_with_its_history() -> None:
    subject = interaction("t", [*TALK, says("user", "Book."), calls("book", '{"at": "10:15"}', "c2")], tools=TOOLS)
    first, second = made(subject)
    assert (first.prompt, first.completion) == ([ASK], [TALK[1]])
    assert (first.tool, first.parameters, first.reasoning) == ("search", {"q": "ferry"}, "look it up")
    assert first.outcome == {"success": True, "results": [TALK[2]]}
    assert (first.goal, first.available_tools, first.tools) == (ASK["content"], ["search", "book"], TOOLS)
    assert (second.prompt, second.outcome) == (subject.messages[:-1], {})
    assert (first.action, first.confidence, first.sources) == ("tool_request", 0.5, [subject.id])


def test_success_and_labels_tell_how_far_to_trust_them() -> None:
    assert made(interaction("t", TALK, success=True))[0].confidence == 0.8
    (example,) = made(interaction("t", TALK), up := feedback("f", "t", kind="thumbs_up"))
    assert (example.confidence, example.human_validated) == (1.0, True)
    assert up.id in example.sources


@pytest.mark.parametrize(
    ("messages", "fields", "reason"),
    [
        (TALK, {"success": False}, "not_successful"),
        ([ASK, says("assistant", "At ten.")], {}, "no_action"),
        ([ASK, TALK[1], result("c1", "Error: down")], {}, "no_good_action"),
        ([TALK[1], TALK[2]], {}, "no_good_action"),  # nothing stands before it
    ],
)
def test_what_is_not_to_be_imitated(messages: list[dict[str, Any]], fields: dict[str, Any], reason: str) -> None:
    assert run(interaction("t", messages, **fields)) == Drop(reason)
    assert run(interaction("t", TALK), feedback("f", "t", kind="thumbs_down")) == Drop("negative_feedback")


def test_the_same_call_again_is_left_out() -> None:
    again = [calls("search", '{"q":"ferry"}', "c2"), result("c2", '["10:15"]')]
    assert len(made(interaction("t", [*TALK[:3], *again]))) == 1


def test_steps_are_actions_where_the_messages_call_nothing() -> None:
    subject = interaction("t", [ASK, says("assistant", "At 10:15.")], kind="agent", success=True)
    act = Action(tool="search", parameters={"q": "ferry"}, success=True)
    steps = [
        step("s1", "t", index=1, name="plan", outputs={"next": "search"}),
        step(
            "s2", "t", index=2, name="look", agent="scout", inputs={"goal": "times"}, actions=[act], reasoning="need it"
        ),
        step("s3", "t", index=3, actions=[Action(tool="book", success=False)]),
    ]
    (example,) = made(subject, *reversed(steps))
    assert (example.signal, example.agent, example.tool, example.reasoning) == ("step", "scout", "search", "need it")
    state = {
        "step": "look",
        "agent": "scout",
        "inputs": {"goal": "times"},
        "previous_step": "plan",
        "previous_outputs": {"next": "search"},
    }
    assert example.state == state
    assert json.loads(example.prompt[0]["content"]) == {"goal": ASK["content"], **state}
    call = example.completion[0]["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("search", {"q": "ferry"})
    assert example.sources == sorted([subject.id, record_id("s1"), record_id("s2")])


def test_the_goal_of_a_run_without_messages_is_what_its_steps_state() -> None:
    subject = interaction("t", [], kind="agent", success=True)
    act = Action(tool="search", parameters={"q": "ferry"}, success=True)
    first = step("s1", "t", index=1, name="plan", inputs={"goal": "find the ferry"})
    second = step("s2", "t", index=2, name="note")
    third = step("s3", "t", index=3, name="look", inputs={"goal": "something else"}, actions=[act])
    (example,) = made(subject, first, second, third)
    assert example.goal == json.loads(example.prompt[0]["content"])["goal"] == "find the ferry"
    assert example.sources == sorted([subject.id, *map(record_id, ("s1", "s2", "s3"))])
    (without,) = made(subject, second, step("s4", "t", index=4, name="look", inputs={"goal": 7}, actions=[act]))
    assert without.goal is None
    assert "goal" not in json.loads(without.prompt[0]["content"])
