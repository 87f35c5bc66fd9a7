"""What is done to personal data, as data: a versioned policy, and the mark it leaves on a record.

The mark stands in a record's ``extra`` under ``$privacy``. It says which policy was applied and what was replaced where, never
what stood there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from tracemill.core.records import AnyRecord

MARK = "$privacy"
"""The key in ``extra`` under which a record carries its marks, the newest last."""
ActionName: TypeAlias = Literal["keep", "remove", "mask", "hash", "pseudonym"]
Scope: TypeAlias = Literal["conversation", "workspace"]
Name: TypeAlias = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]{0,63}$")]


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to each kind of personal data or secret.

    ``actions`` maps a kind (``email``) or a group of kinds (``contact``) to an action, a kind before its group; ``otherwise``
    is for the rest. ``remove`` leaves nothing, ``mask`` the kind's name in brackets, ``hash`` that with a keyed digest,
    ``pseudonym`` an invented value of the same shape, the same for the same value within the ``scope``. Findings below
    ``threshold`` (0 to 1) are left alone. ``names`` is a model that finds names beside the rules (see
    :mod:`tracemill.privacy.names`). Whoever changes a policy gives it another ``version``.
    """

    name: Name
    version: Annotated[int, Meta(ge=1)]
    actions: dict[str, ActionName] = {}
    otherwise: ActionName = "mask"
    scope: Scope = "conversation"
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    names: str = ""

    def action(self, kind: str, group: str) -> ActionName:
        """What happens to a kind of a group."""
        return self.actions.get(kind) or self.actions.get(group) or self.otherwise

    def digest(self) -> str:
        """16 hex digits that stand for everything the policy says."""
        said = msgspec.to_builtins(self)
        if not self.names:
            del said["names"]  # a field that came later: policies of before keep their digest
        return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:16]


class RedactionNote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that was done: to ``count`` values of a kind, at a place.

    ``place`` is a JSON Pointer (RFC 6901) into the record as it is now; behind a ``#`` it goes on inside of text that is JSON.
    """

    kind: str
    place: str
    action: ActionName
    count: Annotated[int, Meta(ge=1)] = 1


class RedactionMark(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """That a policy was applied to a record.

    ``seal`` is a keyed digest of the record as the policy left it, so that a second pass knows its own work and leaves it.
    ``origin`` is a keyed digest of the record as it was sent, so that the same one sent again is known whatever a policy of
    today makes of it; ``joins`` are keyed digests of what it is matched by where it names no interaction. Neither says
    anything to whoever has not the key.
    """

    policy: Name
    version: Annotated[int, Meta(ge=1)]
    digest: str
    notes: list[RedactionNote] = []
    origin: str = ""
    joins: list[str] = []
    seal: str = ""


def first_mark(extra: Mapping[str, Any]) -> RedactionMark | None:
    """The oldest mark in a record's ``extra``, whoever wrote it; None where there is none that can be read."""
    marks = extra.get(MARK)
    if not isinstance(marks, list) or not marks:
        return None
    try:
        return msgspec.convert(marks[0], RedactionMark)
    except msgspec.ValidationError:
        return None


def noted_kinds(extra: Mapping[str, Any]) -> set[str]:
    """The kinds that the marks in a record's ``extra`` say were replaced, whoever wrote them."""
    try:
        marks = msgspec.convert(extra.get(MARK, []), list[RedactionMark])
    except msgspec.ValidationError:
        return set()
    return {note.kind for mark in marks for note in mark.notes}


def scope_of(record: AnyRecord) -> str:
    """What a record belongs to: its conversation, session, interaction, or itself."""
    for name in ("conversation_id", "session_id", "interaction_id"):
        value = getattr(record, name, None)
        if isinstance(value, str) and value:
            return value
    return record.id
