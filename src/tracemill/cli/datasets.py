"""Commands about dataset versions and their exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import Options, emit_json, progress, say, table

if TYPE_CHECKING:
    from tracemill.core.examples import SplitShare
    from tracemill.dataset.recipe import Recipe
    from tracemill.dataset.version import Version
    from tracemill.export.write import ExportReport

_FORMATS = (
    "openai-chat, openai-preference, trl-sft, trl-prompt-completion, trl-dpo, trl-kto, sharegpt, sharegpt-preference, "
    "sharegpt-kto, alpaca, axolotl, gemini, mistral, together, together-preference, embedding-pairs, embedding-triplets, "
    "atif, trajectory-preference, next-action, agent-execution, conversation-example, reward, retrieval-pairs, "
    "retrieval-triplets"
)
"""Written out, so that the command line starts without what makes rows; a test compares it with what there is."""
Reference = Annotated[str, typer.Argument(help="name, or name@v2.")]


def build(
    context: typer.Context,
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe (YAML); without one, every signal of every record.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the dataset where no recipe is given (default: the package's, or default)."),
    ] = None,
    package: Annotated[str | None, typer.Option(help="A ready recipe: see `tracemill dataset packages`.")] = None,
    domain: Annotated[str | None, typer.Option(help="With a package: only what is of this domain.")] = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Build a dataset version. The same records and recipe give the same version again."""
    from tracemill.workspace.describing import state

    options = options_of(context, workspace, json)
    chosen = _recipe(recipe, name, package, domain)
    with open_workspace(options) as opened, progress(options) as shown:
        built = opened.build_dataset(chosen, progress=shown)
        standing = state(built.version, opened.datasets(built.version.name))
    if options.json:
        emit_json({"new": built.new, **_plain(built.version, standing)})
    words = "" if standing["current"] else f" ({', '.join(standing['words']) or 'not current'})"
    said = "is new" if built.new else "was there already"
    say(options, f"{built.version.reference} {said}{words}: {built.version.path}")
    _show(options, built.version)


def _recipe(file: Path | None, name: str | None, package: str | None, domain: str | None) -> Recipe:
    """The recipe that the options of a build mean. Raises RecipeError."""
    from tracemill.core.errors import RecipeError
    from tracemill.dataset.packages import package_recipe
    from tracemill.dataset.recipe import default_recipe, load_recipe

    if package is not None and file is not None:
        raise RecipeError("a recipe and --package were given", hint="Give one of the two.")
    if package is None and domain is not None:
        raise RecipeError("--domain restricts a package", hint="Give --package, or the step `domain` in the recipe.")
    if package is not None:
        return package_recipe(package, domain=domain, dataset=name)
    return load_recipe(file) if file is not None else default_recipe(name or "default")


