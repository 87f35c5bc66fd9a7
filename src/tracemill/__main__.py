"""`python -m tracemill` is `tracemill`."""

from __future__ import annotations

from tracemill.cli import main

if __name__ == "__main__":
    main()
