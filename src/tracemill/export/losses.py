"""What a row lacks, why there is none, and how a place in an example is named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tracemill.core.errors import ExportError


class RefusedError(ExportError):
    """An example that a format cannot hold. ``reason`` is a stable word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Lost:
    """One thing of an example that its row lacks, or holds in another form; ``path`` is a JSON Pointer into the example."""

    path: str
    reason: str
    detail: str = ""
    call_ids: list[str] = field(default_factory=list)


def pointer(key: str) -> str:
    """One step of a JSON Pointer (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def is_empty(value: Any) -> bool:
    """Whether a field says nothing: null, or an empty text, list or object."""
    return value is None or (isinstance(value, (str, list, dict)) and not value)
