"""What erasure keeps: requests until they are done, holds that defer them, and receipts. Never content."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

SubjectKind: TypeAlias = Literal["user", "interaction", "conversation"]
HoldKind: TypeAlias = Literal["user", "interaction", "conversation", "platform", "all"]
ErasureStatus: TypeAlias = Literal["open", "deferred", "done"]


class Touched(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What erasure did in one place: how many things went, by name, and how many of the erased were found at the end."""

    place: str
    removed: dict[str, int] = {}
    left: int = 0
    notes: list[str] = []


class ErasureRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request to erase. ``value`` is a pseudonym, an interaction's id or a conversation's; empty once it is done.

    Times are microseconds from the Unix epoch. ``watermark`` is the place of the newest record when it was made: what was
    stored by then is erased whatever its time. ``ids`` are the records found so far, so that one that was cut off goes on
    with the same, and ``places`` what was removed so far; they are dropped when it is done, and so are ``raw``, the id by
    which files outside name a person, and ``also``, the name under which redacted records have the same conversation.
    ``hold`` names the legal hold that defers it.
    """

    id: str
    kind: SubjectKind
    value: str
    actor: str
    requested: int
    watermark: int = 0
    reason: str = ""
    status: ErasureStatus = "open"
    hold: str = ""
    ids: list[str] = []
    conversations: list[str] = []
    raw: list[str] = []
    also: list[str] = []
    records: dict[str, int] = {}
    places: list[Touched] = []


class LegalHold(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A duty to keep: while it stands, erasure and retention of what it names wait. ``value`` is empty for ``all``."""

    id: str
    kind: HoldKind
    value: str
    reason: str
    actor: str
    placed: int
    released: int = 0


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was erased, where, when and why, signed. Whoever knows the subject can check its hash; it holds no content.

    ``subject_sha256`` is over ``kind:value``; ``records_sha256`` over the sorted ids of the erased records, each with a
    newline. ``tainted_models`` were trained on some of them. ``complete`` says that the final scan found none of them.
    """

    id: str
    kind: SubjectKind
    subject_sha256: str
    reason: str
    actor: str
    requested: str
    finished: str
    status: ErasureStatus
    records: dict[str, int] = {}
    records_sha256: str = ""
    places: list[Touched] = []
    tainted_models: list[str] = []
    complete: bool = False
    hold: str = ""
    key_id: str = ""
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature is over: the receipt without it, as JSON with sorted keys."""
        return msgspec.json.encode(msgspec.structs.replace(self, signature=""), order="sorted")
