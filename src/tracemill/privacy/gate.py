"""Redaction before the store: the :class:`tracemill.store.gate.Gate` of a workspace that has a policy for what is stored.

What becomes of a record depends on the record, the policy, the key, and for a record that names an interaction on the
conversation of that one: it is looked for in the same batch, then in the store. A record that is stored already is known by a
keyed digest of what was sent, so that sending it again is a duplicate also when the policy or that conversation is another by
then.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from tracemill.core.codec import decode, decode_json, encode, encode_json, marked_text
from tracemill.core.errors import RecordError
from tracemill.core.policy import first_mark, scope_of
from tracemill.core.records import AnyRecord, Interaction
from tracemill.store.gate import Belonging
from tracemill.store.names import column_text

if TYPE_CHECKING:
    from tracemill.privacy.redact import Redactor

FAILED = "redaction_failed"
_REMEMBERED = 50_000
_OF_WHOM = re.compile(r'"(?:user|user_id|author_id|pseudonym|raw_id|conversation_id)"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')
"""Where some JSON, torn or not, states whose it is. Redacted there, erasure would not find it any more."""
Joins = Callable[[AnyRecord], Iterable[bytes]]
"""Gives what a record is matched by where it, or what is matched to it, names no interaction."""


def _nothing(_record: AnyRecord) -> Iterable[bytes]:
    return ()


class RedactionGate:
    """Applies one policy to everything on its way into a store. Safe for several threads.

    ``make`` gives the redactor when the first record comes: it is heavy to load. It raises SettingError.
    """

    def __init__(self, make: Callable[[], Redactor], joins: Joins = _nothing) -> None:
        self._make = make
        self._joins = joins
        self._made: Redactor | None = None
        self._lock = threading.Lock()
        self._scopes: OrderedDict[str, str] = OrderedDict()

    @property
    def redactor(self) -> Redactor:
        """The redactor, made when it is asked for first. Raises SettingError."""
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make()
        return self._made

    def clean(self, items: Sequence[bytes], belonging: Belonging) -> list[bytes | RecordError]:
        """See :class:`tracemill.store.gate.Gate`."""
        redactor = self.redactor
        records = [_decoded(item) for item in items]
        for record in records:
            if isinstance(record, Interaction):
                self._remember(record.id, self._scope(record))
        linked = {self._link(record) for record in records if record is not None} - {None}
        unknown = sorted(str(identity) for identity in linked if identity not in self._scopes)
        for identity, stored in (belonging(unknown) if unknown else {}).items():
            self._remember(identity, redactor.link(stored))
        return [
            item if record is None else self._clean(item, record) for item, record in zip(items, records, strict=True)
        ]

    def record(self, record: AnyRecord) -> AnyRecord:
        """One record as it may be stored, or written beside the store. Raises RecordError, SettingError."""
        redactor = self.redactor
        try:
            return redactor.record(record, scope=self._within(record), joins=list(self._joins(record)))
        except RecordError:
            raise
        except Exception as error:
            # A record that the redactor cannot take must neither be kept as it is nor keep its batch mates out.
            raise RecordError(FAILED, f"it could not be redacted ({type(error).__name__})") from error

    def readable(self, raw: bytes) -> bytes | None:
        """See :class:`tracemill.store.gate.Gate`."""
        try:
            return self._readable(raw)
        except Exception:  # noqa: BLE001
            # Whatever strangers sent must not keep the rest of a batch out; what cannot be looked through is veiled.
            return None

    def _readable(self, raw: bytes) -> bytes | None:
        for read, write in ((decode, encode), (decode_json, encode_json)):
            try:
                record = read(raw)
            except RecordError:
                continue
            new = self.record(record)
            return raw if new is record else write(new)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return None
        if "\x00" in text:
            return None
        clean = self.redactor.text(text).text
        return clean.encode() if _OF_WHOM.findall(clean) == _OF_WHOM.findall(text) else None

    def same(self, known: bytes, new: bytes) -> bool:
        """See :class:`tracemill.store.gate.Gate`."""
        return self._origin(known) == self._origin(new)

    def _origin(self, item: bytes) -> str:
        """The digest of a record as it was sent: its mark's, or its own where it was stored as it came."""
        record = decode(item)
        mark = first_mark(record.extra)
        return mark.origin if mark is not None and mark.origin else self.redactor.origin(record)

    def _clean(self, item: bytes, record: AnyRecord) -> bytes | RecordError:
        try:
            new = self.record(record)
            return item if new is record else encode(new)
        except RecordError as error:
            return error

    def _within(self, record: AnyRecord) -> str:
        link = self._link(record)
        if link is None:
            return self._scope(record)
        return self._scopes.get(link) or link

    @staticmethod
    def _link(record: AnyRecord) -> str | None:
        """The interaction a record belongs to, where it does not say itself in which conversation it stands."""
        if isinstance(record, Interaction) or getattr(record, "conversation_id", None):
            return None
        link: str | None = getattr(record, "interaction_id", None)
        return link

    def _scope(self, record: AnyRecord) -> str:
        """What a record belongs to, as a column of the store says it."""
        return column_text(marked_text(self.redactor.link(scope_of(record))))

    def _remember(self, identity: str, scope: str) -> None:
        with self._lock:
            self._scopes[identity] = scope
            while len(self._scopes) > _REMEMBERED:
                self._scopes.popitem(last=False)


def _decoded(item: bytes) -> AnyRecord | None:
    try:
        return decode(item)
    except RecordError:
        return None
