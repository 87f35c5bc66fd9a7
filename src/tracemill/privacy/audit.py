"""The audit log as a reader sees it: entries, and whether anybody has tampered with them.

The chain alone proves nothing against whoever owns the database: they can write it anew. So the end of the log is signed
with the workspace's key after every entry and appended to ``audit-heads.jsonl`` beside the database. Copy that file, or
its last line, to where the owner of the database cannot write, and not even both together can rewrite the past.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tracemill.core.audit import BEGINNING, AuditEntry, AuditHead, chained, from_canonical
from tracemill.core.ids import microseconds, now
from tracemill.privacy.lines import append_lines
from tracemill.privacy.signing import Signer
from tracemill.store.audit import pages
from tracemill.store.hot import HotStore

HEADS = "audit-heads.jsonl"
_MOST = 100


class AuditLog:
    """The log of one workspace."""

    def __init__(self, store: HotStore, workspace: Path, signer: Signer) -> None:
        self._store = store
        self._heads = workspace / HEADS
        self._signer = signer

    def record(self, action: str, target: str = "", *, actor: str, **detail: Any) -> AuditEntry:
        """Append an entry and sign the new end of the log. Raises StoreError; OSError where the head cannot be written."""
        entry = self._store.audit_append(actor, action, target, detail)
        self.sign_head()
        return entry

    def sign_head(self) -> AuditHead:
        """Sign the end of the log as it is now, and put that on the device."""
        number, digest = self._store.audit_head()
        unsigned = AuditHead(number=number, hash=digest.hex(), time=microseconds(now()), key_id=self._signer.key_id)
        head = msgspec.structs.replace(unsigned, signature=self._signer.sign(unsigned.signed_bytes()))
        append_lines(self._heads, msgspec.json.encode(head) + b"\n")
        return head

    def entries(self) -> Iterator[AuditEntry]:
        """Every entry, oldest first. Raises msgspec.MsgspecError for one that was tampered with; verify() says more."""
        for _, body, _ in pages(self._store.audit_rows):
            yield from_canonical(body)

    def heads(self) -> tuple[list[AuditHead], list[str]]:
        """The signed heads, and what is wrong with their file."""
        if not self._heads.exists():
            return [], []
        heads, problems = [], []
        for number, line in enumerate(self._heads.read_bytes().splitlines(), 1):
            try:
                head = msgspec.json.decode(line, type=AuditHead)
            except msgspec.MsgspecError:
                problems.append(f"line {number} of {HEADS} is no signed head")
                continue
            if head.key_id != self._signer.key_id:
                problems.append(f"line {number} of {HEADS} is signed with another key ({head.key_id})")
            elif not self._signer.holds(head.signed_bytes(), head.signature):
                problems.append(f"line {number} of {HEADS} has a signature that does not hold")
            else:
                heads.append(head)
        return heads, problems

    def verify(self) -> list[str]:
        """What is wrong, one sentence each, at most 100; empty when no entry was changed, removed, inserted or cut off."""
        heads, problems = self.heads()
        if not heads and not problems and self._store.audit_head()[0]:
            problems.append(f"{HEADS} is missing: nothing proves that the log was not written anew")
        signed: dict[int, set[str]] = {}
        for head in heads:
            signed.setdefault(head.number, set()).add(head.hash)
        previous, expected = BEGINNING, 0
        for number, body, digest in pages(self._store.audit_rows):
            expected += 1
            if number != expected:
                problems.append(f"entries {expected} to {number - 1} are missing")
                expected = number
            if chained(previous, body) != digest:
                problems.append(f"entry {number} is not what was written, or does not follow on the one before it")
            try:
                if from_canonical(body).number != number:
                    problems.append(f"entry {number} was entry {from_canonical(body).number} when it was written")
            except msgspec.MsgspecError:
                problems.append(f"entry {number} cannot be read")
            if signed.get(number, {digest.hex()}) != {digest.hex()}:
                problems.append(f"the log was rewritten: entry {number} is not the one a signed head names")
            previous = digest
            if len(problems) >= _MOST:
                return problems
        if heads and max(signed) > expected:
            problems.append(f"the log ends at entry {expected}; a signed head names entry {max(signed)}")
        return problems
