"""The multipart bodies of LangSmith's clients: one part a run's main object, one for each of its large fields.

Names are ``post.{id}`` and ``patch.{id}``, the same with a field behind (``.inputs``, ``.outputs``…), ``feedback.{id}`` and
``attachment.{run id}.{name}``. A part that cannot be used is refused alone; the rest of the body is taken.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Literal

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tracemill.capture.ingest import Reject
from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError

MAX_PARTS = 20_000
"""Parts of one body. The clients send at most a hundred runs at a time, of seven parts each, and their attachments."""
MAX_HEADERS = 16 * 1024
"""Bytes of the headers of one part."""
MAX_ATTACHMENT = 256 * 1024
"""Bytes of an attachment whose content is kept; of a larger one, its name, type and size."""
FIELDS = frozenset({"inputs", "outputs", "events", "extra", "error", "serialized"})
_HEX = re.compile("[0-9a-f]{32}")
Operation = Literal["post", "patch"]


@dataclass(frozen=True)
class Piece:
    """What one request says of one run: its beginning (``post``) or what came later (``patch``)."""

    operation: Operation
    run_id: str
    run: dict[str, Any]


@dataclass
class Body:
    """What a request brought: pieces of runs, feedback, and what was refused."""

    pieces: list[Piece] = field(default_factory=list)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def refuse(self, place: str, message: str, raw: bytes) -> None:
        """Keep an entry out, with the reason."""
        self.rejects.append(Reject(place, "invalid", message, raw))


@dataclass
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    content: list[bytes] = field(default_factory=list)

    @property
    def name(self) -> str:
        _, options = parse_options_header(self.headers.get("content-disposition", b""))
        return options.get(b"name", b"").decode("utf-8", "replace")

    @property
    def raw(self) -> bytes:
        return b"".join(self.content)


class _Reader:
    """The callbacks of the parser: they gather parts and watch their number and the size of their headers."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._name = self._value = b""
        self._size = 0

    def on_part_begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise RecordError("too_large", f"the body has more than {MAX_PARTS} parts")
        self.parts.append(_Part())
        self._size = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content.append(data[start:end])

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += self._counted(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data, start, end)

    def on_header_end(self) -> None:
        self.parts[-1].headers[self._name.decode("latin-1").lower()] = self._value
        self._name = self._value = b""

    def on_end(self) -> None:
        self.ended = True

    def _counted(self, data: bytes, start: int, end: int) -> bytes:
        self._size += end - start
        if self._size > MAX_HEADERS:
            raise RecordError("too_large", f"a part has more than {MAX_HEADERS} bytes of headers")
        return data[start:end]


def canonical_id(value: Any) -> str:
    """A run's id as canonical text. Raises ValueError when it is no UUID."""
    digits = value.replace("-", "").lower() if isinstance(value, str) else ""
    if not isinstance(value, str) or len(value) not in (32, 36) or not _HEX.fullmatch(digits):
        raise ValueError(f"the id of a run is a UUID, not {str(value)[:80]!r}")
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def read_multipart(raw: bytes, content_type: str) -> Body:
    """The runs and feedback of a body. Raises RecordError when it is no multipart body, or one of too many parts."""
    reader = _Reader()
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise RecordError("malformed", "the Content-Type names no boundary")
    callbacks: Any = {name: getattr(reader, name) for name in dir(reader) if name.startswith("on_")}
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(raw)
        parser.finalize()
    except FormParserError as error:
        raise RecordError("malformed", f"the body is not usable multipart: {error}") from None
    if not reader.ended:
        raise RecordError("malformed", "the multipart body ends too early")
    return _assembled(reader.parts)


def _assembled(parts: list[_Part]) -> Body:
    body = Body()
    runs: dict[tuple[Operation, str], dict[str, Any]] = {}
    fields: dict[tuple[Operation, str], dict[str, Any]] = {}
    attachments: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        name = part.name
        try:
            kind, _, rest = name.partition(".")
            identity, _, last = rest.partition(".")
            if kind == "feedback":
                body.feedback.append(_object(part.raw))
            elif kind == "attachment" and last:
                attachments.setdefault(canonical_id(identity), []).append(_attachment(part, last))
            elif kind in ("post", "patch"):
                _place(runs, fields, (_operation(kind), canonical_id(identity)), last, part.raw)
            else:
                raise ValueError("this name of a part is not known")
        except (ValueError, RecordError) as error:
            body.refuse(f"part {name[:200]!r}", str(error), part.raw)
    for run_id, found in attachments.items():
        operation = "post" if ("post", run_id) in runs else "patch"
        fields.setdefault((_operation(operation), run_id), {})["attachments"] = found
    for key in dict.fromkeys([*runs, *fields]):
        run = {**runs.get(key, {}), **fields.get(key, {})}
        body.pieces.append(Piece(key[0], key[1], {**run, "id": key[1]}))
    return body


def _operation(name: str) -> Operation:
    return "post" if name == "post" else "patch"


def _place(
    runs: dict[tuple[Operation, str], dict[str, Any]],
    fields: dict[tuple[Operation, str], dict[str, Any]],
    key: tuple[Operation, str],
    name: str,
    raw: bytes,
) -> None:
    """Put a part where it belongs. Raises ValueError and RecordError."""
    if name and name not in FIELDS:
        raise ValueError(f"a run has no field {name[:80]!r} of its own part")
    if name in fields.get(key, {}) if name else key in runs:
        raise ValueError("the part is there twice")
    if name:
        fields.setdefault(key, {})[name] = parse_json(raw)
    else:
        runs[key] = _object(raw)


def _object(raw: bytes) -> dict[str, Any]:
    found = parse_json(raw)
    if not isinstance(found, dict):
        raise ValueError("the part is a JSON object")
    return found


def _attachment(part: _Part, name: str) -> dict[str, Any]:
    kind = part.headers.get("content-type", b"").decode("latin-1").partition(";")[0].strip()
    raw = part.raw
    found: dict[str, Any] = {"name": name, "mime_type": kind or "application/octet-stream", "size": len(raw)}
    if len(raw) <= MAX_ATTACHMENT:
        found["content"] = b64encode(raw).decode()
    return found
