"""The command line: thin commands over :class:`tracemill.workspace.Workspace`."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]
INTERRUPTED = 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 an error that was explained, 2 wrong usage, 130 interrupted."""
    # Imported here: what the command needs is imported when it runs, so that help and completion stay quick.
    from tracemill.cli.app import app
    from tracemill.cli.output import complain
    from tracemill.core.errors import TracemillError

    try:
        app(standalone_mode=True)
    except TracemillError as error:
        if os.environ.get("TRACEMILL_DEBUG"):
            raise
        complain(error.message, error.hint)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            complain("interrupted", "Nothing is lost: run the same command again.")
        raise
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
