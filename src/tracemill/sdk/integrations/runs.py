"""Trees of runs as frameworks report them: a beginning and an end for each, told apart by the framework's ids.

The root becomes an Interaction, a call of a model inside it an Interaction of its own, everything else a Step.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tracemill.core.ids import monotonic, new_id, now
from tracemill.sdk.collector import Collector
from tracemill.sdk.integrations.recording import note_interaction

MOST_RUNS = 100_000
"""Runs under way that are remembered; frameworks forget to report an end now and then."""


@dataclass
class Run:
    """A run under way. ``id`` is that of its record."""

    kind: str
    parent: Run | None
    name: str | None
    fields: dict[str, Any]
    id: str = field(default_factory=new_id)
    time: datetime = field(default_factory=now)
    began: float = field(default_factory=monotonic)
    used: dict[str, None] = field(default_factory=dict)
    calls: int = 0

    @property
    def root(self) -> Run:
        """The run that everything is inside of."""
        run = self
        while run.parent is not None:
            run = run.parent
        return run

    @property
    def is_interaction(self) -> bool:
        """Whether it becomes an Interaction."""
        return self.parent is None or self.kind == "llm"


class Runs:
    """The runs of one application. Safe for threads; nothing in here reaches the application."""

    def __init__(self, collector: Collector) -> None:
        self.last_interaction_id: str | None = None
        self._collector = collector
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    def begin(self, run_id: Any, parent_id: Any, kind: str, name: str | None = None, **fields: Any) -> None:
        """A run begins. Unknown parents make it a root."""
        with self._lock:
            parent = self._runs.get(str(parent_id)) if parent_id is not None else None
            run = self._runs[str(run_id)] = Run(kind, parent, name, dict(fields))
            if len(self._runs) > MOST_RUNS:
                self._runs.pop(next(iter(self._runs)))
        if run.is_interaction:
            note_interaction(run.root.id)
            self.last_interaction_id = run.root.id

    def get(self, run_id: Any) -> Run | None:
        """A run under way."""
        return self._runs.get(str(run_id))

    def end(self, run_id: Any, error: object = None, **fields: Any) -> None:
        """A run ends: it is recorded."""
        with self._lock:
            run = self._runs.pop(str(run_id), None)
        if run is None:
            return
        common = {
            "id": run.id,
            "time": run.time,
            "duration_ms": (monotonic() - run.began) * 1000,
            "error": error,
            "success": error is None,
        }
        given = _merged(run.fields, fields)
        if run.is_interaction:
            self._interaction(run, common, given, error)
        else:
            self._step(run, common, given)

    def _interaction(self, run: Run, common: dict[str, Any], given: dict[str, Any], error: object) -> None:
        root = run.root
        given.setdefault(
            "kind", "chat" if run.kind == "llm" else "agent" if run.used or run.kind == "agent" else "workflow"
        )
        inherited = {
            name: root.fields[name]
            for name in ("conversation_id", "session_id", "user_id", "trace_id")
            if run is not root and root.fields.get(name) is not None
        }
        extra = {**given.pop("extra", {}), **({"name": run.name} if run.name else {})}
        self._collector.log_interaction(
            **{
                **inherited,
                **_present(common),
                **_present(given),
                "parent_id": None if run is root else root.id,
                "completion_status": "successful" if error is None else "failed",
                "extra": extra,
                **({"tools_used": list(run.used), "tool_call_count": run.calls} if run.used else {}),
            }
        )

    def _step(self, run: Run, common: dict[str, Any], given: dict[str, Any]) -> None:
        root = run.root
        if run.kind == "tool":
            tool = given.pop("tool", None) or run.name
            if tool:
                root.used[str(tool)] = None
                root.calls += 1
            action = {
                "type": "tool_call",
                "tool": tool,
                "call_id": given.pop("call_id", None),
                "parameters": given.pop("inputs", None),
                "result": given.pop("outputs", None),
                "success": common["success"],
                "duration_ms": common["duration_ms"],
            }
            given["actions"] = [_present(action)]
        parent = run.parent
        self._collector.log_step(
            **_present(common),
            **_present(given),
            interaction_id=root.id,
            parent_id=parent.id if parent is not None and not parent.is_interaction else None,
            kind=run.kind,
            name=run.name,
        )


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second going before; ``extra`` and ``usage`` of both."""
    merged = {**first, **_present(second)}
    for name in ("extra", "usage"):
        if isinstance(first.get(name), dict) and isinstance(second.get(name), dict):
            merged[name] = {**first[name], **second[name]}
    return merged
