"""Applying a policy: to a text, or to a whole record, which stays a valid record.

A record is read twice. The first reading finds what rules and field names give away and remembers it; the second replaces
that and everything known wherever it recurs. The record's mark says what was done where. A record whose mark carries this
redactor's own seal over the same policy comes back as it is, so redacting twice changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tracemill.core.codec import canonical, decode, encode
from tracemill.core.policy import MARK, ActionName, Policy, RedactionMark, RedactionNote, scope_of
from tracemill.core.records import AnyRecord
from tracemill.privacy.detect import GROUPS, Detector, resolve
from tracemill.privacy.identity import Known
from tracemill.privacy.invent import Inventor
from tracemill.privacy.kinds_fields import is_value
from tracemill.privacy.memory import Finds, Memory
from tracemill.privacy.names import NamedDetector, open_names
from tracemill.privacy.walk import Place, walk, walk_text

R = TypeVar("R", bound=AnyRecord)
KEY_BYTES = 32
_EVERYWHERE = "workspace"
_INLINE = 1 << 16
_SPECIFIC = 0.9


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A text after a policy, and what was done. The place of each note is empty."""

    text: str
    notes: list[RedactionNote]


class Redactor:
    """Applies one policy under one key.

    The key (at least 32 bytes) decides what is invented: with another one the same person becomes somebody else. ``detector``
    takes the place of the rules and of the policy's model for names. Safe to share between threads.
    Raises ValueError for a shorter key and for a policy that names a kind or group there is none of, SettingError for one
    whose model for names is not there.
    """

    def __init__(self, policy: Policy, key: bytes, *, detector: Finds | None = None) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"a redaction key has at least {KEY_BYTES} bytes, this one {len(key)}")
        unknown = policy.actions.keys() - GROUPS.keys() - set(GROUPS.values())
        if unknown:
            raise ValueError(f"policy {policy.name} names {min(unknown)!r}, which is no kind and no group")
        self.policy = policy
        self._made_of = policy, key, detector
        self._key = hashlib.blake2b(key, digest_size=32, person=b"tm-redaction").digest()
        self._digest = policy.digest()
        self._actions: dict[str, ActionName] = {kind: policy.action(kind, group) for kind, group in GROUPS.items()}
        self._memory = Memory(detector or _detector(policy))

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker is given policy and key, and makes its own of them."""
        return _made, self._made_of

    def text(self, text: str, *, scope: str = "") -> RedactedText:
        """A text by itself, JSON or not. ``scope`` is the conversation it belongs to."""
        work = self._work(scope)
        walk_text(text, work.collect)
        new = walk_text(text, work.replace)
        return RedactedText(new, work.notes())

    def record(self, record: R, *, scope: str | None = None, joins: Sequence[bytes] = ()) -> R:
        """A record with this redactor's mark in ``extra["$privacy"]``; the one given is not changed.

        ``scope`` says within what the same person has the same invented name: by default the record's conversation, else its
        session, else the interaction it belongs to. ``joins`` is what the record is matched by where it names no
        interaction; the mark keeps keyed digests of it. Raises RecordError for a record that cannot be encoded or is too deep.
        """
        marks = self._marks(record)
        if marks and self._is_done(record, marks):
            return record
        work = self._work(self.scope(record) if scope is None else scope)
        walk(record, work.collect)
        return self._applied(record, marks, work, joins)

    def kinds(self, record: AnyRecord) -> set[str]:
        """The kinds of which there is something in a record that this policy does not keep. Raises RecordError."""
        work = self._work("")
        walk(record, work.collect)
        walk(record, work.replace)
        return {note.kind for note in work.notes()}

    def together(self, records: Sequence[AnyRecord], *, scope: str) -> list[AnyRecord]:
        """Records of one conversation: what any of them gives away is replaced in all of them. Else as :meth:`record`."""
        marks = [self._marks(record) for record in records]
        done = [bool(own) and self._is_done(record, own) for record, own in zip(records, marks, strict=True)]
        known = Known()
        for record, skip in zip(records, done, strict=True):
            if not skip:
                walk(record, self._work(scope, known).collect)
        return [
            record if skip else self._applied(record, own, self._work(scope, known), ())
            for record, own, skip in zip(records, marks, done, strict=True)
        ]

    def scope(self, record: AnyRecord) -> str:
        """What a record belongs to (:func:`scope_of`), as the redacted record says it."""
        return self.link(scope_of(record))

    def link(self, value: str) -> str:
        """A conversation's or session's id, or any other that joins records, as it stands in redacted ones."""
        return str(self._work("").replace(value, Place("", link=True)))

    def origin(self, record: AnyRecord) -> str:
        """A keyed digest of a record. Raises RecordError for one that cannot be encoded."""
        return self.keyed(_said(record))

    def keyed(self, content: bytes) -> str:
        """A digest of some content that says nothing of it to whoever has not the key: 32 hex digits."""
        return hashlib.blake2b(content, key=self._key, digest_size=16, person=b"tm-keyed").hexdigest()

    def _work(self, scope: str, known: Known | None = None) -> _Work:
        return _Work(self._memory, self._actions, self._inventor(scope), self._inventor(_EVERYWHERE), known)

    def _applied(self, record: R, marks: list[RedactionMark], work: _Work, joins: Sequence[bytes]) -> R:
        new = walk(record, work.replace)
        mark = RedactionMark(
            policy=self.policy.name,
            version=self.policy.version,
            digest=self._digest,
            notes=work.notes(),
            origin=self.origin(record),
            joins=[self.keyed(join) for join in joins],
        )
        return self._sealed(new, [*marks, mark])

    def notes(self, record: AnyRecord) -> list[RedactionNote]:
        """What the marks on a record say was done to it; those of another key are not believed."""
        return [note for mark in self._marks(record) for note in mark.notes]

    def _inventor(self, scope: str) -> Inventor:
        return Inventor(self._key, scope if self.policy.scope == "conversation" else _EVERYWHERE)

    def _marks(self, record: AnyRecord) -> list[RedactionMark]:
        """The marks on a record, when the last one's seal holds; none otherwise, for then anybody may have written them."""
        if MARK not in record.extra:
            return []
        try:
            marks = msgspec.convert(record.extra[MARK], list[RedactionMark])
        except msgspec.ValidationError:
            return []
        if not marks:
            return []
        unsealed = [*marks[:-1], msgspec.structs.replace(marks[-1], seal="")]
        return marks if hmac.compare_digest(self._seal(_with_marks(record, unsealed)), marks[-1].seal) else []

    def _is_done(self, record: AnyRecord, marks: list[RedactionMark]) -> bool:
        return bool(record.extra) and marks[-1].digest == self._digest

    def _sealed(self, record: R, marks: list[RedactionMark]) -> R:
        seal = self._seal(_with_marks(record, marks))
        return _with_marks(record, [*marks[:-1], msgspec.structs.replace(marks[-1], seal=seal)])

    def _seal(self, record: AnyRecord) -> str:
        return hashlib.blake2b(_said(record), key=self._key, digest_size=16, person=b"tm-seal").hexdigest()


