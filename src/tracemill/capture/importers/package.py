"""What a package of files holds, as records: each file by the importer that its place in the package names.

transcripts/….json, feedback/….json                    Lightspeed's files
chat_contexts/{version}/context_….json, predictions/{version}/prediction_….json,
metadata/record_….json, metadata/steps/…/record_….json parts of a Gepeto tree; metadata/session_….json is passed over
records/….jsonl (or .ndjson)                           our own records, one JSON document a line
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from tracemill.capture.gepeto import CONTEXTS, METADATA, PREDICTIONS, STEPS, read_tree
from tracemill.capture.gepeto_foreign import PRODUCER
from tracemill.capture.importers.base import ImportContext, Imported
from tracemill.capture.ingest import Reject, decode_line
from tracemill.capture.lightspeed.files import read_file
from tracemill.capture.packages import Member, PackageLimits, read_package, shown

_LIGHTSPEED = re.compile(r"(?:transcripts|feedback)/.+\.json")
_RECORDS = re.compile(r"records/.+\.(?:jsonl|ndjson)")
_GEPETO = re.compile(
    rf"{CONTEXTS}/[^/]+/context_[^/]*\.json"
    rf"|{PREDICTIONS}/[^/]+/prediction_[^/]*\.json"
    rf"|{METADATA}/(?:{STEPS}/[^/]+/)?record_[^/]*\.json"
)
_SESSION = re.compile(rf"{METADATA}/session_[^/]*\.json")


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a package or why something in it is none; ``file`` is the file's name there, ``size`` the bytes
    read for it (of a Gepeto tree's record, an average).

    ``stated_id`` says that the record's id is the sender's and not made of its content: with another body it is a conflict.
    ``record`` is None for a file that holds none and needs none.
    """

    file: str
    size: int
    record: Imported | None = None
    stated_id: bool = False


def check_package(file: BinaryIO, limits: PackageLimits) -> int:
    """The number of files in a package that is whole and within its limits. Raises RecordError for any other."""
    return sum(1 for _ in read_package(file, limits, contents=False))


def package_entries(
    file: BinaryIO, limits: PackageLimits, context: ImportContext, exporter_identity: str | None = None
) -> Generator[Entry]:
    """Everything in a package, in its order; the parts of a Gepeto tree, which are read together, come last.

    ``exporter_identity`` is written into ``extra`` of records that are made of foreign files; records that come as such stay
    as they are. Raises RecordError as :func:`~tracemill.capture.packages.read_package` does, and OSError.
    To be closed when it is not read to its end.
    """
    with tempfile.TemporaryDirectory(prefix="tracemill-package-") as folder:  # readable by its owner only
        tree = _Tree(Path(folder))
        for member in read_package(file, limits):
            if isinstance(member, Reject):
                yield Entry(member.place, len(member.raw), member)
            elif _GEPETO.fullmatch(member.name):
                tree.add(member)
            else:
                yield from _entries(member, context, exporter_identity)
        yield from tree.entries(context, exporter_identity)


def _entries(member: Member, context: ImportContext, exporter_identity: str | None) -> Iterator[Entry]:
    name, raw, size = shown(member.name), member.raw, len(member.raw)
    if _LIGHTSPEED.fullmatch(member.name):
        found = read_file(raw, name, user=context.pseudonymize, platform=context.platform or "lightspeed")
        if not isinstance(found, Reject) and not _storable(found.time):
            found = Reject(name, "invalid", "the timestamp is outside of the years 1 to 9999 in UTC", raw)
        yield Entry(name, size, _marked(found, exporter_identity))
    elif _RECORDS.fullmatch(member.name):
        for number, line in enumerate(io.BytesIO(raw.removeprefix(b"\xef\xbb\xbf")), 1):
            if line.strip():
                yield Entry(name, len(line), decode_line(line.rstrip(b"\r\n"), f"{name} line {number}"), stated_id=True)
    elif _SESSION.fullmatch(member.name):
        yield Entry(name, size)  # which files belong to a session: the files themselves say so too
    else:
        message = "no file of this name is known; known are transcripts/, feedback/, records/ and a Gepeto tree's"
        yield Entry(name, size, Reject(name, "unknown_file", message, raw))


def _storable(time: datetime) -> bool:
    try:
        time.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _marked(found: Imported, exporter_identity: str | None) -> Imported:
    if exporter_identity is None or isinstance(found, Reject):
        return found
    return msgspec.structs.replace(found, extra={**found.extra, "exporter_identity": exporter_identity})


class _Tree:
    """Parts of a Gepeto tree, for its reader: on disk under names made here, in the order of the names they came with."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: list[str] = []
        self._bytes = 0

    def add(self, member: Member) -> None:
        """Keep a part."""
        (self._root / f"{len(self._names)}.part").write_bytes(member.raw)
        self._names.append(member.name)
        self._bytes += len(member.raw)

    def entries(self, context: ImportContext, exporter_identity: str | None) -> Iterator[Entry]:
        """The records of all parts. Reading them again from a package of other order gives the same."""
        if not self._names:
            return
        placed, each = self._place(), self._bytes // len(self._names)
        platform = context.platform or "gepeto"
        for found in read_tree(self._root, platform=platform, pseudonymize=context.pseudonymize):
            if isinstance(found, Reject):
                name = shown(placed.get(found.place, found.place))
                whole = self._root / found.place
                raw = whole.read_bytes() if whole.is_file() else found.raw  # its reader keeps the beginning only
                yield Entry(name, len(raw), Reject(name, found.reason, found.message, raw))
            else:
                foreign = found.producer == PRODUCER
                yield Entry(METADATA, each, _marked(found, exporter_identity if foreign else None))

    def _place(self) -> dict[str, str]:
        """Put the parts where the tree has them; returns the name each came with by the place it has now."""
        order = sorted(range(len(self._names)), key=lambda index: self._names[index].split("/"))
        keys: dict[tuple[str, str], int] = {}
        placed: dict[str, str] = {}
        for index in order:
            name = self._names[index]
            place = _place_of(name, keys)
            path = self._root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            (self._root / f"{index}.part").rename(path)
            placed[place] = name
        return placed


def _place_of(name: str, keys: dict[tuple[str, str], int]) -> str:
    """Where a part stands: a context and a prediction that share a name share a number."""
    folder, version, last = (*name.split("/"), "", "")[:3]
    if folder == METADATA:
        number = keys.setdefault((METADATA, name), len(keys))
        return (
            f"{METADATA}/{STEPS}/0/record_{number:08}.json"
            if version == STEPS
            else f"{METADATA}/record_{number:08}.json"
        )
    kind = "context" if folder == CONTEXTS else "prediction"
    number = keys.setdefault((version, last.removeprefix(f"{kind}_")), len(keys))
    return f"{folder}/1/{kind}_{number:08}.json"
