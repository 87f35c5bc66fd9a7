"""Where the tokenizer of an export lies on this machine, for the export that takes its place after an erasure.

It stands beside ``export.json``, which is the same wherever the export is made. The folder is not looked at before it is used.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from tracemill.dataset.files import write_whole

SOURCE = ".tokenizer.json"


class _Source(Struct, frozen=True):
    tokenizer: str


def write_source(folder: Path, tokenizer: Path) -> None:
    """Note in an export's folder, or in its draft, where the tokenizer lies."""
    write_whole(folder / SOURCE, msgspec.json.encode(_Source(str(tokenizer.resolve()))) + b"\n")


def tokenizer_of(folder: Path) -> Path | None:
    """The folder of the tokenizer that an export was counted with, there or not; None where nothing says."""
    try:
        return Path(msgspec.json.decode((folder / SOURCE).read_bytes(), type=_Source).tokenizer)
    except (OSError, msgspec.MsgspecError):
        return None
