"""Lightspeed's files as an import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tracemill.capture.ingest import Reject
from tracemill.capture.lightspeed.files import read_file
from tracemill.core.records import Feedback, Interaction, User

MOST_BYTES = 100 * 1024 * 1024
"""What Lightspeed's exporter takes of one file at most."""


def read_path(
    path: Path, *, platform: str, pseudonymize: Callable[[str | int], User]
) -> Iterator[Interaction | Feedback | Reject]:
    """The one record of a transcript or feedback file, or why it holds none. Raises OSError."""
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        yield Reject("file", "too_large", f"a file of more than {MOST_BYTES:,} bytes", raw[:1000])
        return
    yield read_file(raw, "file", user=pseudonymize, platform=platform)
