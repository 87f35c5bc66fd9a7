"""Commands about what is captured and stored."""

from __future__ import annotations

import json as json_module
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tracemill.cli.opening import (
    AlreadyJson,
    Folder,
    Json,
    moment_of,
    open_workspace,
    options_of,
    origins_of,
    settings_of,
)
from tracemill.cli.output import complain, emit_json, progress, say, table
from tracemill.core.errors import SettingError, TracemillError
from tracemill.core.settings import SettingInfo, Settings, setting_table


def init(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Make a workspace: its folder, its key, and the tables of its store. Running it again changes nothing."""
    from tracemill.core.pseudonym import load_pseudonymizer

    options = options_of(context, workspace, json)
    with open_workspace(options, make=True) as opened:
        key = load_pseudonymizer(opened.path).key_id
        if options.json:
            emit_json({"workspace": str(opened.path.resolve()), "database": opened.store.address, "pseudonym_key": key})
        say(options, f"The workspace {opened.path} is ready ({opened.store.count():,} records).")


def doctor(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Do not read every stored record.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Check a workspace: identity, write permission, free space, spool, store, and what capture kept and dropped."""
    from msgspec import to_builtins

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        health = opened.doctor(verify=not quick)
    if options.json:
        emit_json({"ok": health.ok, **to_builtins(health)})
    rows = [["ok" if check.ok else "LOOK", check.name, check.detail] for check in health.checks]
    table(options, "", ["", "check", "what was found"], rows)
    for check in health.checks:
        if not check.ok and check.advice:
            say(options, f"{check.name}: {check.advice}")
    if not health.ok:
        raise typer.Exit(1)


def import_(
    context: typer.Context,
    format: Annotated[str, typer.Argument(help="tau-bench, openai-chat, atif, records, gepeto or lightspeed.")],  # noqa: A002
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders of them.")],
    platform: Annotated[str | None, typer.Option(help="Platform the records belong to.")] = None,
    model: Annotated[str | None, typer.Option(help="Model that answered, where the files do not say.")] = None,
    expand: Annotated[
        bool, typer.Option("--expand", help="tau-bench: one record a model call, as a proxy logs it.")
    ] = False,
    rejects: Annotated[
        Path | None, typer.Option(help="File for what was rejected (default: in the workspace).")
    ] = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Import files of another program. Running it again stores nothing twice."""
    options = options_of(context, workspace, json)
    with open_workspace(options, make=True) as opened, progress(options) as shown:
        report = opened.import_files(
            format, paths, platform=platform, model=model, expand=expand, rejects=rejects, progress=shown
        )
    if options.json:
        emit_json(report.to_plain())
    kinds = ", ".join(f"{number:,} {name}" for name, number in sorted(report.by_type.items())) or "nothing new"
    say(options, f"Read {report.read:,} entries of {report.files} files in {report.seconds:.1f} s: stored {kinds}.")
    say(options, f"{report.duplicates:,} were there already, {report.rejected:,} were rejected.")
    if report.rejects is not None:
        say(options, f"What was rejected, and why: {report.rejects}")


def deliver(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Deliver what finished or killed processes left in the spool. Live ones deliver for themselves."""
    from dataclasses import asdict

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, progress(options) as shown:
        drained = opened.drain(progress=shown)
    if options.json:
        emit_json(asdict(drained))
    say(
        options,
        f"Delivered {drained.stored:,} records of {drained.producers} processes; {drained.live} are still at work.",
    )
    if drained.dead_lettered or drained.damaged:
        say(
            options,
            f"{drained.dead_lettered:,} were refused and {drained.damaged:,} stretches were damaged: `tracemill doctor`.",
        )
    for skipped in drained.skipped:
        complain(f"passed over {skipped}")


def records(
    context: typer.Context,
    type: Annotated[list[str] | None, typer.Option(help="Record type; may be given more than once.")] = None,  # noqa: A002
    platform: Annotated[list[str] | None, typer.Option(help="Platform; may be given more than once.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Conversation id.")] = None,
    session: Annotated[str | None, typer.Option(help="Session id.")] = None,
    of: Annotated[str | None, typer.Option(help="Id of an interaction: its steps, feedback and validations.")] = None,
    user: Annotated[str | None, typer.Option(help="User, by the id the application knows or by the pseudonym.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model that answered.")] = None,
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="Interactions that succeeded, or failed.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="From this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Print only how many there are.")] = False,
    gepeto: Annotated[
        Path | None, typer.Option(help="Write a Gepeto tree of JSON files instead (platform only).")
    ] = None,
    workspace: Folder = None,
    json: AlreadyJson = False,
) -> None:
    """Print records as JSON, one a line: what `tracemill import records` reads."""
    from tracemill.core.codec import encode_json
    from tracemill.store.base import Filter

    options = options_of(context, workspace, json)
    where = Filter(
        types=_types(type),
        platforms=tuple(platform or ()),
        conversation_id=conversation,
        session_id=session,
        interaction_id=of,
        user=_pseudonym(settings_of(options), user),
        model=model,
        success=success,
        since=moment_of(since, "--since"),
        until=moment_of(until, "--until"),
    )
    with open_workspace(options) as opened:
        if gepeto is not None:
            number = opened.write_gepeto(gepeto, platform=platform[0] if platform else None)
            say(options, f"Wrote {number:,} records to {gepeto}.")
        elif count:
            typer.echo(opened.store.count(where))
        else:
            for record in opened.records(where, limit=limit):
                sys.stdout.buffer.write(encode_json(record) + b"\n")
            sys.stdout.buffer.flush()


def _types(given: list[str] | None) -> tuple[str, ...]:
    from tracemill.core.records import RECORD_TYPES

    for name in given or ():
        if name not in RECORD_TYPES:
            raise SettingError(f"no record type {name!r}", hint=f"Types: {', '.join(RECORD_TYPES)}.")
    return tuple(given or ())


def _pseudonym(settings: Settings, user: str | None) -> str | None:
    """The pseudonym of a user given by either; None without one. A workspace that has no key knows no user by an id."""
    from tracemill.core.pseudonym import load_pseudonymizer

    folder = Path(settings.workspace)
    if user is None or re.fullmatch("[0-9a-f]{64}", user) or not (folder / "keys" / "pseudonym.key").exists():
        return user
    return load_pseudonymizer(folder).user(user).pseudonym


def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="What to look for; upper and lower case are one.")],
    type: Annotated[list[str] | None, typer.Option(help="Record type; may be given more than once.")] = None,  # noqa: A002
    platform: Annotated[list[str] | None, typer.Option(help="Platform; may be given more than once.")] = None,
    user: Annotated[str | None, typer.Option(help="User, by the id the application knows or by the pseudonym.")] = None,
    since: Annotated[str | None, typer.Option(help="From this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, in the order of storing.")] = 20,
    workspace: Folder = None,
    json: AlreadyJson = False,
) -> None:
    """Print the records that say something, from the database and the archive, as JSON, one a line."""
    from tracemill.core.codec import encode_json
    from tracemill.store.base import Filter

    options = options_of(context, workspace, json)
    where = Filter(
        types=_types(type),
        platforms=tuple(platform or ()),
        user=_pseudonym(settings_of(options), user),
        since=moment_of(since, "--since"),
        until=moment_of(until, "--until"),
    )
    with open_workspace(options) as opened:
        for _, record in opened.search(text, where, limit=limit):
            sys.stdout.buffer.write(encode_json(record) + b"\n")
        sys.stdout.buffer.flush()


