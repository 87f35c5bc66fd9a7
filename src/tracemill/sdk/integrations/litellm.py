"""LiteLLM's callback (tested with litellm 1.106).

litellm.callbacks = [TracemillLogger(get_data_collector())]
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from tracemill.core.answers import chat_answer
from tracemill.core.ids import new_id
from tracemill.sdk.collector import Collector
from tracemill.sdk.integrations.recording import answered, note_interaction, plain

_REMEMBERED = 10_000
_NOT_SETTINGS = ("tools", "functions", "messages", "user", "metadata")


class TracemillLogger(CustomLogger):
    """Records every call once, whichever of LiteLLM's twins reports it. ``last_interaction_id`` is the newest one's."""

    def __init__(self, collector: Collector) -> None:
        super().__init__()
        self.last_interaction_id: str | None = None
        self._collector = collector
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call was answered."""
        self._record(kwargs, response_obj, start_time, end_time)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call failed."""
        self._record(kwargs, response_obj, start_time, end_time)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """An asynchronous call was answered."""
        self._record(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """An asynchronous call failed."""
        self._record(kwargs, response_obj, start_time, end_time)

    def _record(self, kwargs: Any, response: Any, start: Any, end: Any) -> None:
        self._collector.attempt(lambda: self._log(kwargs, response, start, end), None)

    def _log(self, kwargs: dict[str, Any], response: Any, start: Any, end: Any) -> None:
        call_id = str(kwargs.get("litellm_call_id") or new_id())
        with self._lock:
            if call_id in self._seen:
                return
            self._seen[call_id] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        told = kwargs["standard_logging_object"] if isinstance(kwargs.get("standard_logging_object"), dict) else {}
        parameters = dict(kwargs.get("optional_params") or {})
        metadata = (kwargs.get("litellm_params") or {}).get("metadata") or {}
        provider = kwargs.get("custom_llm_provider") or told.get("custom_llm_provider")
        configuration = {key: value for key, value in parameters.items() if key not in _NOT_SETTINGS}
        failure = kwargs.get("exception")
        fields = {} if failure is not None else answered(chat_answer(plain(response) or {}), str(provider), {})
        fields |= {
            "id": new_id(),
            "kind": "chat",
            "time": _aware(start),
            "duration_ms": (end - start).total_seconds() * 1000
            if isinstance(start, datetime) and isinstance(end, datetime)
            else None,
            "messages": kwargs.get("messages") or [],
            "tools": parameters.get("tools"),
            "model_requested": {"provider": provider, "name": kwargs.get("model"), "configuration": configuration},
            "user_id": kwargs.get("user") or told.get("end_user") or None,
            "session_id": metadata.get("session_id"),
            "conversation_id": metadata.get("conversation_id") or metadata.get("session_id"),
            "trace_id": metadata.get("trace_id"),
            "cost_usd": kwargs.get("response_cost"),
            "success": failure is None,
            "error": failure,
            "completion_status": "successful" if failure is None else "failed",
            "tags": [str(tag) for tag in metadata.get("tags") or ()],
            "extra": {**fields.get("extra", {}), "litellm_call_id": call_id, "call_type": kwargs.get("call_type")},
        }
        self.last_interaction_id = self._collector.log_interaction(
            **{name: value for name, value in fields.items() if value is not None}
        )
        note_interaction(self.last_interaction_id)


def _aware(moment: Any) -> Any:
    """LiteLLM's times are the machine's own."""
    return moment.astimezone(UTC) if isinstance(moment, datetime) else None


def _milliseconds(start: Any, end: Any) -> float | None:
    both = isinstance(start, datetime) and isinstance(end, datetime)
    return (end - start).total_seconds() * 1000 if both else None
