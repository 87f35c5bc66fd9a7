"""How commands speak: results on standard output, progress and complaints on standard error."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from tracemill.core.steps import Progress
from tracemill.drawing.wording import visible


@dataclass
class Options:
    """What was said before the command's name."""

    workspace: str | None = None
    config: str | None = None
    json: bool = False
    quiet: bool = False


def complain(message: str, hint: str = "") -> None:
    """Say what is wrong and what to do."""
    sys.stderr.write(f"error: {message}\n" + (f"       {hint}\n" if hint else ""))


def emit_json(value: Any) -> None:
    """One JSON document on standard output."""
    text = json.dumps(value, indent=2, default=str, ensure_ascii=not _is_utf8())
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")  # half a surrogate pair stays an escape


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def say(options: Options, text: str) -> None:
    """A line of plain text, unless --quiet or --json."""
    if not options.quiet and not options.json:
        lines = text.encode("utf-8", "backslashreplace").decode().split("\n")
        sys.stdout.write("\n".join(map(visible, lines)) + "\n")


def table(options: Options, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table, numbers to the right; unless --quiet or --json."""
    if options.quiet or options.json:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float)) for row in rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else visible(str(cell))) for cell in row))
    Console(highlight=False).print(drawn)


class _Interrupt:
    """Ctrl-C during long work: heard at the work's next step, where everything is in order; the second time at once."""

    def __init__(self) -> None:
        self.heard = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.heard:
            signal.default_int_handler(number, frame)
        self.heard = True
        sys.stderr.write("\nstopping at the next step; Ctrl-C again stops at once\n")


@contextmanager
def gentle_progress(options: Options) -> Iterator[Progress]:
    """As :func:`progress`, for work of many short steps: after a Ctrl-C, KeyboardInterrupt is raised at the next of them."""
    interrupt = _Interrupt()
    with _listening(interrupt), progress(options) as line:

        def step(stage: str, done: int, total: int | None) -> None:
            if interrupt.heard:
                raise KeyboardInterrupt
            if line is not None:
                line(stage, done, total)

        yield step
    if interrupt.heard:
        raise KeyboardInterrupt  # the work was at its last step


@contextmanager
def _listening(interrupt: _Interrupt) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress(options: Options) -> Iterator[Progress | None]:
    """A progress line on standard error while it is a terminal; None otherwise."""
    if options.quiet or options.json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        stages: dict[str, Any] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        yield show
