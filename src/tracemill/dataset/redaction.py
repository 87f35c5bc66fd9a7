"""Redaction at build: the policy of a dataset's purpose over an interaction, its steps, and all that was said of it.

They are read together, so that a name that only the interaction gives away is replaced in a correction too, and the other way
round. Within a task all trials have the same invented names, that they can be compared; without one, each conversation has its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec

from tracemill.core.errors import DatasetError
from tracemill.core.examples import RedactionUsed
from tracemill.core.policy import Policy, RedactionNote
from tracemill.core.records import AnyRecord, Decision, Interaction, Step
from tracemill.dataset.history import content_digest
from tracemill.dataset.recipe import Recipe
from tracemill.feedback.attach import Attached
from tracemill.privacy.policies import exactly

Get = Callable[[str], AnyRecord | None]


class Redacts(Protocol):
    """What a policy is applied with, such as :class:`tracemill.privacy.redact.Redactor`."""

    policy: Policy

    def together(self, records: Sequence[AnyRecord], *, scope: str) -> list[AnyRecord]:
        """Records of one conversation, redacted; in the order given. Raises RecordError."""

    def scope(self, record: AnyRecord) -> str:
        """What a record belongs to, as redacted records say it."""

    def notes(self, record: AnyRecord) -> list[RedactionNote]:
        """What was done to a record, by whoever has the same key."""


def redacted(
    redactor: Redacts, interaction: Interaction, attached: Attached, get: Get
) -> tuple[Interaction, Attached, Get, list[str]]:
    """An interaction, what belongs to it, what gives what was said of it, redacted; and what was changed (``privacy.email``).

    Raises RecordError for a record that cannot be redacted.
    """
    said = [record for identity in attached.corrections() if (record := get(identity)) is not None]
    scope = task_scope(interaction) or redactor.scope(interaction)
    records: list[AnyRecord] = [interaction, *said, *attached.steps, *attached.decisions]
    new = redactor.together(records, scope=scope)
    first = new[0]
    assert isinstance(first, Interaction)
    kinds: set[str] = set()
    for before, after in zip(records, new, strict=True):
        if after is not before:
            known = len(redactor.notes(before))
            kinds.update(note.kind for note in redactor.notes(after)[known:] if note.action != "keep")
    corrections = {record.id: record for record in new[1 : 1 + len(said)]}
    steps = tuple(record for record in new if isinstance(record, Step))
    decisions = tuple(record for record in new if isinstance(record, Decision))

    def get_redacted(identity: str) -> AnyRecord | None:
        record = corrections.get(identity) or get(identity)
        return None if record is None else redactor.together([record], scope=scope)[0]

    clean = replace(attached, steps=steps, decisions=decisions) if steps or decisions else attached
    return first, clean, get_redacted, [f"privacy.{kind}" for kind in sorted(kinds)]


def task_scope(interaction: Interaction) -> str | None:
    """What all trials of one task have in common; None without a task."""
    if interaction.task_id is None:
        return None
    return "task " + content_digest(interaction.platform, interaction.task_id).hex()


def pinned(recipe: Recipe, redactor: Redacts | None) -> Recipe:
    """The recipe with the very policy it is built with, version and digest, so that its hash changes when that does.

    Raises DatasetError where it asks for a policy and there is none to apply.
    """
    if redactor is not None:
        return msgspec.structs.replace(recipe, redaction=exactly(redactor.policy))
    if recipe.redaction:
        raise DatasetError(
            f"the recipe asks for redaction by {recipe.redaction}, and there is nothing here that redacts",
            hint="Build it through a workspace, or give a redactor.",
        )
    return recipe


def used(redactor: Redacts | None) -> RedactionUsed | None:
    """What a manifest says of it."""
    if redactor is None:
        return None
    policy = redactor.policy
    return RedactionUsed(policy=policy.name, version=policy.version, digest=policy.digest())
