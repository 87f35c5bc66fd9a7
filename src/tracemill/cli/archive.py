"""Commands that move old records out of the database, look after the archive, and keep a workspace in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, moment_of, open_workspace, options_of
from tracemill.cli.output import Options, emit_json, gentle_progress, say, table
from tracemill.core.errors import SettingError

if TYPE_CHECKING:
    from tracemill.store.archiving import ArchiveReport

Platforms = Annotated[list[str] | None, typer.Option("--platform", help="Only this platform; may be given again.")]


def run(
    context: typer.Context,
    days_old: Annotated[
        int | None, typer.Option(min=0, help="Move what is older than so many days (default: as the settings say).")
    ] = None,
    platform: Platforms = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved.")] = False,
    stats_only: Annotated[
        bool, typer.Option("--stats-only", help="Move nothing: show what is where, and costs.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Name every object written, and what was passed over.")
    ] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Move old records from the database into the archive. Safe to stop and to run again, also many at once."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        report = None
        if not stats_only:
            with gentle_progress(options) as shown:
                report = opened.archive(days_old=days_old, platforms=platform or [], dry_run=dry_run, progress=shown)
        statistics = opened.storage_statistics()
        if options.json:
            emit_json({"archive": None if report is None else report.to_plain(), "statistics": statistics})
            return
        if report is not None:
            _show(options, report, verbose=verbose)
        show_statistics(options, statistics)
        if report is not None and not dry_run:
            say(options, f"Logged in {Path(opened.path) / 'archive.log'}.")


def _show(options: Options, report: ArchiveReport, *, verbose: bool) -> None:
    verb = "Would move" if report.dry_run else "Moved"
    say(options, f"{verb} {report.records:,} records to {report.location}" + _pace(report) + ".")
    rows: list[list[Any]] = []
    for name, own in sorted(report.platforms.items()):
        ratio = f"1/{own.raw_bytes / own.stored_bytes:.1f}" if own.stored_bytes else ""
        sizes = [_size(own.raw_bytes), _size(own.hot_bytes), _size(own.stored_bytes) if own.stored_bytes else ""]
        rows.append([name or "(none)", own.records, *sizes, ratio, own.objects])
    if rows:
        columns = ["platform", "records", "raw", "database", "archive", "of raw", "objects"]
        table(options, "", columns, rows)
    if report.merged:
        say(options, f"Merged {report.merged:,} small objects.")
    if report.cleaned:
        say(options, f"Removed {report.cleaned:,} objects that an earlier run left behind.")
    if verbose:
        for key in report.objects:
            say(options, f"  wrote {key}")
    for reason in report.skipped if verbose or report.skipped else []:
        say(options, f"  passed over {reason}")


def _pace(report: ArchiveReport) -> str:
    if report.dry_run or not report.records or not report.seconds:
        return ""
    return f" in {report.seconds:.1f} s ({report.records / report.seconds:,.0f} records/s)"


def show_statistics(options: Options, found: dict[str, Any]) -> None:
    """What is where and what it costs, as tables."""
    overview, storage, costs, savings = (found[name] for name in ("overview", "storage", "costs", "savings"))
    rows = [
        ["database", overview["active_records"], storage["hot_human"], _usd(costs["hot_monthly_usd"])],
        ["archive", overview["archived_records"], storage["cold_human"], _usd(costs["cold_monthly_usd"])],
    ]
    table(options, "", ["where", "records", "size", "USD a month"], rows)
    names = costs["prices"]
    dated = ", ".join(sorted({day for day in names["dated"].values() if day}))
    say(
        options,
        f"Reckoned at the list prices of {names['hot']} and {names['cold']} ({dated}); docs/costs.md says more.",
    )
    if overview["archived_records"]:
        without = _usd(costs["without_archive_monthly_usd"])
        days = savings["break_even_days"]
        even = "" if days is None else f"; moving has paid for itself after {days:g} days"
        saved = f"${_usd(savings['monthly_usd'])} a month ({savings['percentage']:g} %)"
        say(options, f"Without the archive: ${without} a month. It saves {saved}{even}.")
    ready = {line for own in found["training_readiness"].values() for line in own["recommendations"]}
    for advice in found["recommendations"]:
        if advice.partition(": ")[2] not in ready:  # `tracemill readiness` says those
            say(options, f"  {advice}")


def _usd(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.6f}".rstrip("0").rstrip(".") or "0"


def _size(number: int) -> str:
    from tracemill.insight.storage import human

    return human(number)


def list_(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Print the archive's objects as the catalogue knows them."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        files = opened.store.archived_files()
    if options.json:
        emit_json([_object(file) for file in files])
        return
    if not files:
        say(options, "Nothing is archived.")
        return
    rows = [
        [file.object_key, file.records, _size(file.stored_bytes), f"1/{file.raw_bytes / max(1, file.stored_bytes):.1f}"]
        for file in files
    ]
    table(options, "", ["object", "records", "size", "of raw"], rows)


def _object(file: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(file)
    return {**plain, "first_id": file.first_id.hex(), "last_id": file.last_id.hex()}


def verify(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Read every object and compare it with the catalogue: bit rot, missing and swapped objects. Exit code 1 if any."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, gentle_progress(options) as shown:
        number = len(opened.store.archived_files())
        problems = opened.verify_archive(shown)
    if options.json:
        emit_json({"objects": number, "problems": problems})
    for problem in problems:
        say(options, f"LOOK  {problem}")
    say(
        options,
        f"{number:,} objects were read; {len(problems):,} problems." if problems else f"{number:,} objects are sound.",
    )
    if problems:
        raise typer.Exit(1)


def compact(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Merge small objects of the archive into larger ones."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, gentle_progress(options) as shown:
        merged = opened.compact_archive(shown)
    if options.json:
        emit_json({"merged": merged})
    say(options, f"Merged {merged:,} objects." if merged else "There was nothing to merge.")


def restore(
    context: typer.Context,
    platform: Platforms = None,
    since: Annotated[str | None, typer.Option(help="Objects with records from this day on (YYYY-MM-DD, UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Objects with records before this day (YYYY-MM-DD, UTC).")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Bring all of it back.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Bring objects back into the database, whole. The next archive run takes them away again unless settings change."""
    if not (platform or since or until or everything):
        raise SettingError("nothing says what to restore", hint="Give --platform, --since, --until, or --all.")
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, gentle_progress(options) as shown:
        restored = opened.restore_archive(
            platforms=platform or [],
            since=moment_of(since, "--since"),
            until=moment_of(until, "--until"),
            progress=shown,
        )
    if options.json:
        emit_json({"restored": restored})
    say(options, f"Brought {restored:,} records back.")


