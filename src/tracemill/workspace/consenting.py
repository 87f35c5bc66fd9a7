"""Consent over a workspace: given and withdrawn, looked up, and asked before anything leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from tracemill.core.consent import Default
from tracemill.core.errors import StoreError
from tracemill.core.ids import new_id, now
from tracemill.core.records import SCHEMA_VERSION, Consent, Purpose, User
from tracemill.core.settings import Settings
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.privacy import withdrawn
from tracemill.privacy.audit import AuditLog
from tracemill.privacy.consent import (
    Standing,
    digest_of,
    gpc_consents,
    standing,
    withdrawn_sources,
)
from tracemill.privacy.erase import RECEIPTS
from tracemill.store.base import Said
from tracemill.store.consents import PURPOSES
from tracemill.store.tiered import TieredStore
from tracemill.workspace.erasing import person_hash

PRODUCER = "consent"


class Consenting:
    """What people allow, over one workspace."""

    def __init__(self, path: Path, settings: Settings, store: TieredStore, log: AuditLog) -> None:
        self._path, self._store, self._log = path, store, log
        self._defaults: Mapping[Purpose, Default] = settings.consent_defaults

    def say(
        self,
        user: User,
        purpose: Purpose,
        *,
        granted: bool,
        actor: str,
        platform: str | None = None,
        basis: str | None = None,
        policy_version: str | None = None,
        source: str | None = None,
    ) -> Consent:
        """Store that a person allows or withdraws a purpose, on a platform or on all.

        A withdrawal is written down beside the receipts too. Raises StoreError, OSError.
        """
        record = Consent(
            id=new_id(),
            time=now(),
            schema_version=SCHEMA_VERSION,
            producer=PRODUCER,
            sequence=0,
            user=user,
            purpose=purpose,
            granted=granted,
            platform=platform,
            basis=basis,
            policy_version=policy_version,
            source=source,
        )
        result = self._store.append([record])
        if result.refused:
            raise StoreError(f"the consent was not stored: {result.refused[0].message}")
        self.note(record, actor=actor)
        return record

    def note(self, record: Consent, *, actor: str) -> None:
        """Note a stored consent in the audit log, and a withdrawal beside the receipts. Raises StoreError, OSError."""
        if not record.granted:
            withdrawn.append(self._path / RECEIPTS, self._of(record.user, record.purpose))
        self._log.record(
            "consent.grant" if record.granted else "consent.withdraw",
            person_hash(record.user.pseudonym),
            actor=actor,
            purpose=record.purpose,
            platform=record.platform or "",
            record=record.id,
        )

    def honour_gpc(self, user: User, platform: str | None, *, actor: str) -> list[Consent]:
        """Store what the signal Global Privacy Control says for a person, where they have said nothing yet."""
        said = [one for purpose in PURPOSES for one in self._of(user, purpose)]
        records = gpc_consents(user, said, now(), platform)
        if records:
            result = self._store.append(records)
            refused = {refusal.index for refusal in result.refused}  # another request was first
            records = [record for at, record in enumerate(records) if at not in refused]
            for record in records:
                self.note(record, actor=actor)
        return records

    def _of(self, user: User, purpose: Purpose) -> list[Said]:
        return self._store.consents_of([digest_of(user)], purpose)

    def standing(self, pseudonym: str) -> list[Standing]:
        """What holds for a person, for every purpose."""
        return standing(self._store, pseudonym, self._defaults)

    def counts(self) -> list[tuple[Purpose, str, int, int]]:
        """For every purpose and platform that anybody named: how many people allow it, and how many do not."""
        newest: dict[tuple[Purpose, str, bytes], Said] = {}
        for one in self._store.consents(PURPOSES):
            key = one.purpose, one.platform, one.person
            if key not in newest or newest[key][:2] < one[:2]:
                newest[key] = one
        keys = sorted({key[:2] for key in newest}, key=lambda key: (PURPOSES.index(key[0]), key[1]))
        return [
            (
                purpose,
                platform,
                sum(one.granted for key, one in newest.items() if key[:2] == (purpose, platform)),
                sum(not one.granted for key, one in newest.items() if key[:2] == (purpose, platform)),
            )
            for purpose, platform in keys
        ]

    def recipe(self, recipe: Recipe) -> Recipe:
        """A recipe with the default of the settings for its purpose, where that is stricter than its own."""
        if self.default(recipe.purpose) == "denied" and recipe.consent_default == "granted":
            return msgspec.structs.replace(recipe, consent_default="denied")
        return recipe

    def default(self, purpose: Purpose) -> Default:
        """What holds for people who said nothing of a purpose."""
        return self._defaults.get(purpose, "granted")

    def withdrawn(self, version: Version) -> dict[str, str]:
        """Records a version was made of that may not be used for its purpose any more, each with the reason."""
        plain = version.manifest.recipe
        purpose: Purpose = plain.get("purpose", "train")
        before: Default = plain.get("consent_default", "granted")
        default: Default = "denied" if "denied" in (before, self.default(purpose)) else "granted"
        ids = (fate.id for fate in version.fates() if fate.examples)
        after = version.build_record().watermark
        return withdrawn_sources(self._store, ids, purpose, default, after=after, before=before)

    def agree(self) -> int:
        """After the database was restored from a backup: set the withdrawals again that it has lost; how many."""
        lost = withdrawn.agree(self._store, self._path / RECEIPTS)
        if lost:
            self._log.record("consent.again", actor="maintenance", withdrawals=lost)
        return lost
