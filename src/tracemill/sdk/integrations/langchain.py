"""LangChain's callbacks (tested with langchain-core 1.7).

chain.invoke(question, config={"callbacks": [TracemillCallbackHandler(get_data_collector())]})
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage, convert_to_openai_messages

from tracemill.sdk.collector import Collector
from tracemill.sdk.integrations.recording import plain
from tracemill.sdk.integrations.runs import Runs

_CONVERSATION = ("conversation_id", "thread_id", "session_id")
_FINISH = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length"}


class TracemillCallbackHandler(BaseCallbackHandler):
    """Records runs: the outermost as an Interaction, model calls inside it too, tools, chains and retrievers as Steps.

    ``last_interaction_id`` is the id of the newest outermost run. ``metadata`` of a run names its conversation
    (``conversation_id``, ``thread_id`` or ``session_id``) and ``user_id``.
    """

    run_inline = True  # in the caller's thread, so that runs begin in their order

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._runs = Runs(collector)

    @property
    def last_interaction_id(self) -> str | None:
        """The id of the newest outermost run."""
        return self._runs.last_interaction_id

    def _try(self, action: Any) -> None:
        self._collector.attempt(action, None)

    def on_chat_model_start(
        self,
        serialized: Any,
        messages: list[list[BaseMessage]],
        *,
        run_id: Any,
        parent_run_id: Any = None,
        **kwargs: Any,
    ) -> None:
        """A chat model is asked."""
        asked = messages[0] if messages else []
        self._try(lambda: self._begin(serialized, run_id, parent_run_id, "llm", kwargs, {"messages": _chat(asked)}))

    def on_llm_start(
        self, serialized: Any, prompts: list[str], *, run_id: Any, parent_run_id: Any = None, **kwargs: Any
    ) -> None:
        """A text model is asked."""
        asked = [{"role": "user", "content": prompt} for prompt in prompts[:1]]
        self._try(lambda: self._begin(serialized, run_id, parent_run_id, "llm", kwargs, {"messages": asked}))

    def on_llm_end(self, response: Any, *, run_id: Any, **kwargs: Any) -> None:
        """A model answered."""
        self._try(lambda: self._runs.end(run_id, **_answer(response)))

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **kwargs: Any
    ) -> None:
        """A chain or graph begins."""
        given: dict[str, Any] = (
            {"inputs": _plain(inputs)} if parent_run_id is not None else {"messages": _found(inputs)}
        )
        if parent_run_id is None:
            given["extra"] = {"inputs": _plain(inputs)}
        self._try(lambda: self._begin(serialized, run_id, parent_run_id, "chain", kwargs, given))

    def on_chain_end(self, outputs: Any, *, run_id: Any, **kwargs: Any) -> None:
        """A chain or graph ended."""

        def end() -> None:
            run = self._runs.get(run_id)
            if run is None or run.parent is not None:
                self._runs.end(run_id, outputs=_plain(outputs))
                return
            self._runs.end(run_id, **_outcome(outputs, run.fields.get("messages") or []))

        self._try(end)

    def on_tool_start(
        self,
        serialized: Any,
        input_str: str,
        *,
        run_id: Any,
        parent_run_id: Any = None,
        inputs: Any = None,
        **kwargs: Any,
    ) -> None:
        """A tool is called."""
        given = {"inputs": _plain(inputs) if inputs is not None else input_str}
        self._try(lambda: self._begin(serialized, run_id, parent_run_id, "tool", kwargs, given))

    def on_tool_end(self, output: Any, *, run_id: Any, **kwargs: Any) -> None:
        """A tool answered."""
        content, call_id = getattr(output, "content", output), getattr(output, "tool_call_id", None)
        self._try(lambda: self._runs.end(run_id, outputs=_plain(content), call_id=call_id))

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: Any, parent_run_id: Any = None, **kwargs: Any
    ) -> None:
        """Something is looked up."""
        self._try(lambda: self._begin(serialized, run_id, parent_run_id, "retriever", kwargs, {"inputs": query}))

    def on_retriever_end(self, documents: Any, *, run_id: Any, **kwargs: Any) -> None:
        """Something was found."""
        self._try(lambda: self._runs.end(run_id, outputs=_plain(list(documents))))

    def on_llm_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        """A model failed."""
        self._try(lambda: self._runs.end(run_id, error))

    def on_chain_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        """A chain failed."""
        self._try(lambda: self._runs.end(run_id, error))

    def on_tool_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        """A tool failed."""
        self._try(lambda: self._runs.end(run_id, error))

    def on_retriever_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        """A look-up failed."""
        self._try(lambda: self._runs.end(run_id, error))

    def _begin(
        self, serialized: Any, run_id: Any, parent: Any, kind: str, about: dict[str, Any], given: dict[str, Any]
    ) -> None:
        metadata = about.get("metadata") or {}
        parameters = about.get("invocation_params") or {}
        name = about.get("name") or (serialized or {}).get("name")
        if kind == "llm":
            model = metadata.get("ls_model_name") or parameters.get("model") or parameters.get("model_name")
            left = {
                key: value for key, value in parameters.items() if key not in ("tools", "functions", "_type", "model")
            }
            given["tools"] = [tool for tool in parameters.get("tools") or () if isinstance(tool, dict)] or None
            given["model_requested"] = {"provider": metadata.get("ls_provider"), "name": model, "configuration": left}
        if kind == "llm" or parent is None:
            given["conversation_id"] = next((metadata[key] for key in _CONVERSATION if metadata.get(key)), None)
            given["user_id"] = metadata.get("user_id")
            given["tags"] = list(about.get("tags") or ()) or None
        self._runs.begin(run_id, parent, kind, name, **given)


def _chat(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    return list(convert_to_openai_messages(list(messages)))


def _found(value: Any) -> list[dict[str, Any]]:
    """The messages in what a chain was given or gave; text is a question."""
    messages = value.get("messages") if isinstance(value, dict) else value
    if isinstance(messages, BaseMessage):
        messages = [messages]
    if isinstance(messages, (list, tuple)) and messages and all(isinstance(one, BaseMessage) for one in messages):
        return _chat(messages)
    text = value if isinstance(value, str) else None
    if isinstance(value, dict):
        text = next((value[key] for key in ("input", "question", "query") if isinstance(value.get(key), str)), None)
    return [{"role": "user", "content": text}] if text else []


def _outcome(outputs: Any, asked: list[dict[str, Any]]) -> dict[str, Any]:
    """What the outermost run came to: its last answer, and the conversation before it where it gave the whole."""
    found = _found(outputs)
    extra = {"extra": {"outputs": _plain(outputs)}}
    if isinstance(outputs, str):
        return {"response": {"role": "assistant", "content": outputs}}
    if found and found[-1].get("role") == "assistant":
        whole = found[:-1]
        return {"response": found[-1], **({"messages": whole} if len(whole) >= len(asked) else {}), **extra}
    return extra


def _answer(response: Any) -> dict[str, Any]:
    generations = response.generations[0] if response.generations else []
    if not generations:
        return {}
    first = generations[0]
    message = getattr(first, "message", None)
    about = getattr(message, "response_metadata", None) or first.generation_info or {}
    usage = getattr(message, "usage_metadata", None) or {}
    reason = about.get("finish_reason") or about.get("stop_reason")
    answer = _chat([message])[0] if message is not None else {"role": "assistant", "content": first.text}
    model = about.get("model_name") or about.get("model")
    return {
        "response": answer,
        "finish_reason": _FINISH.get(str(reason), reason),
        "usage": dict(usage) or None,
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "model": {"name": model} if model else None,
        "response_id": about.get("id") or getattr(message, "id", None),
    }


def _plain(value: Any) -> Any:
    """Messages, documents and lists of them as plain values; anything else as it is."""
    if isinstance(value, BaseMessage):
        return _chat([value])[0]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return plain(value)
