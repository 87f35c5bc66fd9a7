"""What counts as a request of Lightspeed's clients."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.capture.lightspeed.schemas import (
    FeedbackRequest,
    FeedbackStatusRequest,
    InterruptRequest,
    QueryRequest,
    checked,
    is_conversation_id,
    normal_conversation_id,
)

ID = "c5260aec-4d82-4370-9fdf-05cf908b3f16"


@pytest.mark.parametrize("text", [ID, ID.upper(), ID.replace("-", ""), "0123456789abcdef" * 3, "conv_" + "aF" * 24])
def test_ids_of_conversations(text: str) -> None:
    assert is_conversation_id(text)
    assert normal_conversation_id(text) == text.removeprefix("conv_")


@pytest.mark.parametrize(
    "text",
    ["", ".", "../" + ID, ID + "\n", ID[:-1], "conv_" + ID, "conv_conv_" + "a" * 48, "0x" + "a" * 46, "_" * 48, "１" * 48,
     "urn:uuid:" + ID, "{" + ID + "}", " " * 48, "a\0" * 24],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    assert not is_conversation_id(text)


@given(st.text(max_size=60))
def test_an_id_is_safe_in_a_path(text: str) -> None:
    if is_conversation_id(text):
        assert normal_conversation_id(text).replace("-", "").isalnum()


def test_scalars_are_read_as_leniently_as_by_the_service() -> None:
    assert checked({"query": "a", "no_tools": "true"}, QueryRequest).no_tools is True
    body = {"conversation_id": ID, "user_question": "q", "llm_response": "a", "sentiment": "-1"}
    assert checked(body, FeedbackRequest).sentiment == -1
    assert checked({}, FeedbackStatusRequest).status is False


def test_the_older_form_of_solr_filters_is_taken() -> None:
    assert checked({"query": "a", "solr": {"fq": ["product:x"]}}, QueryRequest).solr == {"fq": ["product:x"]}


def test_an_empty_conversation_is_a_new_one() -> None:
    assert checked({"query": "a", "conversation_id": ""}, QueryRequest).conversation is None


def test_categories_stand_once_in_their_order() -> None:
    body = {
        "conversation_id": ID,
        "user_question": "q",
        "llm_response": "a",
        "categories": ["unsafe", "other", "unsafe"],
    }
    assert checked(body, FeedbackRequest).unique_categories == ["unsafe", "other"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [(InterruptRequest, {"request_id": "x"}), (InterruptRequest, {}), (FeedbackStatusRequest, {"status": "on"})],
)
def test_other_bodies_are_checked(kind: type[Any], body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        checked(body, kind)
