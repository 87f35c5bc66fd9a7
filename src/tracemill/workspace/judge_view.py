"""What of stored records a judge on another machine is shown: of whom it may be, and redacted for the purpose ``evaluate``."""

from __future__ import annotations

from collections.abc import Sequence

from tracemill.core.records import Decision, Interaction, Purpose
from tracemill.core.settings import Settings
from tracemill.dataset.redaction import Redacts, task_scope
from tracemill.privacy.consent import Consents, read_consents
from tracemill.privacy.policies import exactly
from tracemill.store.base import Store

PURPOSE: Purpose = "evaluate"


class JudgeView:
    """One store as the judge may see it. Without a redactor, records are shown as they are stored."""

    def __init__(self, store: Store, settings: Settings, redactor: Redacts | None) -> None:
        self.policy = "" if redactor is None else exactly(redactor.policy)
        """The policy's name, version and digest; empty without one."""
        self._store, self._redactor = store, redactor
        self._default = settings.consent_defaults.get(PURPOSE, "granted")
        self._seen = -1
        self._consents = Consents((), PURPOSE, self._default)

    def denies(self, record: Interaction) -> bool:
        """Whether its person does not allow it, by all that is stored now: a run may take days. Raises StoreError."""
        place = self._store.watermark()
        if place != self._seen:
            if self._seen < 0 or self._store.consents(("store", PURPOSE), after=self._seen, up_to=place):
                self._consents = read_consents(self._store, PURPOSE, self._default, up_to=place)
            self._seen = place
        return self._consents.denies(record)

    def one(self, record: Interaction, decisions: Sequence[Decision]) -> tuple[Interaction, list[Decision]]:
        """An interaction with the decisions made in it: what any of them gives away is replaced in all.

        Raises RecordError for what cannot be redacted.
        """
        if self._redactor is None:
            return record, list(decisions)
        scope = task_scope(record) or self._redactor.scope(record)
        new = self._redactor.together([record, *decisions], scope=scope)
        first, *others = new
        assert isinstance(first, Interaction)
        return first, [other for other in others if isinstance(other, Decision)]

    def pair(self, records: Sequence[Interaction]) -> list[Interaction]:
        """Trials of one task: the same person has the same invented name in all of them. Raises RecordError."""
        if self._redactor is None or not records:
            return list(records)
        scope = task_scope(records[0]) or self._redactor.scope(records[0])
        return [new for new in self._redactor.together(records, scope=scope) if isinstance(new, Interaction)]