def show(
    context: typer.Context,
    record_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a record.")],
    workspace: Folder = None,
    json: AlreadyJson = False,
) -> None:
    """Print one record as JSON, with what belongs to it."""
    from tracemill.core.codec import encode_json
    from tracemill.store.base import Filter

    with open_workspace(options_of(context, workspace, json)) as opened:
        record = opened.store.get(record_id)
        if record is None:
            raise TracemillError(f"no record {record_id!r} is stored", hint="`tracemill records` lists what is there.")
        document: dict[str, Any] = json_module.loads(encode_json(record))
        about = [json_module.loads(encode_json(other)) for other in opened.records(Filter(interaction_id=record.id))]
    emit_json({**document, **({"related": about} if about else {})})


def quarantine(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """List records that were refused, with the reason and where they came from."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        items = opened.quarantined(limit)
    plain = [
        {
            "time": item.time.isoformat(),
            "reason": item.reason,
            "message": item.message,
            "source": item.source,
            "id": item.id,
            "raw": item.raw.decode("utf-8", "backslashreplace"),
        }
        for item in items
    ]
    if options.json:
        emit_json(plain)
    rows = [[entry["time"], entry["reason"], entry["source"], entry["id"] or "", entry["message"]] for entry in plain]
    if rows:
        table(options, "", ["time", "reason", "source", "record", "why"], rows)
    else:
        say(options, "Nothing was refused.")


def settings(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Print every setting with the value in force and where it comes from."""
    options = options_of(context, workspace, json)
    in_force, origins = settings_of(options), origins_of(options)
    rows = [
        {"name": row.name, "value": _shown(row, in_force), "origin": origins[row.name], "default": row.default}
        for row in setting_table()
    ]
    if options.json:
        emit_json(rows)
    table(options, "", ["setting", "value", "from"], [[row["name"], str(row["value"]), row["origin"]] for row in rows])


def _shown(row: SettingInfo, in_force: Settings) -> Any:
    """A value as it may be printed: secrets only by whether they are set, addresses without their password."""
    value = getattr(in_force, row.name)
    if row.secret:
        return "(set)" if value else ""
    if isinstance(value, str):
        return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", value)
    return msgspec.to_builtins(value)
