"""What an importer is given and what it gives."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import zstandard

from tracemill.capture.ingest import Reject
from tracemill.core.codec import encode_plain
from tracemill.core.ids import derived_id
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, User


@dataclass(frozen=True, slots=True)
class ImportContext:
    """What the caller says of the files: platform, model, one record a model call (``expand``), and whose users they are."""

    pseudonymize: Callable[[str | int], User]
    platform: str | None = None
    model: str | None = None
    expand: bool = False


Imported: TypeAlias = AnyRecord | Reject
Importer: TypeAlias = Callable[[Path, ImportContext], Iterator[Imported]]


class ContentIds:
    """Ids made of content, so that importing again, or a moved or renamed file, stores nothing twice.

    The same content a second time within one import is another record: an occurrence counter tells them apart.
    """

    def __init__(self, format: str) -> None:  # noqa: A002 - the word for it everywhere else
        self._format = format
        self._seen: Counter[str] = Counter()

    def of(self, content: Any) -> str:
        """The id of an entry with this content."""
        digest = hashlib.sha256(encode_plain(content)).hexdigest()
        self._seen[digest] += 1
        return derived_id("import", self._format, digest, self._seen[digest])

    def base(self, identity: str, sequence: int, time: Any) -> dict[str, Any]:
        """The fields every record has."""
        return {
            "id": identity,
            "time": time,
            "schema_version": SCHEMA_VERSION,
            "producer": f"import:{self._format}",
            "sequence": sequence,
        }


def lines_of(path: Path, longest: int = 64 * 1024 * 1024) -> Iterator[tuple[int, bytes | Reject]]:
    """The lines of a file with their numbers, one at a time; one that is too long is a Reject. Empty lines are passed."""
    with _opened(path) as file:
        number = 0
        while line := file.readline(longest + 1):
            number += 1
            if len(line) > longest:
                head = line[:1000]
                while line and not line.endswith(b"\n"):
                    line = file.readline(longest)
                yield number, Reject(f"line {number}", "too_large", f"a line of more than {longest:,} bytes", head)
                continue
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield number, line.rstrip(b"\r\n")


def _opened(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".zst":
        return zstandard.open(path, "rb")
    return path.open("rb")
