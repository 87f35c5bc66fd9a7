"""An application of LangSmith's own SDK; it knows nothing but its endpoint and key, which stand in the environment."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import openai
from langsmith import Client, traceable
from langsmith.run_helpers import get_current_run_tree
from langsmith.schemas import Attachment
from langsmith.wrappers import wrap_openai

client = Client()
TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
runs: list[str] = []


@traceable(run_type="tool", client=client)
def look_up(word: str) -> str:
    """A tool."""
    return word.upper()


@traceable(client=client)
def fail(reason: str) -> str:
    """A step that goes wrong."""
    raise ValueError(reason)


@traceable(name="answer", tags=["blue"], metadata={"thread_id": "thread-7", "user_id": "lovelace"}, client=client)
def answer(question: str) -> str:
    """A chain with a tool, a failure, and two calls of a model."""
    tree = get_current_run_tree()
    assert tree is not None
    runs.append(str(tree.id))
    look_up("hello")
    with contextlib.suppress(ValueError):
        fail("no such thing")
    model = wrap_openai(
        openai.OpenAI(base_url=os.environ["MODEL_URL"] + "/v1", api_key="none", max_retries=0),
        tracing_extra={"client": client},
    )
    asked: list[Any] = [{"role": "user", "content": question}]
    found = model.chat.completions.create(model="fake-model", temperature=0.5, messages=asked, tools=TOOLS)
    for _ in model.chat.completions.create(model="fake-model", messages=asked, stream=True):
        pass
    model.responses.create(model="fake-model", input="Say hello", instructions="Be brief.")
    time.sleep(0.6)  # the beginning is sent before the end is there
    return str(found.choices[0].message.tool_calls)


@traceable(client=client, dangerously_allow_filesystem=False)
def read(page: Attachment) -> int:
    """A run with an attachment."""
    return len(page.mime_type)


answer("What is the weather in Oslo?")
read(Attachment(mime_type="text/plain", data=b"a page"))
client.flush()
root = runs[0]
client.create_feedback(run_id=root, key="thumbs", score=True, comment="good")
client.create_feedback(
    run_id=root, trace_id=root, key="better", correction={"output": "It is raining."}, feedback_group_id=root
)
client.flush()
print(root)
