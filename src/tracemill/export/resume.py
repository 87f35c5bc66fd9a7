"""Going on with an export that was interrupted, behind the last shard that was finished.

The draft of an export (:mod:`tracemill.export.placing`) has a journal: a line that says which export it is, then one for every
file of rows that is finished, with how far the export was and what it had counted. The same export (same version, options
and packages, :func:`key_of`) reuses those files whose size and SHA-256 are the journal's, up to the first that differs; any
other begins anew. The journal holds counts and names, no content.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
from msgspec import Struct

from tracemill.core.examples import DatasetFile
from tracemill.dataset.files import sha256_of, sync_folder

JOURNAL = "finished.jsonl"
LOSSES = "losses.jsonl"
_PACKAGES = ("tracemill", "msgspec", "pyarrow", "zstandard", "tokenizers", "jinja2")
"""What the bytes of a row, its container and its tokens are made by."""
_COPY = 1024 * 1024
_encode = msgspec.json.Encoder().encode


class Finished(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of rows that is finished, and how far the export was then.

    ``examples`` of the split were looked at, ``whole`` says that these are all. ``losses`` is the list of losses up to
    here. The counts are those of the whole export up to here.
    """

    split: str
    file: DatasetFile
    examples: int
    whole: bool
    losses: DatasetFile
    refused: dict[str, int]
    lost: dict[str, int]
    optional: list[str]
    tokens: dict[str, dict[str, int]]


_finished = msgspec.json.Decoder(Finished).decode


def key_of(options: Sequence[Any]) -> str:
    """What an export is known by: its version and options, and the packages that make its bytes."""
    packages = {name: found for name in _PACKAGES if (found := _installed(name)) is not None}
    return hashlib.sha256(_encode([options, packages, platform.python_version()])).hexdigest()


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class Losses:
    """The list of losses of a draft: lines that are appended, and cut off where the export goes on."""

    def __init__(self, path: Path, kept: int) -> None:
        self._file: BinaryIO = path.open("r+b" if kept else "wb")
        self._name, self._digest = path.name, hashlib.sha256()
        self._rows = self._bytes = 0
        for piece in _pieces(self._file, kept):
            self._digest.update(piece)
            self._rows += piece.count(b"\n")
            self._bytes += len(piece)
        self._file.truncate()

    def write_line(self, line: bytes) -> None:
        """Append one entry, given without its newline."""
        self._file.write(line + b"\n")
        self._digest.update(line + b"\n")
        self._rows += 1
        self._bytes += len(line) + 1

    def kept(self) -> DatasetFile:
        """Bring what there is to the device, and describe it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return DatasetFile(path=self._name, rows=self._rows, bytes=self._bytes, sha256=self._digest.hexdigest())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Journal:
    """What of a draft is finished: ``finished`` by an earlier run, then :meth:`note`. Use as a context manager.

    Opening it removes from the draft all that cannot be trusted.
    """

    def __init__(self, draft: Path, key: str) -> None:
        head = _encode({"export": key}) + b"\n"
        self.finished, size = _trusted(draft, head)
        if not self.finished:
            shutil.rmtree(draft)
            draft.mkdir()
            (draft / JOURNAL).write_bytes(head)
            size = len(head)
        for path in draft.iterdir():
            if path.name not in {JOURNAL, LOSSES, *(one.file.path for one in self.finished)}:
                path.unlink()
        self._file: BinaryIO = (draft / JOURNAL).open("r+b")
        self._file.truncate(size)
        self._file.seek(size)
        self.losses = Losses(draft / LOSSES, self.finished[-1].losses.bytes if self.finished else 0)
        sync_folder(draft)

    def of(self, split: str) -> list[Finished]:
        """What an earlier run finished of a split, in order."""
        return [one for one in self.finished if one.split == split]

    def note(self, finished: Finished) -> None:
        """Remember a file that is in its place in the draft."""
        self._file.write(_encode(finished) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.losses.close()
        self._file.close()


def has_finished(draft: Path) -> bool:
    """Whether a draft holds a file that another run may go on from."""
    try:
        return (draft / JOURNAL).read_bytes().count(b"\n") > 1
    except FileNotFoundError:
        return False


def _trusted(draft: Path, head: bytes) -> tuple[list[Finished], int]:
    """The entries of a journal up to the first whose file or losses are not as it says; and the bytes they take."""
    found: list[Finished] = []
    size = len(head)
    try:
        lines = (draft / JOURNAL).read_bytes().splitlines(keepends=True)
        if not lines or lines[0] != head:
            return [], 0
        with (draft / LOSSES).open("rb") as losses:
            digest = hashlib.sha256()
            for line in lines[1:]:
                one = _finished(line)
                for piece in _pieces(losses, one.losses.bytes - losses.tell()):
                    digest.update(piece)
                if not line.endswith(b"\n") or digest.hexdigest() != one.losses.sha256 or not _as_said(draft, one.file):
                    break
                found.append(one)
                size += len(line)
    except FileNotFoundError:
        return [], 0
    except msgspec.MsgspecError:
        pass  # the power was lost while the line was written
    return found, size


def _as_said(draft: Path, file: DatasetFile) -> bool:
    path = draft / file.path
    return path.is_file() and path.stat().st_size == file.bytes and sha256_of(path) == file.sha256


def _pieces(file: BinaryIO, count: int) -> Iterator[bytes]:
    """The next bytes of a file, so many if there are so many."""
    while count > 0 and (piece := file.read(min(count, _COPY))):
        count -= len(piece)
        yield piece
