"""Opening what a command works on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.output import Options
from tracemill.core.errors import SettingError
from tracemill.core.settings import Settings, load_settings, setting_origins

if TYPE_CHECKING:
    from tracemill.workspace import Workspace

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
AlreadyJson = Annotated[bool, typer.Option("--json", help="Changes nothing: the output is JSON anyway.")]
Folder = Annotated[str | None, typer.Option("--workspace", help="Folder of the workspace (default: tracemill-data).")]


def options_of(context: typer.Context, workspace: str | None = None, json: bool = False) -> Options:
    """The options said before the command's name, or after it."""
    given = context.find_root().obj or Options()
    return Options(workspace or given.workspace, given.config, json or given.json, given.quiet)


def settings_of(options: Options) -> Settings:
    """The settings in force. Raises SettingError."""
    return load_settings({"workspace": options.workspace}, config=Path(options.config) if options.config else None)


def origins_of(options: Options) -> dict[str, str]:
    """Where each of them comes from."""
    return setting_origins({"workspace": options.workspace}, config=Path(options.config) if options.config else None)


def open_workspace(options: Options, *, make: bool = False) -> Workspace:
    """The workspace a command works on; made where there is none only by commands that put something in.

    Raises SettingError when there is none: a command that looks at things must not leave an empty workspace behind.
    """
    from tracemill.workspace import Workspace

    settings = settings_of(options)
    if not make and not settings.database and not Path(settings.workspace).is_dir():
        raise SettingError(
            f"there is no workspace at {settings.workspace}",
            hint="Say where it is with --workspace, or make one with `tracemill init`.",
        )
    return Workspace.open(settings=settings)


def moment_of(value: str | None, name: str) -> datetime | None:
    """A date or time given to an option; without a zone it is UTC. Raises SettingError."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise SettingError(
            f"{name} is {value!r}, not a date or time", hint="Write 2026-01-31 or 2026-01-31T12:00:00Z."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
