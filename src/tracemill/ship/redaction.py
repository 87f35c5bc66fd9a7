"""Redacting JSON text as text: what is inside its strings changes, everything else keeps every byte.

Numbers stay as they are, so that types and times do not change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeAlias

from tracemill.capture.lightspeed.redact import redact
from tracemill.core.errors import SourceError
from tracemill.ship.packing import is_whole

Redaction: TypeAlias = Callable[[bytes], bytes]
"""JSON text (or JSON Lines) to JSON text without what must not leave."""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_VALUE_FOLLOWS = re.compile(r"\s*:")
_PROBE = "aB3dE6gH9"


def redact_json(content: bytes) -> bytes:
    """JSON text with every string redacted, names of members too; a value whose name says ``password`` goes whole."""
    text = content.decode("utf-8")
    pieces: list[str] = []
    at, hides = 0, False
    for found in _STRING.finditer(text):
        between = text[at : found.start()]
        value: str = json.loads(found[0], strict=False)
        name = _VALUE_FOLLOWS.match(text, found.end()) is not None
        changed = "[TOKEN]" if hides and not between.strip(" \t\r\n:") and not name and value else redact(value)
        pieces += (between, found[0] if changed == value else json.dumps(changed))
        hides = name and redact(f"{value}={_PROBE}") != f"{redact(value)}={_PROBE}"
        at = found.end()
    return ("".join(pieces) + text[at:]).encode()


def apply(redaction: Redaction | None, name: str, content: bytes) -> bytes:
    """A file's content as it may leave. Raises SourceError when redacting fails or leaves no JSON: then nothing may leave."""
    if redaction is None:
        return content
    try:
        changed = redaction(content)
    except Exception as error:  # the redaction is somebody else's code
        raise SourceError(f"{name} cannot be redacted ({type(error).__name__})") from error
    if not is_whole(name, changed):
        raise SourceError(f"{name} is no JSON any more after redacting")
    return changed
