"""Files that lines are appended to by several processes, each line whole and on the device, or not there."""

from __future__ import annotations

import os
from pathlib import Path

from tracemill.core.owned import locked


def append_lines(path: Path, lines: bytes) -> None:
    """Append whole lines. Raises OSError, with the file as it was. A line that a kill tore is ended first."""
    with locked(path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as descriptor:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        try:
            left = memoryview(lines)
            while left:
                left = left[os.write(descriptor, left) :]  # a full device takes a part first, and then none
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
