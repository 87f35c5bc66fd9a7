"""Writes docs/cli.md from the commands themselves: `python scripts/cli_page.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from tracemill.cli.app import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
INTRODUCTION = """# Command line

```sh
tracemill demo                                         # the whole way on a sample, in a folder of its own
tracemill init --workspace data                        # a workspace; TRACEMILL_WORKSPACE names one for good
tracemill import tau-bench runs.json --platform air    # files of other programs, safely again and again
tracemill doctor                                       # is everything well, was anything lost?
tracemill stats                                        # the report in the terminal
tracemill report --html report.html                    # the same with charts, as one file
tracemill records --failure --since 2026-03-01         # records as JSON, one a line
tracemill dataset build recipe.yaml                    # an immutable dataset version
tracemill export support --format trl-dpo              # its rows for a trainer
```

Results go to standard output, progress and complaints to standard error; what is piped has no colours and no progress bar.
`--json` prints a result as JSON, and `--workspace` and `--json` may stand before or after the command. Commands that only
look at a workspace never make one. Exit codes: 0 done, 1 an error, explained in a sentence with what to do next, 2 wrong
usage, 130 interrupted (nothing is lost: run the same command again). With `TRACEMILL_DEBUG=1` an error shows its traceback.
"""


def page() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(app)
    sections = [INTRODUCTION, _options("tracemill", root)]
    for name, command in _commands(root, "tracemill"):
        sections.append(f"## `{name}`\n\n{(command.help or '').strip()}\n")
        sections.append(_options(name, command))
    return "\n".join(section for section in sections if section).rstrip() + "\n"


def _commands(group: Any, path: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found.extend(_commands(command, f"{path} {name}") if inner else [(f"{path} {name}", command)])
    return found


def _options(_name: str, command: Any) -> str:
    rows = []
    for parameter in command.params:
        names = ", ".join(
            f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts) if option != "--help"
        )
        if names:
            kind = "argument" if parameter.param_type_name == "argument" else "option"
            rows.append(f"| {names} | {kind} | {getattr(parameter, 'help', None) or ''} |")
    return "\n".join(["| name | kind | meaning |", "| --- | --- | --- |", *rows]) + "\n" if rows else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
