"""Texts and values kept once by content: system prompts, tool schemas, large repeated texts and artifacts.

A body refers to a part by a MessagePack extension: code 1 for a text, code 2 for any other value; its data is the part's
number. ``uses`` counts the references, so that a part nobody refers to can go with the record that was erased.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import msgspec
from msgspec.msgpack import Ext
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from tracemill.core.errors import StoreError
from tracemill.store.dictionary import Compressor
from tracemill.store.statements import look_up
from tracemill.store.tables import parts

TEXT, VALUE = 1, 2
SYSTEM_THRESHOLD = 256
"""System prompts and tool schemas repeat with every call, so they are kept apart from this size on."""
_CACHED_BYTES = 16 * 1024 * 1024


def _digest(code: int, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16, person=b"text" if code == TEXT else b"value").digest()


def _reference(code: int, number: int) -> Ext:
    return Ext(code, number.to_bytes((number.bit_length() + 7) // 8 or 1, "big"))


class PartWriter:
    """Takes the parts out of the bodies of one batch, then stores what is new and counts the uses."""

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._contents: dict[bytes, bytes] = {}
        self._uses: Counter[bytes] = Counter()
        self._numbers: dict[bytes, int] = {}
        self.taken = 0
        """How many parts were taken out so far."""

    def collect(self, body: dict[str, Any], size: int) -> dict[str, Any]:
        """The body with each part replaced by its digest as an extension; ``size`` is its encoded size."""
        taken = dict(body)
        if tools := body.get("tools"):
            taken["tools"] = self._take_value(tools, SYSTEM_THRESHOLD)
        if (messages := body.get("messages")) and isinstance(messages[0], dict):
            first = messages[0]
            content = first.get("content")
            if (
                first.get("role") in ("system", "developer")
                and isinstance(content, str)
                and len(content) >= SYSTEM_THRESHOLD
            ):
                taken["messages"] = [{**first, "content": self._take_text(content)}, *messages[1:]]
        if size < self._threshold:
            return taken
        if "artifact" in taken:
            taken["artifact"] = self._take_value(taken["artifact"], self._threshold)
        return {key: self._walk(value) for key, value in taken.items()}

    def _take_text(self, value: str) -> Ext:
        return self._take(TEXT, value.encode())

    def _take_value(self, value: Any, threshold: int) -> Any:
        content = msgspec.msgpack.encode(value)
        return self._take(VALUE, content) if len(content) >= threshold else value

    def _take(self, code: int, content: bytes) -> Ext:
        digest = _digest(code, content)
        self._contents.setdefault(digest, content)
        self._uses[digest] += 1
        self.taken += 1
        return Ext(code, digest)

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._take_text(value) if len(value) >= self._threshold else value
        if isinstance(value, dict):
            return {key: self._walk(child) for key, child in value.items()}
        if isinstance(value, list):
            return [self._walk(child) for child in value]
        return value

    def store(self, connection: Connection, compressor: Compressor) -> None:
        """Insert the new parts and add to the uses of the known ones."""
        digests = list(self._uses)
        known = look_up(connection, (parts.c.digest, parts.c.id), parts.c.digest, digests)
        self._numbers.update({bytes(digest): number for digest, number in known})
        if known_uses := [{"number": self._numbers[d], "more": self._uses[d]} for d in digests if d in self._numbers]:
            statement = update(parts).where(parts.c.id == bindparam("number"))
            connection.execute(statement.values(uses=parts.c.uses + bindparam("more")), known_uses)
        if new := [digest for digest in digests if digest not in self._numbers]:
            following = (connection.execute(select(func.max(parts.c.id))).scalar() or 0) + 1
            rows = []
            for number, digest in enumerate(new, following):
                self._numbers[digest] = number
                body = compressor.compress(self._contents[digest])
                rows.append({"id": number, "digest": digest, "uses": self._uses[digest], "body": body})
            connection.execute(insert(parts), rows)

    def refer(self, body: Any) -> Any:
        """The body with digests replaced by the numbers the parts now have."""
        if isinstance(body, Ext):
            return _reference(body.code, self._numbers[bytes(body.data)])
        if isinstance(body, dict):
            return {key: self.refer(child) for key, child in body.items()}
        if isinstance(body, list):
            return [self.refer(child) for child in body]
        return body


class PartReader:
    """Puts parts back into bodies; what was read lately is kept in memory."""

    def __init__(self, compressor: Compressor) -> None:
        self._compressor = compressor
        self._cache: dict[int, bytes] = {}
        self._cached_bytes = 0
        self.connection: Connection | None = None
        self._decoder = msgspec.msgpack.Decoder(ext_hook=self._resolve)

    def forget(self) -> None:
        """Drop what is remembered."""
        self._cache.clear()
        self._cached_bytes = 0

    def decode(self, connection: Connection, body: bytes) -> Any:
        """The plain value of an encoded body with every part in its place."""
        self.connection = connection
        return self._decoder.decode(body)

    def _resolve(self, code: int, data: memoryview) -> Any:
        content = self._content(int.from_bytes(data, "big"))
        return content.decode() if code == TEXT else msgspec.msgpack.decode(content)

    def _content(self, number: int) -> bytes:
        content = self._cache.get(number)
        if content is None:
            assert self.connection is not None
            body = self.connection.execute(select(parts.c.body).where(parts.c.id == number)).scalar()
            if body is None:
                raise StoreError(f"part {number} of a record is missing", hint="Run `tracemill doctor`.")
            content = self._compressor.decompress(bytes(body))
            if self._cached_bytes > _CACHED_BYTES:
                self.forget()
            self._cache[number] = content
            self._cached_bytes += len(content)
        return content


def references(body: bytes) -> Counter[int]:
    """How often an encoded body refers to each part."""
    found: Counter[int] = Counter()

    def note(_code: int, data: memoryview) -> None:
        found[int.from_bytes(data, "big")] += 1

    msgspec.msgpack.decode(body, ext_hook=note)
    return found


def release(connection: Connection, uses: Counter[int]) -> None:
    """Take references back; parts that nobody refers to any more are removed."""
    if not uses:
        return
    statement = update(parts).where(parts.c.id == bindparam("number")).values(uses=parts.c.uses - bindparam("fewer"))
    connection.execute(statement, [{"number": number, "fewer": count} for number, count in uses.items()])
    connection.execute(delete(parts).where(parts.c.uses <= 0))
