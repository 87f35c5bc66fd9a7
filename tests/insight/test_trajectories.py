"""Which interactions make one trajectory, and what its steps do."""

from __future__ import annotations

from typing import Any

from tests.dataset.support import base, calls, interaction, record_id, result, says
from tracemill.core.records import Action, Interaction, Step
from tracemill.insight.trajectories import Trajectory, TrajectoryStream

SYSTEM, QUESTION = says("system", "Help."), says("user", "Where is it?")
LOOK, FOUND = calls("look", '{"place": "shelf", "deep": true}', "1"), result("1", "found", "look")
ANSWER, MORE, DONE = says("assistant", "On the shelf."), says("user", "Thanks"), says("assistant", "Welcome.")


def run(*records: Interaction | Step, room: int = 100) -> list[Trajectory]:
    closed: list[Trajectory] = []
    stream = TrajectoryStream(closed.append, room)
    for record in records:
        if isinstance(record, Interaction):
            stream.interaction(record)
        else:
            stream.step(record)
    stream.close()
    return closed


def tools(trajectory: Trajectory) -> list[str]:
    return [call.tool for call in trajectory.calls]


def turn(name: str, messages: list[dict[str, Any]], response: dict[str, Any] | None, **fields: Any) -> Interaction:
    return interaction(name, messages, response=response, **{"conversation_id": "c", **fields})


def test_a_later_call_that_repeats_the_history_continues_it() -> None:
    [found] = run(
        turn("1", [SYSTEM, QUESTION], LOOK, success=None),
        turn("2", [SYSTEM, QUESTION, LOOK, FOUND], ANSWER, success=False),
        turn("3", [SYSTEM, QUESTION, LOOK, FOUND, ANSWER, MORE], DONE, success=True),
    )
    assert tools(found) == ["look"]
    assert found.calls[0].keys == ("place", "deep")
    assert (found.length, found.acted, found.reasoned, found.success) == (3, 1, 0, True)


def test_another_answer_to_the_same_question_is_another_trajectory() -> None:
    found = run(turn("1", [QUESTION], ANSWER), turn("2", [QUESTION], DONE), turn("3", [QUESTION, DONE, MORE], LOOK))
    assert [each.length for each in found] == [1, 2]


def test_new_messages_are_those_no_earlier_call_had() -> None:
    stream = TrajectoryStream(lambda _: None)
    assert stream.interaction(turn("1", [SYSTEM, QUESTION], ANSWER)) == [SYSTEM, QUESTION, ANSWER]
    assert stream.interaction(turn("2", [SYSTEM, QUESTION], DONE)) == [DONE]
    assert stream.interaction(turn("3", [SYSTEM, QUESTION, DONE, MORE], LOOK)) == [MORE, LOOK]
    assert stream.interaction(turn("4", [SYSTEM, QUESTION], ANSWER, conversation_id="d")) == [SYSTEM, QUESTION, ANSWER]


def test_steps_take_the_place_of_messages() -> None:
    steps = [
        Step(
            **base(f"step {index}", index),
            interaction_id=record_id("1"),
            index=index,
            reasoning="because" if index else None,
            actions=[Action(tool=tool, parameters={"a": 1}, success=index == 0, duration_ms=10.0)] if tool else [],
        )
        for index, tool in enumerate(["first", "second", None])
    ]
    [found] = run(steps[1], turn("1", [QUESTION, LOOK, FOUND], ANSWER, success=True), steps[0], steps[2])
    assert (tools(found), found.from_steps, found.success) == (["first", "second"], True, True)
    assert (found.length, found.acted, found.reasoned, found.both) == (3, 2, 2, 1)
    assert [call.success for call in found.calls] == [True, False]


def test_a_turn_after_one_with_steps_counts_only_what_is_new() -> None:
    step = Step(**base("s"), interaction_id=record_id("1"), actions=[Action(tool="look")])
    later = turn("2", [QUESTION, LOOK, FOUND, ANSWER, MORE], calls("write", "{}", "2"))
    found = run(turn("1", [QUESTION, LOOK, FOUND], ANSWER), step, later)
    assert [tools(each) for each in found] == [["look"], ["write"]]


def test_thoughts_beside_calls_and_reasoning_fields_are_reasoning() -> None:
    thoughtful = {**LOOK, "content": "I should look."}
    [found] = run(turn("1", [QUESTION, thoughtful, FOUND], {**ANSWER, "reasoning_content": "hm"}))
    assert (found.length, found.acted, found.reasoned, found.both) == (2, 1, 2, 1)


def test_tools_an_interaction_says_it_used_count_where_no_message_calls_one() -> None:
    [found] = run(turn("1", [QUESTION], ANSWER, tools_used=["a", "b"]))
    assert tools(found) == ["a", "b"]
    [found] = run(turn("1", [QUESTION, LOOK, FOUND], ANSWER, tools_used=["a", "b"]))
    assert tools(found) == ["look"]


def test_memory_is_bounded_and_nothing_is_lost_by_it() -> None:
    found = run(*(turn(str(number), [QUESTION], ANSWER, conversation_id=str(number)) for number in range(50)), room=3)
    assert len(found) == 50


def test_a_loop_is_cut() -> None:
    long = [
        message for index in range(3000) for message in (calls("again", "{}", str(index)), result(str(index), "no"))
    ]
    [found] = run(turn("1", [QUESTION, *long], ANSWER))
    assert len(found.calls) == 2000
    assert found.length == 3001


def test_platforms_are_apart_though_they_share_a_conversation_id() -> None:
    found = run(turn("1", [QUESTION], ANSWER, platform="a"), turn("2", [QUESTION, ANSWER, MORE], DONE, platform="b"))
    assert [each.length for each in found] == [1, 2]
