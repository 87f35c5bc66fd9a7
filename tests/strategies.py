"""Hypothesis strategies for records: everything a producer may send, odd values included."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from tracemill.core.ids import derived_id
from tracemill.core.records import (
    SCHEMA_VERSION,
    Action,
    AnyRecord,
    Channel,
    Consent,
    Decision,
    Difference,
    Experiment,
    Failure,
    Feedback,
    Interaction,
    Model,
    Option,
    Outcome,
    SessionEnd,
    Step,
    User,
    Validation,
)

odd_text = st.text(st.characters(exclude_categories=()), max_size=20)
"""Any text, lone surrogates and NUL included."""
words = st.text("abcdefgh XYZ-é世", max_size=30)
names = st.text("abcdefgh-_/.~", min_size=1, max_size=12)
times = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | odd_text
    | st.just("\x00tm:int:ff")
)
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda child: st.lists(child, max_size=3) | st.dictionaries(odd_text, child, max_size=3),
    max_leaves=6,
)
ids = st.integers(0, 2**48).map(lambda number: derived_id("test", number))
optional_ids = st.none() | ids
sizes = st.none() | st.integers(0, 10**9)
numbers = st.none() | st.floats(0, 1e9)
failures = st.builds(Failure, type=st.none() | words, message=words, detail=json_values)
users = st.builds(User, pseudonym=names, key_id=names, raw_id=st.none() | odd_text)
models = st.builds(
    Model,
    provider=st.none() | names,
    name=st.none() | names | odd_text,
    version=st.none() | names,
    configuration=st.dictionaries(names, json_values, max_size=2),
)


@st.composite
def messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A conversation with tool calls, reasoning, parts and fields nobody knows."""
    turns: list[dict[str, Any]] = []
    if draw(st.booleans()):
        turns.append({"role": "system", "content": draw(words) * draw(st.sampled_from([1, 40]))})
    for index in range(draw(st.integers(0, 4))):
        turns.append({"role": "user", "content": draw(words | st.just([{"type": "text", "text": "a part"}]))})
        if draw(st.booleans()):
            call = {
                "id": f"call_{index}",
                "type": "function",
                "function": {"name": draw(names), "arguments": draw(words)},
            }
            turns.append({"role": "assistant", "content": None, "tool_calls": [call]})
            turns.append({"role": "tool", "tool_call_id": f"call_{index}", "content": draw(odd_text)})
        turns.append({"role": "assistant", "content": draw(words), "extra": draw(json_values)})
    return turns


def _base(sequence: st.SearchStrategy[int] | None = None) -> dict[str, st.SearchStrategy[Any]]:
    return {
        "id": ids,
        "time": times,
        "schema_version": st.just(SCHEMA_VERSION),
        "producer": names,
        "sequence": sequence or st.integers(0, 2**40),
        "extra": st.dictionaries(odd_text, json_values, max_size=2),
    }


interactions = st.builds(
    Interaction,
    **_base(),
    platform=st.sampled_from(["default", "support", "workflow"]) | odd_text,
    kind=st.sampled_from(["chat", "query", "workflow", "agent"]),
    session_id=st.none() | names | odd_text,
    conversation_id=st.none() | names,
    turn=st.none() | st.integers(0, 100),
    parent_id=optional_ids,
    user=st.none() | users,
    channel=st.none()
    | st.builds(Channel, id=st.none() | names | st.integers(0, 2**60), contains_images=st.none() | st.booleans()),
    model_requested=st.none() | models,
    model=st.none() | models,
    messages=messages(),
    tools=st.just([]) | st.just([{"type": "function", "function": {"name": "search", "parameters": {"x": "y" * 400}}}]),
    response=st.none() | words.map(lambda text: {"role": "assistant", "content": text}),
    artifact=json_values,
    success=st.none() | st.booleans(),
    error=st.none() | failures,
    tools_used=st.lists(names, max_size=2),
    tool_call_count=sizes,
    duration_ms=numbers,
    input_tokens=sizes,
    cost_usd=numbers,
    retrieved_chunks=st.lists(json_values, max_size=2),
    experiment=st.none() | st.builds(Experiment, name=names, arm=names, propensity=st.none() | st.floats(0, 1)),
    tags=st.lists(words, max_size=2),
)
actions = st.builds(
    Action,
    tool=st.none() | names,
    parameters=json_values,
    success=st.none() | st.booleans(),
    duration_ms=numbers,
)
steps = st.builds(
    Step,
    **_base(),
    interaction_id=optional_ids,
    index=st.integers(0, 50),
    actions=st.lists(actions, max_size=3),
    inputs=json_values,
)
decisions = st.builds(
    Decision,
    **_base(),
    interaction_id=optional_ids,
    options=st.lists(st.builds(Option, name=names, pros=st.lists(words, max_size=2)), max_size=2),
    choice=st.none() | names,
    confidence=st.none() | st.floats(0, 1),
    outcome=st.none() | st.builds(Outcome, success=st.none() | st.booleans()),
)
validations = st.builds(
    Validation,
    **_base(),
    interaction_id=optional_ids,
    passed=st.none() | st.booleans(),
    score=st.none() | st.floats(0, 100),
    original=json_values,
    difference=st.none() | st.builds(Difference, added=st.dictionaries(words, json_values, max_size=2)),
)
feedback = st.builds(
    Feedback,
    **_base(),
    kind=st.sampled_from(["thumbs_up", "thumbs_down", "rating", "edit", "report", "comment", "score"]),
    interaction_id=optional_ids,
    rating=st.none() | st.integers(1, 5),
    score=st.none() | st.floats(-1, 1),
    comment=st.none() | odd_text,
    correction=json_values,
)
session_ends = st.builds(SessionEnd, **_base(), session_id=names, start_time=st.none() | times, message_count=sizes)
consents = st.builds(
    Consent,
    **_base(),
    user=users,
    purpose=st.sampled_from(["store", "evaluate", "train", "share"]),
    granted=st.booleans(),
)
records: st.SearchStrategy[AnyRecord] = (
    interactions | steps | decisions | validations | feedback | session_ends | consents
)