def maintain(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Go on with open erasures, remove what retention says, archive what is old. Made for cron; safe to run at any time."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, gentle_progress(options) as shown:
        done = opened.maintain(progress=shown)
    if options.json:
        emit_json(done.to_plain())
        return
    for status, number in sorted(done.erasures.items()):
        say(options, f"Erasures {status}: {number:,}")
    for name, number in sorted(done.expired.items()):
        say(options, f"Removed {number:,} records of {name} that were past their time.")
    if done.held:
        say(options, f"A legal hold keeps {done.held:,} records past their time.")
    _show(options, done.archive, verbose=False)


def storage(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Print what is stored where, what it costs, what the archive saves, and what to do next."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        found = opened.storage_statistics()
        turns = found["costs"]["usd_per_million_turns_month"]
        if options.json:
            emit_json(found)
            return
        show_statistics(options, found)
        for where, amount in turns.items():
            if amount is not None:
                name = "database" if where == "hot" else "archive"
                say(options, f"A million turns as those here cost ${_usd(amount)} a month in the {name}.")
        _platforms(options, found)


def _platforms(options: Options, found: dict[str, Any]) -> None:
    rows = [
        [name or "(none)", sum(own["records"].values()), own["archived_records"], _size(own["raw_bytes"])]
        for name, own in sorted(found["by_platform"].items())
    ]
    if rows:
        table(options, "", ["platform", "records", "archived", "raw"], rows)


def prices(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Print the prices that costs are reckoned with; set your own under `prices` in the configuration file."""
    from tracemill.cli.opening import settings_of
    from tracemill.insight.costs import table_rows

    options = options_of(context, workspace, json)
    rows = table_rows(settings_of(options))
    if options.json:
        emit_json(rows)
        return
    names = ["storage", "gb_month", "writes", "reads", "retrieval", "minimum_days", "minimum_bytes", "dated"]
    table(options, "", names, [[row[name] for name in names] for row in rows])
    say(
        options, "USD: a GB and month, a thousand writes, a thousand reads, a GB read back; least time and size billed."
    )
