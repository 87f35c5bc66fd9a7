"""What models and agents give back, in every form."""

from __future__ import annotations

from typing import Any

import pytest

from tracemill.core.records import Failure, Model
from tracemill.sdk.prediction import read_prediction, usage_fields

MESSAGE = {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize("result", ["hi", MESSAGE, {"response": "hi"}, {"answer": "hi"}, {"response": MESSAGE}])
def test_an_answer_is_an_assistant_message(result: Any) -> None:
    assert read_prediction(result).fields == {"response": MESSAGE}


def test_nothing_and_something_nobody_knows() -> None:
    assert read_prediction(None).fields == {}
    assert read_prediction(7).fields == {"extra": {"prediction": 7}}


def test_a_chat_completion_as_a_mapping_or_an_object() -> None:
    completion = {
        "id": "chatcmpl-1",
        "model": "gpt-4o-2024",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "hi", "refusal": None},
                "logprobs": None,
            },
            {"index": 1, "message": {"role": "assistant", "content": "hello"}},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "system_fingerprint": "fp",
    }

    class Completion:
        def model_dump(self) -> dict[str, Any]:
            return {**completion}

    for result in ({**completion}, Completion()):
        fields = read_prediction(result).fields
        assert fields["response"] == MESSAGE
        assert (fields["response_id"], fields["finish_reason"], fields["model"]) == (
            "chatcmpl-1",
            "stop",
            Model(name="gpt-4o-2024"),
        )
        assert (fields["input_tokens"], fields["output_tokens"], fields["usage"]["total_tokens"]) == (3, 2, 5)
        assert fields["extra"]["completion"] == {"system_fingerprint": "fp"}
        assert fields["extra"]["choices"][0]["message"]["content"] == "hello"


def test_prediction_data_of_the_gepeto_collector() -> None:
    read = read_prediction(
        {
            "trajectory": [{"thought": "t", "tool_name": "send_message", "tool_args": {}, "observation": "ok"}],
            "reasoning": {"why": 1},
            "execution_time_ms": 1250.5,
            "success": False,
            "error_message": "late",
            "tools_used": ["send_message", "search"],
            "tool_call_count": 2,
            "tokens_used": 120,
            "cost_estimate": 0.01,
            "final_output": {"done": True},
        }
    )
    fields = read.fields
    assert (fields["duration_ms"], fields["success"], fields["error"]) == (1250.5, False, Failure(message="late"))
    assert (fields["tools_used"], fields["tool_call_count"]) == (["send_message", "search"], 2)
    assert (fields["usage"], fields["cost_usd"]) == ({"total_tokens": 120}, 0.01)
    assert fields["extra"] == {"prediction": {"final_output": {"done": True}}}
    assert len(read.steps) == 1


def test_an_output_of_any_name_is_the_answer_of_a_trajectory() -> None:
    read = read_prediction({"trajectory": {"thought_0": "t", "tool_name_0": "finish"}, "summary": "short", "score": 3})
    assert read.fields["response"] == {"role": "assistant", "content": "short"}
    assert read.fields["extra"] == {"prediction": {"summary": "short", "score": 3}}


def test_usage_under_both_names() -> None:
    assert usage_fields({"input_tokens": 1, "output_tokens": 2, "cache": None}) == {
        "usage": {"input_tokens": 1, "output_tokens": 2},
        "input_tokens": 1,
        "output_tokens": 2,
    }
    assert usage_fields(None) == {}


def test_a_real_dspy_prediction_with_usage() -> None:
    dspy = pytest.importorskip("dspy")
    result = dspy.Prediction(reasoning="because", answer="42")
    result.set_lm_usage({"m": {"prompt_tokens": 3, "completion_tokens": 2}, "n": {"prompt_tokens": 1}})
    fields = read_prediction(result).fields
    assert fields["response"] == {"role": "assistant", "content": "42"}
    assert (fields["reasoning"], fields["input_tokens"], fields["output_tokens"]) == ("because", 4, 2)
