"""Erasure: from a request to a signed receipt, through every place, whatever cuts it off.

1. The request is stored, and a legal hold is looked for: one that names the subject defers the request, visibly.
2. What belongs to the subject is found and stored with the request.
3. Tombstones are set. From here on nothing of it comes in again: no replay, no late spool, no restored backup.
4. Every place removes what it has. Each can do so again, so a request that was cut off is simply run again.
5. Every place looks for what is left, and 2 to 5 are repeated while anything is (a record that was on its way).
6. The receipt is signed and stored; ids and the subject's name leave the request.

Each step stands in the audit log.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tracemill.core.erasure import ErasureRequest, LegalHold, Receipt, SubjectKind, Touched
from tracemill.core.errors import ErasureError
from tracemill.core.ids import from_microseconds, is_id, microseconds, new_id, now
from tracemill.core.steps import Progress
from tracemill.privacy import buried
from tracemill.privacy.audit import AuditLog
from tracemill.privacy.places import Place
from tracemill.privacy.signing import Signer
from tracemill.privacy.subject import Subject
from tracemill.store import erasing
from tracemill.store.engine import reading
from tracemill.store.hot import HotStore
from tracemill.store.tombstones import CONVERSATION, PERSON, RECORD, insert, stones_of

RECEIPTS = "receipts"
_ROUNDS = 5
_LOG_IN_USE = "the write-ahead log was in use; it still holds pages of before until the next `tracemill maintain`"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to a subject: record ids by type, wholly theirs conversations, and the platforms they are of.

    ``types`` counts what the request has not found before. ``people`` and ``within`` are the people and the conversations
    that the records name: holds on those protect the records too.
    """

    ids: list[str]
    types: dict[str, int]
    conversations: list[str]
    platforms: list[str] = []
    people: list[str] = []
    within: list[str] = []
    others: int = 0


