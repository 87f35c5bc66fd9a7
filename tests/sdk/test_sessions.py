"""A session that is handed over whole is an interaction and the end of a session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.test_collector import Harness
from tracemill.core.messages import trajectory
from tracemill.core.records import Interaction, SessionEnd
from tracemill.sdk.sessions import session_fields

DATA: dict[str, Any] = {
    "session_id": "s-7",
    "user_id": "ada",
    "conversation_data": {
        "messages": [
            {"role": "user", "content": "When does it open?", "timestamp": "2026-03-07T12:00:00Z"},
            {"role": "assistant", "content": "At nine.", "timestamp": "2026-03-07T12:00:03Z"},
        ],
        "metadata": {
            "session_id": "s-7",
            "start_time": "2026-03-07T12:00:00Z",
            "end_time": "2026-03-07T12:10:00Z",
            "locale": "en",
        },
    },
}


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_whole_session_is_an_interaction_and_an_end(collector: Harness, wrapped: bool) -> None:
    returned = collector.log_session_end(**({"session_data": DATA} if wrapped else DATA), reason="logout")
    talk, end = collector.records()
    assert isinstance(talk, Interaction)
    assert isinstance(end, SessionEnd)
    assert returned == end.id
    assert [message["content"] for message in trajectory(talk)] == ["When does it open?", "At nine."]
    assert all("timestamp" not in message for message in talk.messages)
    assert [event["timestamp"][11:19] for event in talk.extra["events"]] == ["12:00:00", "12:00:03"]
    assert talk.session_id == end.session_id == "s-7"
    assert talk.user == end.user is not None
    assert talk.time == end.start_time == datetime(2026, 3, 7, 12, tzinfo=UTC)
    assert (end.end_time, end.message_count, end.reason) == (datetime(2026, 3, 7, 12, 10, tzinfo=UTC), 2, "logout")
    assert end.extra == {"locale": "en"}


def test_what_the_call_says_goes_before_what_the_session_says(collector: Harness) -> None:
    collector.log_session_end("s-8", session_data=DATA, end_time="2026-03-07T13:00:00Z")
    talk, end = collector.records()
    assert (talk.session_id, end.session_id, end.end_time.hour) == ("s-8", "s-8", 13)


@pytest.mark.parametrize("conversation", [{"messages": []}, {"messages": "none", "metadata": 3}, {}, "gone", None])
def test_without_messages_there_is_an_end_alone(collector: Harness, conversation: Any) -> None:
    collector.log_session_end("s-9", conversation_data=conversation)
    assert isinstance(collector.one(), SessionEnd)


@given(
    st.dictionaries(
        st.sampled_from(["session_id", "user_id", "session_data", "conversation_data", "start_time", "extra", "x"]),
        st.recursive(
            st.none() | st.text(max_size=3) | st.integers(),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["messages", "metadata", "session_id", "y"]), inner, max_size=3)
            ),
            max_leaves=8,
        ),
    )
)
def test_any_data_is_read_and_left_as_it_was(data: dict[str, Any]) -> None:
    before = repr(data)
    session = session_fields(data)
    assert repr(data) == before
    assert session.interaction is None or session.interaction["events"]
