"""What an application hands over fits the record or is kept under extra: nothing is lost, nothing is refused later."""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tracemill.core import codec
from tracemill.core.ids import derived_id, new_id, now
from tracemill.core.records import RECORD_TYPES, AnyRecord, Channel, Feedback, Interaction, Validation
from tracemill.sdk.fit import fit, fit_part

IDENTITY = derived_id("test")


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("record_type", "name", "value", "kept"),
    [
        (Interaction, "turn", "3", 3),
        (Interaction, "turn", 3.0, 3),
        (Interaction, "session_id", 17, "17"),
        (Interaction, "session_id", UUID(int=5), str(UUID(int=5))),
        (Interaction, "platform", Colour.RED, "red"),
        (Interaction, "duration_ms", "12.5", 12.5),
        (Interaction, "success", 1, True),
        (Interaction, "success", "no", False),
        (Interaction, "kind", "Agent", "agent"),
        (Interaction, "execution_mode", "OPTIMIZATION", "optimisation"),
        (Interaction, "completion_status", "success", "successful"),
        (Interaction, "tags", ("a", "b"), ["a", "b"]),
        (Interaction, "tools_used", "search", ["search"]),
        (Interaction, "time", "2024-01-15T10:30:00Z", datetime(2024, 1, 15, 10, 30, tzinfo=UTC)),
        (Interaction, "time", datetime(2024, 1, 15, 12, tzinfo=timezone(timedelta(hours=2))), None),
        (Interaction, "parent_id", IDENTITY, IDENTITY),
        (Interaction, "channel", {"id": 5}, Channel(id=5)),
        (Feedback, "rating", 5, 5),
        (Validation, "score", 100, 100),
    ],
)
def test_what_can_be_a_fields_value_becomes_one(record_type: type[AnyRecord], name: str, value: Any, kept: Any) -> None:
    fields = fit(record_type, {name: value})
    assert "extra" not in fields
    assert fields[name] == (kept if kept is not None else datetime(2024, 1, 15, 10, tzinfo=UTC))


@pytest.mark.parametrize(
    ("record_type", "name", "value"),
    [
        (Interaction, "turn", "three"),
        (Interaction, "turn", True),
        (Interaction, "turn", 2.5),
        (Interaction, "input_tokens", -1),
        (Interaction, "session_id", ["a"]),
        (Interaction, "parent_id", "not-an-id"),
        (Interaction, "kind", "opera"),
        (Interaction, "success", "perhaps"),
        (Interaction, "messages", "hello"),
        (Interaction, "tags", [object()]),
        (Interaction, "channel", {"nobody": 1}),
        (Interaction, "duration_ms", [1]),
        (Feedback, "rating", 6),
        (Feedback, "rating", 4.5),
        (Validation, "score", 101),
        (Validation, "score", float("nan")),
        (Interaction, "mood", "calm"),
    ],
)
def test_what_cannot_is_kept_under_extra(record_type: type[AnyRecord], name: str, value: Any) -> None:
    assert fit(record_type, {name: value, "extra": {"other": 1}}) == {"extra": {"other": 1, name: value}}


def test_none_is_not_given_and_a_part_gives_back_what_it_has_no_place_for() -> None:
    assert fit(Interaction, {"intent": None, "extra": None}) == {}
    assert fit_part(Channel, {"id": 5, "user_count": "x", "mood": 1}) == ({"id": 5}, {"user_count": "x", "mood": 1})


@given(
    st.sampled_from(sorted(RECORD_TYPES)),
    st.dictionaries(
        st.sampled_from(sorted({name for kind in RECORD_TYPES.values() for name in kind.__struct_fields__} - {"id"})),
        strategies.json_values | st.tuples(strategies.scalars) | strategies.times,
        max_size=6,
    ),
)
def test_every_record_made_of_any_values_can_be_decoded_and_has_them_all(
    tag: str, given_fields: dict[str, Any]
) -> None:
    record_type = RECORD_TYPES[tag]
    required: dict[str, dict[str, Any]] = {
        "feedback": {"kind": "comment"},
        "session_end": {"session_id": "s"},
        "consent": {
            "user": {"pseudonym": "p", "key_id": "k"},
            "purpose": "train",
            "granted": True,
        },
    }
    base = {"id": new_id(), "time": now(), "schema_version": 1, "producer": "p", "sequence": 0}
    fitted = fit(record_type, given_fields)
    record = record_type(**{**base, **fit(record_type, required.get(tag, {})), **fitted})
    assert codec.decode(codec.encode(record)).id == base["id"], "no field was refused"
    lost = {
        name
        for name, value in given_fields.items()
        if value is not None and name != "extra" and name not in fitted and name not in fitted.get("extra", {})
    }
    assert lost == set()
