"""Opening what a command works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.output import Options
from tracemill.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from tracemill.workspace import Workspace

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Folder = Annotated[str | None, typer.Option("--workspace", help="Folder of the workspace (default: tracemill-data).")]


def options_of(context: typer.Context, workspace: str | None = None, json: bool = False) -> Options:
    """The options said before the command's name, or after it."""
    given = context.find_root().obj or Options()
    return Options(workspace or given.workspace, given.config, json or given.json, given.quiet)


def settings_of(options: Options) -> Settings:
    """The settings in force. Raises SettingError."""
    return load_settings({"workspace": options.workspace}, config=Path(options.config) if options.config else None)


def open_workspace(options: Options) -> Workspace:
    """The workspace a command works on, made where there is none."""
    from tracemill.workspace import Workspace

    return Workspace.open(settings=settings_of(options))
