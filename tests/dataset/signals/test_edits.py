"""A correction becomes a preference over what it corrects, in the form in which the answer carried it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dataset.support import calls, feedback, interaction, list_store, says, validation
from tracemill.core.examples import PreferenceExample
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.signals.edits import edits
from tracemill.feedback.attach import attach

ASK = [says("user", "Build it.")]
OLD, NEW = {"name": "flow", "steps": [1, 2]}, {"name": "flow", "steps": [1, 2, 3]}


def run(subject: Interaction, *said: AnyRecord) -> list[PreferenceExample] | Drop:
    store = list_store([subject, *said])
    return edits(subject, attach(store).of(subject.id), store.get)


def made(subject: Interaction, *said: AnyRecord) -> PreferenceExample:
    examples = run(subject, *said)
    assert not isinstance(examples, Drop)
    (example,) = examples
    return example


def edited(original: Any = None, changed: Any = None) -> AnyRecord:
    return validation("v", "t", original=original, edited=NEW if changed is None else changed, user_edited=True)


def test_a_corrected_text_is_chosen_over_the_answer() -> None:
    subject = interaction("t", ASK, response=says("assistant", "Four."))
    correction = feedback("f", "t", kind="edit", correction="Five.")
    example = made(subject, correction)
    assert (example.prompt, example.rejected) == (ASK, [subject.response])
    assert example.chosen == [says("assistant", "Five.")]
    assert (example.signal, example.human_validated) == ("corrected_text", True)
    assert example.sources == sorted([subject.id, correction.id])


def test_a_corrected_message_is_taken_as_it_is() -> None:
    subject = interaction("t", [*ASK, says("assistant", "Four.")])
    better = calls("count", '{"to": 5}', "c1")
    example = made(subject, feedback("f", "t", kind="edit", correction=better))
    assert (example.prompt, example.chosen, example.rejected) == (ASK, [better], [says("assistant", "Four.")])
    assert example.signal == "corrected_message"


@pytest.mark.parametrize(
    "style",
    [
        {},
        {"indent": 2},
        {"indent": 4, "ensure_ascii": False},
        {"separators": (",", ":")},
        {"sort_keys": True, "indent": 3},
    ],
)
def test_an_artifact_in_the_text_is_exchanged_in_place_and_in_its_style(style: dict[str, Any]) -> None:
    old, new = {**OLD, "titel": "Größe"}, {**NEW, "titel": "Größe"}
    text = f"Here {{you}} are:\n```json\n{json.dumps(old, **style)}\n```\nEnjoy [it]."
    subject = interaction("t", ASK, response=says("assistant", text), artifact=old)
    example = made(subject, edited(changed=new))
    expected = json.dumps(new, **style)
    assert example.chosen == [says("assistant", f"Here {{you}} are:\n```json\n{expected}\n```\nEnjoy [it].")]
    assert example.rejected == [subject.response]
    assert example.signal == "artifact_in_text"


def test_an_artifact_inside_another_value_of_the_text_is_found() -> None:
    text = json.dumps({"name": "wrapper", "workflow": OLD})
    subject = interaction("t", ASK, response=says("assistant", text), artifact=OLD)
    assert made(subject, edited()).chosen[0]["content"] == json.dumps({"name": "wrapper", "workflow": NEW})


def test_an_artifact_in_a_part_and_in_a_tool_call() -> None:
    parts = [{"type": "text", "text": "Done."}, {"type": "text", "text": json.dumps(OLD)}]
    subject = interaction("t", ASK, response={"role": "assistant", "content": parts}, artifact=OLD)
    assert made(subject, edited()).chosen[0]["content"][1]["text"] == json.dumps(NEW)
    call = calls("create", json.dumps({"workflow": OLD, "dry": True}, separators=(",", ":")), "c1")
    example = made(interaction("t", ASK, response=call, artifact=OLD), edited())
    arguments = example.chosen[0]["tool_calls"][0]["function"]["arguments"]
    assert arguments == json.dumps({"workflow": NEW, "dry": True}, separators=(",", ":"))
    assert example.chosen[0]["tool_calls"][0]["id"] == "c1"
    assert example.signal == "artifact_in_tool_call"


def test_an_artifact_the_answer_does_not_carry_is_both_sides() -> None:
    subject = interaction("t", ASK, response=says("assistant", "Done, see the editor."), artifact=OLD)
    example = made(subject, edited())
    assert example.chosen == [says("assistant", json.dumps(NEW))]
    assert example.rejected == [says("assistant", json.dumps(OLD))]
    assert example.signal == "artifact_as_content"


def test_the_validation_s_original_counts_over_the_interaction_s() -> None:
    subject = interaction("t", ASK, artifact={"other": 1})
    assert made(subject, edited(original=OLD)).rejected == [says("assistant", json.dumps(OLD))]


def test_an_artifact_that_is_text_is_exchanged_as_text() -> None:
    subject = interaction("t", ASK, response=says("assistant", "Run `rm x` now."), artifact="rm x")
    example = made(subject, feedback("f", "t", kind="edit", correction="rm -i x"))
    assert example.chosen[0]["content"] == "Run `rm -i x` now."


def test_a_corrected_artifact_sent_as_json_text_is_an_artifact() -> None:
    subject = interaction("t", ASK, response=says("assistant", json.dumps(OLD)), artifact=OLD)
    assert made(subject, feedback("f", "t", kind="edit", correction=json.dumps(NEW))).signal == "artifact_in_text"


def test_several_corrections_give_an_example_each() -> None:
    subject = interaction("t", ASK, response=says("assistant", "Four."), artifact=OLD)
    examples = run(subject, feedback("f", "t", kind="edit", correction=says("assistant", "Five.")), edited())
    assert not isinstance(examples, Drop)
    assert [example.signal for example in examples] == ["corrected_message", "artifact_as_content"]


@pytest.mark.parametrize(
    ("fields", "said", "reason"),
    [
        ({"response": says("assistant", "a")}, [], "no_correction"),
        ({"response": says("assistant", "a")}, [feedback("f", "t", kind="edit", correction="a")], "unchanged"),
        ({"artifact": OLD}, [edited(changed={"steps": [1, 2], "name": "flow"})], "unchanged"),
        ({}, [feedback("f", "t", kind="edit", correction="b")], "no_answer_to_correct"),
        ({}, [edited()], "no_original_artifact"),
        (
            {"response": says("assistant", "a")},
            [feedback("f", "t", kind="edit", correction=says("user", "b"))],
            "correction_not_assistant",
        ),
        (
            {"response": says("assistant", "a"), "messages": []},
            [feedback("f", "t", kind="edit", correction="b")],
            "no_prompt",
        ),
    ],
)
def test_why_nothing_is_made(fields: dict[str, Any], said: list[AnyRecord], reason: str) -> None:
    messages = fields.get("messages", ASK)
    others = {key: value for key, value in fields.items() if key != "messages"}
    assert run(interaction("t", messages, **others), *said) == Drop(reason)


def test_a_bracket_bomb_is_looked_at_only_so_often() -> None:
    subject = interaction("t", ASK, response=says("assistant", "[" * 50_000), artifact=[1])
    assert made(subject, edited(changed=[2])).signal == "artifact_as_content"


def test_both_sides_begin_with_an_assistant_message() -> None:
    subject = interaction("t", ASK, response=says("tool", json.dumps(OLD)), artifact=OLD)
    example = made(subject, edited())
    assert [side[0]["role"] for side in (example.chosen, example.rejected)] == ["assistant", "assistant"]
    assert example.signal == "artifact_as_content"


def test_the_same_call_under_another_id_corrects_nothing() -> None:
    subject = interaction("t", ASK, response=calls("search", '{"q": 1}', "call_1"))
    correction = feedback("f", "t", kind="edit", correction=calls("search", '{"q":1}', "call_2"))
    assert run(subject, correction) == Drop("unchanged")
