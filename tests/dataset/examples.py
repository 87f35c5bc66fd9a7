"""Hypothesis strategies for examples, odd values included."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.strategies import ids, json_values, messages, names, odd_text
from tracemill.core.examples import (
    ActionExample,
    Example,
    LabelledExample,
    PreferenceExample,
    RetrievalExample,
    RewardExample,
    SupervisedExample,
    TrajectoryPreference,
)

_tools = st.lists(st.dictionaries(odd_text, json_values, max_size=2), max_size=1)
_common: dict[str, Any] = {
    "id": ids,
    "sources": st.lists(ids, min_size=1, max_size=2),
    "signal": names,
    "confidence": st.floats(0, 1),
    "human_validated": st.booleans(),
    "platform": odd_text,
    "task_id": st.none() | odd_text,
    "tools": _tools,
}
_scores = st.none() | st.floats(allow_nan=False)
supervised = st.builds(SupervisedExample, **_common, messages=messages(), tail=messages())
labelled = st.builds(
    LabelledExample,
    **_common,
    prompt=messages(),
    completion=messages(),
    label=st.booleans(),
    label_source=odd_text,
    score=_scores,
    tail=messages(),
)
preferences = st.builds(
    PreferenceExample,
    **_common,
    prompt=messages(),
    chosen=messages(),
    rejected=messages(),
    chosen_score=_scores,
    pairs=st.lists(st.tuples(ids, ids), max_size=2),
    aligned_ids=st.dictionaries(odd_text, odd_text, max_size=2),
)
trajectory_preferences = st.builds(
    TrajectoryPreference,
    **_common,
    chosen=messages(),
    rejected=messages(),
    shared=st.integers(0, 3),
    rejected_tools=st.none() | _tools,
)
actions = st.builds(
    ActionExample,
    **_common,
    prompt=messages(),
    completion=messages(),
    action=st.sampled_from(["tool_request", "decision", "answer"]),
    tool=st.none() | odd_text,
    parameters=json_values,
    reasoning=st.none() | odd_text,
    goal=st.none() | odd_text,
    state=json_values,
    available_tools=st.lists(odd_text, max_size=2),
    options=st.lists(st.dictionaries(odd_text, json_values, max_size=2), max_size=2),
    outcome=st.dictionaries(odd_text, json_values, max_size=2),
    scenario=st.none() | odd_text,
    quality_score=st.none() | st.floats(0, 1),
    training_type=st.none() | names,
)
rewards = st.builds(
    RewardExample,
    **_common,
    prompt=messages(),
    completion=messages(),
    tail=messages(),
    score=st.floats(allow_nan=False, allow_infinity=False),
    score_name=odd_text,
)
retrieved = st.builds(RetrievalExample, **_common, query=odd_text, positive=odd_text, negative=st.none() | odd_text)
examples: st.SearchStrategy[Example] = (
    supervised | labelled | preferences | trajectory_preferences | actions | rewards | retrieved
)
