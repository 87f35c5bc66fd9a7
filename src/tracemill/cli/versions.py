"""Commands about how dataset versions change: what is different, what waits, which one is current."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import Options, emit_json, progress, say, table

if TYPE_CHECKING:
    from tracemill.dataset.diff import Changes, RowChange
    from tracemill.workspace.proposing import Proposed

Waiting = Annotated[str, typer.Argument(help="name@v2.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]


def diff(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="name, or name@v1.")],
    after: Annotated[str, typer.Argument(help="name, or name@v2.")],
    rows: Annotated[bool, typer.Option("--rows", help="List every row that changed, too.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Show what changed between two versions: rows and why, splits, recipe, numbers."""
    options = options_of(context, workspace, json)
    changed: list[RowChange] = []
    with open_workspace(options) as opened, progress(options) as shown:
        changes = opened.proposing.compare(
            *(opened.dataset(before), opened.dataset(after)), on_row=changed.append if rows else None, progress=shown
        )
    if options.json:
        emit_json({**_plain(changes), **({"rows": msgspec.to_builtins(changed)} if rows else {})})
    _show(options, changes)
    if changed:
        listed = [[row.change, row.id, row.type, row.before or "", row.after or "", row.reason] for row in changed]
        table(options, "", ["row", "id", "type", "before", "after", "reason"], listed)


def history(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Show the versions of a dataset, oldest first, each with what changed since the one before it."""
    from tracemill.workspace.describing import version_history

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, progress(options) as shown:
        entries = version_history(opened, name, shown)
    if options.json:
        emit_json(entries)
    rows = [
        [
            *(entry["reference"], entry["built"] or "–", entry["rows"]),
            *("–" if entry[name] is None else f"{entry[name]:,}" for name in ("added", "dropped", "moved")),
            *(", ".join(entry["recipe"]), ", ".join(entry["state"])),
        ]
        for entry in entries
    ]
    if rows:
        table(options, "", ["version", "built", "rows", "added", "dropped", "moved", "recipe changed", "state"], rows)
    else:
        say(options, f"There is no dataset {name}.")


def propose(
    context: typer.Context,
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe (YAML), with its gates; without one, every signal of every record.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset, in place of the recipe's.")] = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Build a version that is not current until somebody approves it, and check its gates."""
    from tracemill.dataset.recipe import default_recipe, load_recipe

    options = options_of(context, workspace, json)
    chosen = load_recipe(recipe) if recipe is not None else default_recipe()
    if name is not None:
        chosen = msgspec.structs.replace(chosen, name=name)
    with open_workspace(options) as opened, progress(options) as shown:
        proposed = opened.propose_dataset(chosen, progress=shown)
    _proposed(options, proposed, f"{proposed.version.reference} waits for approval: {proposed.version.path}")


def approve(
    context: typer.Context,
    reference: Waiting,
    reason: Reason = "",
    override: Annotated[
        bool, typer.Option("--override", help="Approve though a gate does not hold; needs --reason.")
    ] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Make a version that waits the current one, after its gates were checked again."""
    from tracemill.workspace import local_actor

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, progress(options) as shown:
        done = opened.proposing.approve(
            reference, actor=local_actor(), reason=reason, override=override, progress=shown
        )
    _proposed(options, done, f"{done.version.reference} is the current version of {done.version.name}.")


def refuse(
    context: typer.Context, reference: Waiting, reason: Reason, workspace: Folder = None, json: Json = False
) -> None:
    """Refuse a version that waits. It stays, and is never the current one."""
    from tracemill.workspace import local_actor

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        done = opened.proposing.refuse(reference, actor=local_actor(), reason=reason)
    _proposed(options, done, f"{done.version.reference} was refused.")


def rollback(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    to: Annotated[str, typer.Option(help="Version to make the current one: v2.")],
    reason: Reason = "",
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Make another version the current one. No version changes or goes; the next new build is current again."""
    from tracemill.workspace import local_actor

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        version = opened.proposing.rollback(name, to, actor=local_actor(), reason=reason)
    if options.json:
        emit_json({"current": version.reference, "path": str(version.path)})
    say(options, f"{version.reference} is the current version of {name}: {version.path}")


def _proposed(options: Options, proposed: Proposed, sentence: str) -> None:
    if options.json:
        emit_json(
            {
                "reference": proposed.version.reference,
                "path": str(proposed.version.path),
                "proposal": msgspec.to_builtins(proposed.proposal),
                "changes": None if proposed.changes is None else _plain(proposed.changes),
            }
        )
    say(options, sentence)
    if proposed.proposal.gates:
        marks = [["passed" if gate.passed else "FAILED", gate.name, gate.detail] for gate in proposed.proposal.gates]
        table(options, "", ["gate", "", "what was found"], marks)
    if proposed.changes is not None:
        _show(options, proposed.changes)


def _plain(changes: Changes) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(changes)
    return plain


def _show(options: Options, changes: Changes) -> None:
    say(
        options,
        f"From {changes.before} ({changes.records_before:,} records) to {changes.after} ({changes.records_after:,} records):",
    )
    if not changes.compared:
        say(options, "The rows of one of them were erased: only the counts of the manifests can be told.")
    counted = [
        [tag, each.before, each.after, each.kept, each.added, each.dropped, each.moved]
        for tag, each in changes.examples.items()
    ]
    if counted:
        table(options, "", ["rows", "before", "after", "kept", "added", "dropped", "moved"], counted)
    for title, found in (("dropped", changes.dropped), ("added", changes.added), ("moved", changes.moved)):
        if found:
            table(options, "", [title, "rows"], [[reason, number] for reason, number in found.items()])
    recipe = [
        *(["added", place, _short(value)] for place, value in changes.recipe.added.items()),
        *(["removed", place, _short(value)] for place, value in changes.recipe.removed.items()),
        *(
            ["changed", place, f"{_short(old)} → {_short(new)}"]
            for place, (old, new) in changes.recipe.modified.items()
        ),
    ]
    if recipe:
        table(options, "", ["recipe", "field", "value"], recipe)
    numbers = [
        [drift.name, _number(drift.before), _number(drift.after), _number(drift.size)]
        for drift in changes.numbers
        if drift.notable
    ]
    if numbers:
        table(options, "", ["number that moved", "before", "after", "size"], numbers)


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:59] + "…"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
