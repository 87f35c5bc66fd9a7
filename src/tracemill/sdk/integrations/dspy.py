"""DSPy's callbacks (tested with dspy 3.4).

dspy.configure(callbacks=[TracemillCallback(get_data_collector())])
"""

from __future__ import annotations

from typing import Any

from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from tracemill.sdk.collector import Collector
from tracemill.sdk.integrations.recording import plain
from tracemill.sdk.integrations.runs import Runs

_QUESTIONS = ("question", "query", "input", "text", "prompt", "request")
_ANSWERS = ("answer", "response", "output", "result")
_NOT_SETTINGS = ("api_key", "api_base", "base_url", "messages", "tools")


class TracemillCallback(BaseCallback):  # type: ignore[misc]
    """Records calls of modules: the outermost as an Interaction, calls of language models inside it too, tools and inner
    modules as Steps. The trajectory of a ReAct module is its ``reasoning``. ``last_interaction_id`` is that of the newest
    outermost call.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._runs = Runs(collector)

    @property
    def last_interaction_id(self) -> str | None:
        """The id of the newest outermost call."""
        return self._runs.last_interaction_id

    def _try(self, action: Any) -> None:
        self._collector.attempt(action, None)

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """A module is called."""
        parent = ACTIVE_CALL_ID.get()

        def begin() -> None:
            given = _arguments(inputs)
            fields: dict[str, Any] = {"inputs": given}
            if parent is None:
                text = next((given[name] for name in _QUESTIONS if isinstance(given.get(name), str)), None)
                fields = {"messages": [{"role": "user", "content": text}] if text else [], "extra": {"inputs": given}}
            kind = "agent" if type(instance).__name__ == "ReAct" else "module"
            self._runs.begin(call_id, parent, kind, type(instance).__name__, **fields)

        self._try(begin)

    def on_module_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        """A module answered, or failed."""

        def end() -> None:
            run = self._runs.get(call_id)
            found = _fields_of(outputs)
            if run is not None and run.parent is not None:
                self._runs.end(call_id, exception, outputs=found or None)
                return
            text = next((found[name] for name in _ANSWERS if isinstance(found.get(name), str)), None)
            if text is None:
                text = next((value for value in found.values() if isinstance(value, str)), None)
            fields: dict[str, Any] = {"extra": {"outputs": found}}
            if text is not None:
                fields["response"] = {"role": "assistant", "content": text}
            if isinstance(found.get("trajectory"), dict):  # what a ReAct module thought and saw
                fields["reasoning"] = {name: found[name] for name in ("trajectory", "reasoning") if name in found}
            self._runs.end(call_id, exception, **fields)

        self._try(end)

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """A language model is asked."""
        parent = ACTIVE_CALL_ID.get()

        def begin() -> None:
            given = _arguments(inputs)
            messages = given.get("messages")
            if not messages and given.get("prompt"):
                messages = [{"role": "user", "content": given["prompt"]}]
            settings = {
                **(getattr(instance, "kwargs", None) or {}),
                **{k: v for k, v in given.items() if k != "prompt"},
            }
            name = getattr(instance, "model", None)
            configuration = {key: plain(value) for key, value in settings.items() if key not in _NOT_SETTINGS}
            model = {"name": name, "configuration": configuration}
            self._runs.begin(
                call_id, parent, "llm", str(name), messages=messages or [], model_requested=model, model=model
            )

        self._try(begin)

    def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        """A language model answered, or failed."""

        def end() -> None:
            first = outputs[0] if isinstance(outputs, list) and outputs else outputs
            fields: dict[str, Any] = {}
            if isinstance(first, dict):
                fields["response"] = {
                    "role": "assistant",
                    "content": first.get("text"),
                    **({"tool_calls": plain_calls(first["tool_calls"])} if first.get("tool_calls") else {}),
                }
            elif first is not None:
                fields["response"] = {"role": "assistant", "content": str(first)}
            self._runs.end(call_id, exception, **fields)

        self._try(end)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """A tool is called."""
        parent = ACTIVE_CALL_ID.get()
        name = getattr(instance, "name", None) or type(instance).__name__
        self._try(lambda: self._runs.begin(call_id, parent, "tool", str(name), inputs=_arguments(inputs)))

    def on_tool_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        """A tool answered, or failed."""
        self._try(lambda: self._runs.end(call_id, exception, outputs=plain(outputs)))


def plain_calls(calls: Any) -> list[Any]:
    """Tool calls as plain values."""
    return [plain(call) for call in calls]


def _arguments(inputs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name: DSPy wraps keyword arguments once more."""
    inner = inputs.get("kwargs")
    return {
        **{k: v for k, v in inputs.items() if k not in ("kwargs", "args")},
        **(inner if isinstance(inner, dict) else {}),
    }


def _fields_of(outputs: Any) -> dict[str, Any]:
    """The fields of a prediction; anything else under ``output``."""
    if outputs is None:
        return {}
    if hasattr(outputs, "toDict"):
        return dict(outputs.toDict())
    return {"output": plain(outputs)}
