"""The rule that leaves out what holds, or held before it was redacted, something that must not be trained on."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from tracemill.core.errors import RecipeError
from tracemill.core.policy import Policy, noted_kinds
from tracemill.core.records import Interaction
from tracemill.core.steps import KEEP, Drop, Verdict
from tracemill.dataset.rules import NamedStep
from tracemill.privacy.policies import need_packages

if TYPE_CHECKING:
    from tracemill.privacy.redact import Redactor

_LOOKING = Policy(name="looking", version=1)
_NO_KEY = bytes(32)  # nothing is made with it: what is found is only counted


class PrivacyViolations(NamedStep, frozen=True):
    """Drop (``privacy_violation``) what holds something of these kinds, or groups of kinds.

    What redaction took out before counts too, as the record's marks say. Needs ``tracemill[privacy]``.
    """

    kinds: tuple[str, ...] = ("secret",)
    action: Literal["drop"] = "drop"

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        wanted = _kinds(self.kinds)
        if noted_kinds(interaction.extra) & wanted or _redactor().kinds(interaction) & wanted:
            return Drop("privacy_violation")
        return KEEP


@cache
def _redactor() -> Redactor:
    need_packages()
    from tracemill.privacy.redact import Redactor  # noqa: PLC0415 - heavy, and an optional part

    return Redactor(_LOOKING, _NO_KEY)


@cache
def _kinds(names: tuple[str, ...]) -> frozenset[str]:
    """Kinds with those of the groups that are named. Raises RecipeError for a name that is neither."""
    need_packages()
    from tracemill.privacy.detect import GROUPS  # noqa: PLC0415 - heavy, and an optional part

    unknown = set(names) - GROUPS.keys() - set(GROUPS.values())
    if unknown:
        raise RecipeError(
            f"privacy_violations: {min(unknown)!r} is no kind and no group", hint="docs/privacy.md lists them."
        )
    return frozenset(kind for kind, group in GROUPS.items() if kind in names or group in names)
