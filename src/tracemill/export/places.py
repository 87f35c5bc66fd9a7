"""Where exports were written besides the workspace's own folder, so that erasure can find them again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tracemill.dataset.files import write_whole

PLACES = "exports.jsonl"


def note_external(workspace: Path, folder: Path) -> None:
    """Remember a folder outside of the workspace that an export was written to."""
    known = _read(workspace)
    place = str(folder.resolve())
    if place not in known:
        lines = [msgspec.json.encode({"folder": entry}) + b"\n" for entry in (*known, place)]
        write_whole(workspace / PLACES, b"".join(lines))


def external_exports(workspace: Path) -> list[Path]:
    """The folders that are remembered and are still there."""
    return [path for path in map(Path, _read(workspace)) if path.is_dir()]


def _read(workspace: Path) -> list[str]:
    try:
        lines = (workspace / PLACES).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [str(msgspec.json.decode(line)["folder"]) for line in lines]
