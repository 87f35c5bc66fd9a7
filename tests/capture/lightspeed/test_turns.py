"""Which turn a feedback is about, what the model is given of a conversation, and how answers are framed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from tracemill.capture.lightspeed.frames import Frames, tool_calls
from tracemill.capture.lightspeed.prompt import messages_of
from tracemill.capture.lightspeed.schemas import FeedbackRequest, QueryRequest
from tracemill.capture.lightspeed.turns import INTERRUPTED, REFUSED, Answer, answer_shown, kind_of, turn_meant
from tracemill.core.ids import new_id, now
from tracemill.core.records import CompletionStatus, Interaction

START = now()


def turn(
    number: int, asked: str, said: str | None, *, status: CompletionStatus = "successful", **fields: Any
) -> Interaction:
    return Interaction(
        id=new_id(),
        time=START + timedelta(seconds=number),
        schema_version=1,
        producer="lightspeed",
        sequence=0,
        kind="query",
        conversation_id="c",
        turn=number,
        messages=[{"role": "system", "content": "s"}, {"role": "user", "content": asked}],
        response=None if said is None else {"role": "assistant", "content": said},
        completion_status=status,
        **fields,
    )


def opinion(question: str, answer: str) -> FeedbackRequest:
    return FeedbackRequest(conversation_id="a" * 48, user_question=question, llm_response=answer, sentiment=1)


def test_the_latest_turn_with_both_texts_is_meant() -> None:
    turns = [turn(1, "q", "a"), turn(2, "q", "b"), turn(3, "q", "a"), turn(4, "p", "a")]
    assert turn_meant(opinion("q", "a"), turns) is turns[2]
    assert turn_meant(opinion(" q\n", "b "), turns) is turns[1]
    assert turn_meant(opinion("q", "c"), turns) is None
    assert turn_meant(opinion("r", "a"), turns) is None


def test_a_question_is_known_without_its_attachments() -> None:
    seen = turn(1, "q\n\n[Attachment: log]\nlines", "a", extra={"query": "q"})
    assert turn_meant(opinion("q", "a"), [seen]) is seen


def test_an_interrupted_or_refused_answer_is_known_as_it_was_shown() -> None:
    stopped = turn(1, "q", "half", status="interrupted")
    assert answer_shown(stopped) == "half" + INTERRUPTED
    assert turn_meant(opinion("q", "half" + INTERRUPTED), [stopped]) is stopped
    assert turn_meant(opinion("q", "half"), [stopped]) is stopped
    filtered = turn(2, "q", None, status="failed", finish_reason="content_filter")
    assert turn_meant(opinion("q", REFUSED), [filtered]) is filtered
    refused = turn(3, "q", None)
    refusing = Answer(refusal="I would rather not.")
    assert refusing.shown == "I would rather not."
    assert answer_shown(refused) == ""


def test_the_model_is_given_answered_turns_without_calls_nobody_ran() -> None:
    called = turn(3, "three", "calling")
    assert called.response is not None
    called.response["tool_calls"] = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    history = [turn(1, "one", "1"), turn(2, "two", None, status="failed"), called]
    assert messages_of(QueryRequest(query="four"), history) == [
        {"role": "system", "content": "You are a helpful assistant"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": "calling"},
        {"role": "user", "content": "four"},
    ]


def test_kinds_of_feedback() -> None:
    assert kind_of(1, "good", None) == "thumbs_up"
    assert kind_of(-1, None, ["unsafe"]) == "thumbs_down"
    assert kind_of(None, "meh", None) == "comment"
    assert kind_of(None, "meh", ["unsafe"]) == "report"
    assert kind_of(None, None, ["unsafe"]) == "report"


def test_frames_are_the_services() -> None:
    frames = Frames(as_text=False)
    assert frames.token("a") == b'data: {"event": "token", "data": {"id": 0, "token": "a"}}\n\n'
    assert len(frames.token("a\u2028b\x85c\nd").splitlines()) == 2
    whole = json.loads(frames.end(Answer(usage={"prompt_tokens": 3, "completion_tokens": True}))[6:])
    assert whole == {
        "event": "end",
        "data": {"referenced_documents": [], "truncated": None, "input_tokens": 3, "output_tokens": 0},
        "available_quotas": {},
    }
    text = Frames(as_text=True)
    assert [text.start("c", "r"), text.token("a"), text.turn_complete("a"), text.end(Answer()), text.interrupted("r")] == [
        b"", b"a", b"", b"", b"",
    ]  # fmt: skip


def test_strange_calls_of_tools_have_the_shape_all_the_same() -> None:
    strange: list[Any] = [{}, {"id": None, "function": None}, {"function": {"name": 3, "arguments": "[1]"}}]
    assert tool_calls(Answer(tool_calls=strange)) == [
        {"id": "", "name": "", "args": {}, "type": "tool_call"},
        {"id": "", "name": "", "args": {}, "type": "tool_call"},
        {"id": "", "name": "3", "args": {"arguments": [1]}, "type": "tool_call"},
    ]
