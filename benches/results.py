"""Writing down what a benchmark measured, in numbers (JSON) and as a table (Markdown)."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from os import cpu_count
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = Path(__file__).parent / "results"


def machine() -> str:
    """What the figures were measured on, without naming the machine."""
    return f"{cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def middle(values: Sequence[float]) -> float:
    """The median: these machines are noisy, and a mean would carry one bad run along."""
    return median(values)


def write(name: str, title: str, command: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> None:
    """Write ``results/NAME.json`` and ``results/NAME.md``, and print the table."""
    FOLDER.mkdir(exist_ok=True)
    document = {"title": title, "command": command, "machine": machine(), "rows": list(rows), "notes": list(notes)}
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    columns = list(rows[0])
    lines = [f"# {title}", "", f"`{command}` on {machine()}.", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_shown(row.get(column)) for column in columns) + " |" for row in rows]
    lines += ["", *(f"- {note}" for note in notes)]
    text = "\n".join(lines).rstrip() + "\n"
    (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return str(value)