def _made(policy: Policy, key: bytes, detector: Finds | None) -> Redactor:
    return Redactor(policy, key, detector=detector)


def _detector(policy: Policy) -> Finds:
    rules = Detector(threshold=policy.threshold)
    return NamedDetector(rules, open_names(policy.names)) if policy.names else rules


def _said(record: AnyRecord) -> bytes:
    """What a record says, as bytes: the same before and after it was stored, whatever its encoding wrote of defaults."""
    data = encode(record)
    try:
        return repr(decode(data)).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # an integer too long to be written in decimals
        return canonical(data)


def _with_marks(record: R, marks: list[RedactionMark]) -> R:
    extra = {**record.extra, MARK: [msgspec.to_builtins(mark) for mark in marks]}
    return msgspec.structs.replace(record, extra=extra)


class _Work:
    """One record's redaction: what is known of it, and what was done."""

    def __init__(
        self,
        memory: Memory,
        actions: dict[str, ActionName],
        inventor: Inventor,
        links: Inventor,
        known: Known | None = None,
    ) -> None:
        self._find = memory.find
        self._actions = actions
        self._inventor = inventor
        self._links = links
        self._known = Known() if known is None else known
        self._done: Counter[tuple[str, str, ActionName]] = Counter()

    def notes(self) -> list[RedactionNote]:
        """What was replaced, by place."""
        return [
            RedactionNote(kind=kind, place=place, action=action, count=count)
            for (place, kind, action), count in self._done.items()
        ]

    def collect(self, value: Any, place: Place) -> Any:
        """First reading: remember what is found. Gives the value itself."""
        kind = self._field_kind(value, place)
        if kind is not None:
            if self._actions[kind] != "keep":
                self._known.add(kind, str(value))
        elif isinstance(value, str):
            for one in self._find(value):
                if not place.link and self._actions[one.kind] != "keep":
                    self._known.add(one.kind, value[one.start : one.end])
        return value

    def replace(self, value: Any, place: Place) -> Any:
        """Second reading: what stands there from now on."""
        kind = self._field_kind(value, place)
        if kind is not None:
            return self._whole(kind, value, place)
        if isinstance(value, str):
            return self._spans(value, place)
        return self._number(value, place)

    def _field_kind(self, value: Any, place: Place) -> str | None:
        """What a whole value is by its field; a rule that matches all of it says so better."""
        if place.kind is None or place.link or place.is_key or not is_value(place.kind, str(value)):
            return None
        if isinstance(value, str):
            for one in self._find(value):
                if (one.start, one.end) == (0, len(value)) and one.score >= _SPECIFIC:
                    return one.kind if place.kind != "date_of_birth" else place.kind
        return place.kind

    def _whole(self, kind: str, value: Any, place: Place) -> Any:
        action = self._actions[kind]
        if action == "keep":
            return value
        text = str(value)
        new, action = self._new(kind, text, action, self._inventor)
        self._done[place.pointer, kind, action] += 1
        if isinstance(value, str):
            return new
        if action == "remove":
            return None
        return _as_number(value, new) if action == "pseudonym" else new

    def _spans(self, text: str, place: Place) -> str:
        found = self._find(text)
        if not place.link:
            found = resolve([*found, *self._known.find(text)])
        pieces: list[str] = []
        at = 0
        for one in found:
            action = self._actions[one.kind]
            if action == "keep":
                continue
            inventor = self._links if place.link else self._inventor
            value = text[one.start : one.end]
            if place.link:
                new, action = inventor.digest(one.kind, value), "hash"
            else:
                new, action = self._new(one.kind, value, action, inventor)
            self._done[place.pointer, one.kind, action] += 1
            pieces += (text[at : one.start], new)
            at = one.end
        return "".join([*pieces, text[at:]]) if pieces else text

    def _number(self, value: Any, place: Place) -> Any:
        """A bare number that is known: replaced when all of it is the known value."""
        text = str(value)
        if len(text) < 5 or isinstance(value, float):
            return value
        for one in self._known.find(text):
            if (one.start, one.end) == (0, len(text)) and self._actions[one.kind] != "keep":
                return self._whole(one.kind, value, place)
        return value

    def _new(self, kind: str, value: str, action: ActionName, inventor: Inventor) -> tuple[str, ActionName]:
        """What stands in place of a value, and what was done: a value nothing can be invented for is masked."""
        tag = kind.upper()
        if action == "remove":
            return "", action
        if action == "pseudonym":
            made = inventor.invent(kind, value) if len(value) < _INLINE else None
            if made is not None:
                return made, action
            action = "mask"
        return (f"[{tag}:{inventor.digest(kind, value)}]" if action == "hash" else f"[{tag}]"), action


def _as_number(old: float, new: str) -> Any:
    """An invented number of the same type; it keeps its length."""
    try:
        made = type(old)(new)
    except ValueError:
        return new
    if isinstance(old, int) and len(str(made)) < len(str(old)):
        made += 10 ** (len(str(old)) - 1)
    return made
