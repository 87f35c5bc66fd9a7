"""Server-sent events (WHATWG HTML, section 9.2), as model servers stream them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError


def events(stream: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream's ``data`` lines, in their order; a torn last one and ``[DONE]`` are passed over."""
    for block in stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        if not lines:
            continue
        try:
            found = parse_json(b"\n".join(lines))
        except RecordError:
            continue
        if isinstance(found, dict):
            yield found
