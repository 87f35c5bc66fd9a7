"""What a workspace redacts with: its policies, its key, and the gate of its store."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.core.errors import RecordError
from tracemill.core.policy import Policy
from tracemill.core.records import AnyRecord, Purpose
from tracemill.core.redaction_key import load_redaction_key
from tracemill.core.settings import Settings
from tracemill.dataset.recipe import Recipe
from tracemill.feedback.attach import join_keys
from tracemill.privacy.gate import RedactionGate
from tracemill.privacy.policies import Policies, load_policies, need_packages
from tracemill.sdk.background import OpenRedaction

if TYPE_CHECKING:
    from tracemill.privacy.redact import Redactor


class Redacting:
    """The redaction of one workspace. Nothing heavy is loaded before the first record is redacted.

    Raises SettingError for a policy there is none of, and where the packages that find personal data are not installed:
    what asks for redaction must not go on without.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self.stored: Policy | None = None
        """The policy for what is stored."""
        self.gate: RedactionGate | None = None
        if settings.redaction:
            need_packages()
            policy = self.stored = self.policies.find(settings.redaction)
            self.gate = RedactionGate(lambda: self.redactor(policy), join_keys)

    @cached_property
    def policies(self) -> Policies:
        """Every policy there is. Raises SettingError."""
        return load_policies(self._settings)

    def redactor(self, policy: Policy) -> Redactor:
        """A redactor of a policy under the workspace's key. Raises SettingError."""
        need_packages()
        from tracemill.privacy.redact import Redactor  # noqa: PLC0415 - heavy, and an optional part

        return Redactor(policy, load_redaction_key(self._path))

    def of_recipe(self, recipe: Recipe) -> Redactor | None:
        """What a recipe's dataset is redacted with: the policy it names, else that of its purpose. Raises SettingError."""
        reference = recipe.redaction if recipe.redaction is not None else self.policies.purposes.get(recipe.purpose)
        return self.redactor(self.policies.find(reference)) if reference else None

    def of_purpose(self, purpose: Purpose) -> Redactor | None:
        """What is redacted with that leaves for a purpose; None where no policy is named for it. Raises SettingError."""
        reference = self.policies.purposes.get(purpose)
        return self.redactor(self.policies.find(reference)) if reference else None

    def open_in_process(self) -> OpenRedaction | None:
        """What a client redacts with before it spools, where the settings ask for that."""
        gate = self.gate
        if gate is None or not self._settings.redact_in_process:
            return None

        def redact(item: bytes) -> bytes:
            (new,) = gate.clean([item], lambda _ids: {})
            if isinstance(new, RecordError):
                raise new
            return new

        return lambda: redact

    def record(self, record: AnyRecord) -> AnyRecord:
        """A record as it may be written beside the store; itself while redaction is off. Raises RecordError."""
        return record if self.gate is None else self.gate.record(record)

    def link(self, value: str) -> str:
        """A conversation's id as it stands in stored records."""
        return value if self.gate is None else self.gate.redactor.link(value)
