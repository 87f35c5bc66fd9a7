"""Whose data is to be erased, and how it is recognised wherever it lies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from tracemill.core.erasure import SubjectKind

_LINKS = ("id", "interaction_id", "parent_id", "step_id")
_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LETTER = b"[0-9A-Za-z_-]"
_WORD = re.compile(_LETTER + b"+")
_TELLING = 8
"""An identifier shorter than this is not looked for in raw bytes: "7" would be found everywhere."""


@dataclass(frozen=True)
class Subject:
    """A person, an interaction or a conversation, with everything that was found to belong to it.

    ``ids`` are record ids, ``conversations`` those that are wholly theirs, ``pseudonyms`` and ``raw`` the person's own.
    ``asked`` (microseconds) and ``watermark`` are when: of a person, what is newer than both is not meant.
    """

    kind: SubjectKind
    value: str
    ids: frozenset[str] = frozenset()
    conversations: frozenset[str] = frozenset()
    pseudonyms: frozenset[str] = frozenset()
    raw: frozenset[str] = field(default=frozenset())
    asked: int = 0
    watermark: int = 0

    @property
    def sha256(self) -> str:
        """What a receipt knows it by."""
        return hashlib.sha256(f"{self.kind}:{self.value}".encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def records_sha256(self) -> str:
        """The hash of the sorted ids, each with a newline."""
        return hashlib.sha256("".join(f"{identity}\n" for identity in sorted(self.ids)).encode()).hexdigest()

    def owns(self, plain: Any) -> bool:
        """Whether a record, as plain values, is one of theirs."""
        if not isinstance(plain, dict):
            return False
        if any(plain.get(link) in self.ids for link in _LINKS if isinstance(plain.get(link), str)):
            return True
        inside = isinstance(plain.get("conversation_id"), str) and plain["conversation_id"] in self.conversations
        if self.kind == "conversation" and inside:
            return True
        user = plain.get("user")
        named = user.get("pseudonym") if isinstance(user, dict) else None
        if named is not None:
            return named in self.pseudonyms
        return inside

    def owns_encoded(self, data: bytes) -> bool:
        """The same for a record's MessagePack or JSON; what is neither is theirs when it names them."""
        try:
            return self.owns(msgspec.msgpack.decode(data, ext_hook=lambda _code, _data: None))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass  # JSON, or no record at all
        try:
            return self.owns(msgspec.json.decode(data))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return self.named_in(data)

    def owns_file(self, plain: Any) -> bool:
        """Whether a JSON file of Lightspeed's or Gepeto's is theirs, by the ids it states anywhere in its head."""
        if not isinstance(plain, dict):
            return False
        metadata = plain.get("metadata")
        heads = [plain, metadata if isinstance(metadata, dict) else {}]
        heads += [value for value in plain.values() if isinstance(value, dict)]
        people = self.pseudonyms | self.raw | {hashlib.sha256(raw.encode()).hexdigest() for raw in self.raw}
        for head in heads:
            stated = {str(head.get(name)) for name in ("user_id", "user", "author_id", "pseudonym") if head.get(name)}
            if stated & people:
                return True
            if (not stated or self.kind == "conversation") and head.get("conversation_id") in self.conversations:
                return True
            if any(isinstance(head.get(name), str) and head[name] in self.ids for name in (*_LINKS, "record_id")):
                return True
        return False

    @cached_property
    def _ids(self) -> frozenset[bytes]:
        """What has the form of a record's id: looked for wherever it stands."""
        return frozenset(name for name in map(_bytes, {*self.ids, *self.conversations}) if _ID.fullmatch(name))

    @cached_property
    def _words(self) -> frozenset[bytes]:
        """Names of letters: there may be thousands, so that the words of a text are looked up among them."""
        return frozenset(name for name in map(_bytes, self._named) if _WORD.fullmatch(name))

    @cached_property
    def _phrases(self) -> re.Pattern[bytes] | None:
        """What finds all other names in a text, where they are no part of longer ones; pseudonyms wherever they stand."""
        phrases = sorted(re.escape(name) for name in map(_bytes, self._named) if not _WORD.fullmatch(name))
        parts = [b"(?<!%b)(?:%b)(?!%b)" % (_LETTER, b"|".join(phrases), _LETTER)] if phrases else []
        parts += sorted(re.escape(_bytes(name)) for name in self.pseudonyms if len(name) >= _TELLING)
        return re.compile(b"|".join(parts)) if parts else None

    @cached_property
    def _anywhere(self) -> re.Pattern[bytes] | None:
        """What finds any name in bytes of which nothing is known."""
        names = sorted(re.escape(_bytes(name)) for name in (*self._named, *self.pseudonyms) if len(name) >= _TELLING)
        return re.compile(b"|".join(names)) if names else None

    @property
    def _named(self) -> list[str]:
        return [name for name in (*self.conversations, *self.raw) if len(name) >= _TELLING]

    def named_in(self, data: bytes) -> bool:
        """Whether some bytes hold an id of theirs: MessagePack and JSON are looked at text by text, all else as it is."""
        plain = _plain(data)
        if plain is not None:
            return any(self._in_text(text) for text in _texts(plain))
        try:
            data.decode()
        except UnicodeDecodeError:
            return self._has_id(data) or (self._anywhere is not None and self._anywhere.search(data) is not None)
        return self._in_text(data)

    def _in_text(self, text: bytes) -> bool:
        if self._has_id(text) or (self._phrases is not None and self._phrases.search(text) is not None):
            return True
        return bool(self._words) and not self._words.isdisjoint(_WORD.findall(text))

    def _has_id(self, data: bytes) -> bool:
        return bool(self._ids) and any(found in self._ids for found in _ID.findall(data))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _plain(data: bytes) -> dict[Any, Any] | list[Any] | None:
    """What some bytes are as MessagePack or JSON, if they are a map or an array."""
    for decode in (_from_msgpack, msgspec.json.decode):
        try:
            plain = decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if isinstance(plain, dict | list):
            return plain
    return None


def _from_msgpack(data: bytes) -> Any:
    return msgspec.msgpack.decode(data, ext_hook=lambda _code, content: bytes(content), strict=False)


def _texts(plain: Any) -> Iterator[bytes]:
    """Every text in some plain values, keys too. Does not recurse."""
    level = [plain]
    while level:
        value = level.pop()
        if isinstance(value, str):
            yield value.encode("utf-8", "surrogatepass")
        elif isinstance(value, bytes):
            yield value
        elif isinstance(value, dict):
            level += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            level += value
        elif isinstance(value, int) and not isinstance(value, bool):
            yield str(value).encode() if value.bit_length() < 256 else b""
