"""Commands that show the redaction policies there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, options_of, settings_of
from tracemill.cli.output import emit_json, say, table

if TYPE_CHECKING:
    from tracemill.core.policy import Policy
    from tracemill.privacy.policies import Policies


def list_(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """List the redaction policies, built in and of the file that the setting `policies` names, and what uses them."""
    options = options_of(context, workspace, json)
    settings = settings_of(options)
    from tracemill.privacy.policies import POLICIES, load_policies

    policies = load_policies(settings)
    stored = policies.find(settings.redaction) if settings.redaction else None
    document: list[dict[str, Any]] = [
        {
            "name": policy.name,
            "version": policy.version,
            "digest": policy.digest(),
            "built_in": policy.name in POLICIES,
            "scope": policy.scope,
            "used_for": _uses(policies, policy, stored),
        }
        for policy in policies.listed()
    ]
    if options.json:
        emit_json(document)
        return
    columns = ["policy", "version", "digest", "scope", "used for"]
    rows = [[one["name"], one["version"], one["digest"], one["scope"], ", ".join(one["used_for"])] for one in document]
    table(options, "", columns, rows)
    if stored is None:
        say(options, "Records are stored as they come: the setting redaction is empty.")


def show(
    context: typer.Context,
    policy: Annotated[str, typer.Argument(help="Its name, or name@version.")],
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Show what a redaction policy does to every kind of personal data and secret."""
    options = options_of(context, workspace, json)
    settings = settings_of(options)
    from tracemill.privacy.policies import load_policies, need_packages

    found = load_policies(settings).find(policy)
    need_packages()
    from tracemill.privacy.detect import GROUPS

    kinds = sorted(GROUPS.items(), key=lambda one: (one[1], one[0]))
    if options.json:
        effective = {kind: found.action(kind, group) for kind, group in kinds}
        emit_json({**msgspec.to_builtins(found), "digest": found.digest(), "kinds": effective})
        return
    by_action: dict[tuple[str, str], list[str]] = {}
    for kind, group in kinds:
        by_action.setdefault((group, found.action(kind, group)), []).append(kind)
    rows: list[list[Any]] = [[group, action, ", ".join(names)] for (group, action), names in by_action.items()]
    table(options, f"{found.name}@{found.version}, digest {found.digest()}", ["group", "action", "kinds"], rows)
    say(options, f"Within a {found.scope} a value is always replaced alike. Findings below {found.threshold:g} stay.")


def _uses(policies: Policies, policy: Policy, stored: Policy | None) -> list[str]:
    """What a policy is used for by the settings and the file."""
    uses = ["store"] if policy == stored else []
    return uses + [purpose for purpose, name in sorted(policies.purposes.items()) if policies.find(name) == policy]