def list_(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only versions of this dataset.")] = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """List dataset versions."""
    options = options_of(context, workspace, json)
    from tracemill.workspace.describing import states

    with open_workspace(options) as opened:
        versions = states(opened.datasets(name))
    if options.json:
        emit_json([_plain(version, state) for version, state in versions])
    if versions:
        rows = [
            [v.reference, v.count(), v.manifest.records_read, v.manifest.recipe_hash[:12], ", ".join(state["words"])]
            for v, state in versions
        ]
        table(options, "", ["version", "examples", "records read", "recipe", "state"], rows)
    else:
        say(options, "There is no dataset yet: `tracemill dataset build`.")


def show(context: typer.Context, reference: Reference, workspace: Folder = None, json: Json = False) -> None:
    """Show what a version holds, what was left out and why, how it stands and which documents it carries."""
    from tracemill.workspace.describing import state

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        version = opened.dataset(reference)
        standing = state(version, opened.datasets(version.name))
    if options.json:
        emit_json(_plain(version, standing))
    words = ", ".join(standing["words"])
    say(options, f"{version.reference}: {version.path}{f' ({words})' if words else ''}")
    _show(options, version)
    if version.manifest.documents and version.tombstone is None:
        say(options, f"documents: {', '.join(file.path for file in version.manifest.documents)}")


def verify(context: typer.Context, reference: Reference, workspace: Folder = None, json: Json = False) -> None:
    """Check a version's files against its manifest."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        version = opened.dataset(reference)
        problems = version.verify()
    if options.json:
        emit_json({"version": version.reference, "ok": not problems, "problems": problems})
    for problem in problems:
        say(options, problem)
    if problems:
        raise typer.Exit(1)
    documents = len(version.manifest.documents)
    say(
        options,
        f"{version.reference} has no rows any more, as its tombstone says."
        if version.tombstone is not None
        else f"{version.reference} is whole: {len(version.manifest.files)} files, {documents} documents, "
        f"{version.count():,} examples.",
    )


def export(
    context: typer.Context,
    reference: Reference,
    format: Annotated[str, typer.Option(help=f"One of: {_FORMATS}.")],  # noqa: A002
    to: Annotated[Path | None, typer.Option(help="Folder to write (default: exports/ in the workspace).")] = None,
    container: Annotated[
        str, typer.Option(help="Files: jsonl, jsonl.gz, jsonl.zst, parquet, csv or tfrecord.")
    ] = "jsonl",
    shard_mb: Annotated[
        float | None, typer.Option(help="Begin another file after this many MB of rows (default: one file a split).")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Of a version in folds: this one is test, the others train.")] = None,
    columns: Annotated[
        str, typer.Option(help="Features that rows have too, with commas between, or all (see docs/datasets.md).")
    ] = "",
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="A model's tokenizer (a folder): count tokens, check chat template and loss mask."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="List rows that a trainer cuts off at this many tokens.")
    ] = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Write a dataset version in a trainer's format; every row is read back and checked."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, progress(options) as shown:
        size = None if shard_mb is None else int(shard_mb * 1_000_000)
        named = [name.strip() for name in columns.split(",") if name.strip()]
        report = opened.export(
            reference,
            format,
            to,
            container=container,
            shard_bytes=size,
            fold=fold,
            columns=named,
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            progress=shown,
        )
    plain = msgspec.to_builtins(report.manifest)
    if options.json:
        emit_json({"path": str(report.path), "resumed": report.resumed, **plain})
    rows = ", ".join(f"{number:,} {split}" for split, number in report.manifest.rows.items()) or "no rows"
    say(options, f"Wrote {rows} to {report.path}.")
    if report.resumed:
        say(
            options,
            f"{report.resumed:,} of the files were there already: an export that was interrupted had finished them.",
        )
    _show_sizes(options, report)
    for name in ("refused", "losses"):
        counted = plain.get(name)
        if counted:
            say(options, f"{name}: {_counts(counted)}; row by row in {report.path / 'losses.jsonl'}")


def _show_sizes(options: Options, report: ExportReport) -> None:
    """Rows, files and bytes by split; then tokens."""
    sizes = []
    for split, number in report.manifest.rows.items():
        files = report.files(split)
        sizes.append([split, number, len(files), sum(file.bytes for file in files)])
    if sizes:
        table(options, "", ["split", "rows", "files", "bytes"], sizes)
    tokens = report.manifest.tokens
    if tokens is not None:
        columns = ["split", "tokens", "of the loss", "longest", "over limit", "refused"]
        lines = [
            [split, counts.tokens, counts.loss_tokens, counts.longest, counts.over, counts.unread]
            for split, counts in tokens.splits.items()
        ]
        table(options, "", columns, lines)


def _counts(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{number:,} {reason}" if isinstance(number, int) else f"{reason}: {number}"
            for reason, number in value.items()
        )
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(version: Version, state: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: state[name] for name in ("current", "proposal", "tombstone")},
        "reference": version.reference,
        "path": str(version.path),
        "manifest": msgspec.to_builtins(version.manifest),
    }


def _show(options: Options, version: Version) -> None:
    manifest = version.manifest
    rows = [
        [split, tag, number]
        for split, types in sorted(manifest.examples.items())
        for tag, number in sorted(types.items())
    ]
    if rows:
        table(options, "", ["split", "examples", "rows"], rows)
    _show_shares(options, manifest.shares)
    if manifest.features:
        described = [[name, column.kind, column.meaning] for name, column in manifest.features.items()]
        table(options, "", ["feature", "kind", "meaning"], described)
    for title, counted in (("left out", manifest.drops), ("changed", manifest.changes)):
        if counted:
            table(options, "", [title, "number"], [[reason, number] for reason, number in sorted(counted.items())])
    for note in manifest.notes:
        say(options, f"note: {note}")


def _show_shares(options: Options, shares: dict[str, SplitShare]) -> None:
    """What each split got of the interactions, and of each stratum where there are strata."""
    if not any(share.interactions for share in shares.values()):
        return
    rows = [
        [
            name,
            share.groups,
            share.interactions,
            f"{share.share:.1%}",
            "" if share.wanted is None else f"{share.wanted:.1%}",
            "" if share.begins is None else f"{share.begins:%Y-%m-%d %H:%M}",
        ]
        for name, share in shares.items()
    ]
    table(options, "", ["split", "groups", "interactions", "share", "asked for", "begins"], rows)
    strata = sorted({stratum for share in shares.values() for stratum in share.strata})
    if strata:
        held = [[stratum, *(share.strata.get(stratum, 0) for share in shares.values())] for stratum in strata]
        table(options, "", ["interactions of", *shares], held)