class Eraser:
    """Carries requests out over one workspace. ``find`` says what belongs to a subject now.

    ``link`` gives a conversation's id as redacted records have it: one conversation may lie in the store under both.
    """

    def __init__(
        self,
        store: HotStore,
        workspace: Path,
        places: Sequence[Place],
        find: Callable[[ErasureRequest], Found],
        log: AuditLog,
        signer: Signer,
        link: Callable[[str], str] = str,
    ) -> None:
        self._store = store
        self._workspace = workspace
        self._places = places
        self._find = find
        self._log = log
        self._signer = signer
        self.link = link

    # -- holds

    def holds(self) -> list[LegalHold]:
        """Every legal hold, released ones too."""
        with reading(self._store.engine) as connection:
            return erasing.holds(connection)

    def holding(self, request: ErasureRequest, found: Found) -> LegalHold | None:
        """The hold that defers a request, if there is one."""
        kind, value = request.kind, request.value
        standing = [hold for hold in self.holds() if not hold.released]
        conversations = [*found.within, value, *request.also] if kind == "conversation" else found.within
        linked = {self.link(name) for name in conversations} if standing else set()
        for hold in standing:
            named = {
                "all": True,
                "platform": hold.value in found.platforms,
                "user": hold.value in found.people or (kind == "user" and hold.value == value),
                "conversation": hold.kind == "conversation" and self.link(hold.value) in linked,
                "interaction": hold.value in found.ids or (kind == "interaction" and hold.value == value),
            }
            if named[hold.kind]:
                return hold
        return None

    # -- requests

    def open_requests(self) -> list[ErasureRequest]:
        """Requests that are not done: cut off, or deferred by a hold."""
        with reading(self._store.engine) as connection:
            return erasing.requests(connection, ("open", "deferred"))

    def set_again(self) -> int:
        """After the database was restored from a backup: erase again what it had not lost then; how many records."""
        gone = buried.set_again(self._store, self._workspace / RECEIPTS)
        if gone is None:
            return 0
        removed = self._store.erase(gone)
        refused = buried.refused_again(self._store)
        self._store.overwrite_removed()
        buried.finished(self._store)
        self._log.record("erase.again", actor="maintenance", records=removed, quarantined=refused)
        return removed + refused

    def preview(self, kind: SubjectKind, value: str, raw: frozenset[str] = frozenset()) -> tuple[Found, dict[str, int]]:
        """What erasing a subject would remove, and how much of it each place has now. Changes nothing."""
        request = msgspec.structs.replace(self._request(kind, value, "", ""), id="", raw=sorted(raw))
        found = self._find(request)
        subject = self._subject(request, found)
        return found, {place.name: place.left(subject) for place in self._places}

    def belonging(self, kind: SubjectKind, value: str) -> Found:
        """What belongs to a subject now. Changes nothing."""
        return self._find(msgspec.structs.replace(self._request(kind, value, "", ""), id=""))

    def erase(
        self,
        kind: SubjectKind,
        value: str,
        *,
        actor: str,
        reason: str = "",
        raw: frozenset[str] = frozenset(),
        progress: Progress | None = None,
    ) -> Receipt:
        """Erase a subject everywhere and give the receipt; ``raw`` are ids by which files outside name a person.

        A conversation goes with what redacted records call it: under its own id it may lie in a spool, or in the store from
        before redaction.

        Raises ErasureError when something is left after every attempt (the request stays open), StoreError, OSError.
        """
        request = msgspec.structs.replace(self._request(kind, value, actor, reason), raw=sorted(raw))
        self._put(request)
        return self.carry_out(request, progress)

    def _request(self, kind: SubjectKind, value: str, actor: str, reason: str) -> ErasureRequest:
        moment = microseconds(now())
        stored = self.link(value) if kind == "conversation" else value
        return ErasureRequest(
            id=new_id(),
            kind=kind,
            value=value,
            actor=actor,
            reason=reason,
            requested=moment,
            watermark=self._store.watermark(),
            also=[stored] if stored != value else [],
        )

    def carry_out(self, request: ErasureRequest, progress: Progress | None = None) -> Receipt:
        """Carry a request out, a new one or one that was cut off or deferred. Raises as :meth:`erase`."""
        found = self._find(request)
        hold = self.holding(request, found)
        if hold is not None:
            return self._defer(request, hold, found)
        self._log.record("erase.begin", request.id, actor=request.actor, kind=request.kind, reason=request.reason)
        touched = {place.place: place for place in request.places}
        if found.others:
            note = f"{found.others} records of other people in shared conversations were kept"
            touched["records"] = _sum(touched.get("records"), Touched(place="records", notes=[note]))
        for _ in range(_ROUNDS):
            request = self._remember(request, found)
            self._say(progress, "found")
            subject = self._subject(request, found)
            self._bury(request, subject)
            self._say(progress, "buried")
            for place in self._places:
                done = place.erase(subject)
                touched[place.name] = _sum(touched.get(place.name), done)
                if done.removed or done.notes:  # for the receipt, should this be cut off
                    request = msgspec.structs.replace(request, places=list(touched.values()))
                    self._put(request)
                self._say(progress, f"erased {place.name}")
            if not self._store.overwrite_removed():
                touched["records"] = _sum(touched.get("records"), Touched(place="records", notes=[_LOG_IN_USE]))
            left = {place.name: place.left(subject) for place in self._places}
            found = self._find(request)
            if not any(left.values()) and not found.ids:
                return self._done(request, subject, touched)
            self._say(progress, "again")
        self._log.record("erase.incomplete", request.id, actor=request.actor, left=left)
        where = ", ".join(f"{name} ({number})" for name, number in left.items() if number)
        raise ErasureError(
            f"erasure {request.id} left something behind in: {where or 'records'}",
            hint="Run `tracemill maintain`: it goes on with this request.",
        )

    def _remember(self, request: ErasureRequest, found: Found) -> ErasureRequest:
        """The request with everything found so far, stored: a record that is gone must still be looked for elsewhere."""
        ids = sorted({*request.ids, *found.ids})
        conversations = sorted({*request.conversations, *found.conversations})
        types = _add(request.records, found.types)
        changed = msgspec.structs.replace(request, status="open", ids=ids, conversations=conversations, records=types)
        self._put(changed)
        return changed

    def _subject(self, request: ErasureRequest, found: Found) -> Subject:
        kind, value = request.kind, request.value
        own = {value} if kind == "interaction" and is_id(value) else set()
        wholly = {value, *request.also} if kind == "conversation" else set()
        return Subject(
            kind,
            value,
            ids=frozenset({*found.ids, *request.ids, *own}),
            conversations=frozenset({*found.conversations, *request.conversations, *wholly}),
            pseudonyms=frozenset([value]) if kind == "user" else frozenset(),
            raw=frozenset(request.raw),
            asked=request.requested,
            watermark=request.watermark,
        )

    def _bury(self, request: ErasureRequest, subject: Subject) -> None:
        stones = [
            *stones_of(RECORD, sorted(subject.ids)),
            *stones_of(CONVERSATION, sorted(subject.conversations)),
            # A person may come back as a user: only what is older than the request stays out.
            *stones_of(PERSON, sorted(subject.pseudonyms), request.requested),
        ]
        buried.append(self._workspace / RECEIPTS, stones)
        with self._store.exclusive() as connection:
            insert(connection, stones)

    def _defer(self, request: ErasureRequest, hold: LegalHold, found: Found) -> Receipt:
        deferred = msgspec.structs.replace(request, status="deferred", hold=hold.id)
        if deferred != request:  # else every maintenance would say so again
            self._put(deferred)
            self._log.record("erase.deferred", request.id, actor=request.actor, hold=hold.id, kind=request.kind)
        subject = self._subject(request, found)
        return self._sign(self._receipt(deferred, subject, [], complete=False))

    def _done(self, request: ErasureRequest, subject: Subject, touched: dict[str, Touched]) -> Receipt:
        models = sorted(
            {
                note.removeprefix("model ")
                for place in touched.values()
                for note in place.notes
                if note.startswith("model ")
            }
        )
        receipt = self._receipt(request, subject, list(touched.values()), complete=True)
        receipt = msgspec.structs.replace(receipt, status="done", tainted_models=models)
        signed = self._sign(receipt)
        self._write(signed)
        finished = msgspec.structs.replace(
            request, status="done", value="", ids=[], conversations=[], raw=[], also=[], places=[]
        )
        self._put(finished)
        self._forget_holds(subject)
        self._store.overwrite_removed()
        counts = {place.place: sum(place.removed.values()) for place in touched.values()}
        self._log.record(
            "erase.done", request.id, actor=request.actor, subject=subject.sha256, removed=counts, tainted=models
        )
        return signed

    def _forget_holds(self, subject: Subject) -> None:
        """Holds that are over and named what is gone name it by its digest from now on."""
        names = subject.ids | subject.conversations | subject.pseudonyms
        linked = {self.link(name) for name in subject.conversations}
        with self._store.exclusive() as connection:
            for hold in erasing.holds(connection):
                gone = hold.value in names or (hold.kind == "conversation" and self.link(hold.value) in linked)
                if hold.released and gone:
                    digest = hashlib.sha256(f"{hold.kind}:{hold.value}".encode("utf-8", "surrogatepass")).hexdigest()
                    erasing.put_hold(connection, msgspec.structs.replace(hold, value=f"sha256:{digest}"))

    def _receipt(self, request: ErasureRequest, subject: Subject, places: list[Touched], *, complete: bool) -> Receipt:
        return Receipt(
            id=request.id,
            kind=request.kind,
            subject_sha256=subject.sha256,
            reason=request.reason,
            actor=request.actor,
            requested=from_microseconds(request.requested).isoformat(),
            finished=now().isoformat(),
            status=request.status,
            records=request.records,
            records_sha256=subject.records_sha256,
            places=places,
            complete=complete,
            hold=request.hold,
            key_id=self._signer.key_id,
        )

    def _sign(self, receipt: Receipt) -> Receipt:
        return msgspec.structs.replace(receipt, signature=self._signer.sign(receipt.signed_bytes()))

    def _write(self, receipt: Receipt) -> None:
        folder = self._workspace / RECEIPTS
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f".{receipt.id}.tmp"
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(receipt), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / f"{receipt.id}.json")

    def _put(self, request: ErasureRequest) -> None:
        with self._store.exclusive() as connection:
            erasing.put_request(connection, request)

    @staticmethod
    def _say(progress: Progress | None, step: str) -> None:
        if progress is not None:
            progress(step, 0, None)


def receipt_holds(receipt: Receipt, signer: Signer) -> bool:
    """Whether a receipt is as this workspace signed it."""
    return receipt.key_id == signer.key_id and signer.holds(receipt.signed_bytes(), receipt.signature)


def _sum(known: Touched | None, more: Touched) -> Touched:
    if known is None:
        return more
    return Touched(
        place=more.place,
        removed=_add(known.removed, more.removed),
        left=more.left,
        notes=list(dict.fromkeys([*known.notes, *more.notes])),
    )


def _add(known: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {name: known.get(name, 0) + more.get(name, 0) for name in sorted({*known, *more})}
