"""An application of the OpenAI client: a plain call, a streamed one, one with tools, one that fails."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import openai


def converse() -> None:
    """Four calls of the model."""
    client = openai.OpenAI(base_url=os.environ["MODEL_URL"] + "/v1", api_key="none", max_retries=0)
    system = {"role": "system", "content": "Be brief."}
    messages: list[Any] = [system, {"role": "user", "content": "Say hello"}]
    client.chat.completions.create(model="fake-model", messages=messages, temperature=0.5, max_tokens=50)
    with client.chat.completions.create(
        model="fake-model", messages=messages, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for _ in stream:
            pass
    tool: Any = {
        "type": "function",
        "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {}}},
    }
    asking: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    answer = client.chat.completions.create(model="fake-model", messages=asking, tools=[tool])
    message = answer.choices[0].message
    assert message.tool_calls
    told = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
    thanks = {"role": "user", "content": "Thank you"}
    whole: list[Any] = [*asking, message.model_dump(exclude_none=True), told, thanks]
    client.chat.completions.create(model="fake-model", messages=whole, tools=[tool])
    with contextlib.suppress(openai.APIError):
        client.chat.completions.create(model="fake-model", messages=[{"role": "user", "content": "error 429"}])
