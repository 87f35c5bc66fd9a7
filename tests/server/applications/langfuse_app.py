"""An application of Langfuse's own SDK; it knows nothing but its host and keys."""

from __future__ import annotations

import os

from langfuse import get_client, observe, propagate_attributes
from langfuse.openai import openai

langfuse = get_client()
assert langfuse.auth_check()


@observe(as_type="tool")  # type: ignore[untyped-decorator]
def look_up(word: str) -> str:
    """A tool."""
    return word.upper()


@observe(name="answer", as_type="agent")  # type: ignore[untyped-decorator]
def answer(question: str) -> str:
    """An agent that uses a tool and a model."""
    with propagate_attributes(user_id="ada", session_id="session-7", tags=["blue"]):
        look_up("hello")
        client = openai.OpenAI(base_url=os.environ["MODEL_URL"] + "/v1", api_key="none")
        found = client.chat.completions.create(model="fake-model", messages=[{"role": "user", "content": question}])
        langfuse.score_current_span(name="relevance", value=0.5, comment="half")
        langfuse.score_current_trace(name="user-feedback", value=1, data_type="BOOLEAN")
        trace = langfuse.get_current_trace_id()
    langfuse.create_score(trace_id=trace, name="better", value="It is so.", data_type="CORRECTION")
    langfuse.create_score(session_id="session-7", name="tone", value="kind", data_type="CATEGORICAL")
    return str(found.choices[0].message.content)


print(answer("Say hello"))
langfuse.flush()
langfuse.shutdown()
