"""How well the detector does on texts whose spans somebody labelled, and what it finds in a file.

A labelled file is JSON lines: ``{"text": "…", "spans": [{"kind": "email", "start": 3, "end": 18}]}``, places in characters,
``end`` exclusive. Nothing here keeps or gives back content.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from tracemill.core.codec import decode_json
from tracemill.core.errors import RecordError, SourceError
from tracemill.core.records import AnyRecord
from tracemill.privacy.detect import GROUPS, Detector, Finding
from tracemill.privacy.policies import SAFE_HARBOR
from tracemill.privacy.redact import KEY_BYTES, Redactor


class Label(Struct, frozen=True):
    """A span that somebody says is of a kind."""

    kind: str
    start: Annotated[int, Meta(ge=0)]
    end: Annotated[int, Meta(ge=1)]


class LabelledText(Struct, frozen=True):
    """A text with its labels, all of them: what is not labelled is nothing."""

    text: str
    spans: list[Label] = []


@dataclass
class Score:
    """Counts of one kind.

    ``recognised`` of ``labelled`` spans lie wholly within findings of their own kind, ``covered`` of them within findings of
    any kind (nothing of them would be left). ``right`` of ``found`` findings touch a span labelled with their kind.
    """

    labelled: int = 0
    recognised: int = 0
    covered: int = 0
    found: int = 0
    right: int = 0


def read_labelled(path: Path) -> Iterator[LabelledText]:
    """The labelled texts of a file. Raises SourceError, which names the line but not what stands there."""
    decoder = msgspec.json.Decoder(LabelledText)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _checked(decoder.decode(line), path, number)
    except msgspec.MsgspecError as error:
        raise SourceError(f"{path}, line {number}: {error}", hint=_HINT) from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


_HINT = 'One JSON object a line: {"text": "…", "spans": [{"kind": "email", "start": 3, "end": 18}]}.'


def _checked(one: LabelledText, path: Path, number: int) -> LabelledText:
    for label in one.spans:
        if label.kind not in GROUPS:
            raise SourceError(f"{path}, line {number}: there is no kind {label.kind!r}", hint=_HINT)
        if not label.start < label.end <= len(one.text):
            raise SourceError(f"{path}, line {number}: a span lies outside of its text", hint=_HINT)
    return one


def evaluate(texts: Iterable[LabelledText], detector: Detector) -> dict[str, Score]:
    """Scores by kind, kinds in order; only kinds that are labelled or found."""
    scores: dict[str, Score] = {}
    for one in texts:
        found = detector.find(one.text)
        for label in one.spans:
            score = scores.setdefault(label.kind, Score())
            score.labelled += 1
            score.recognised += _within(label, [finding for finding in found if finding.kind == label.kind])
            score.covered += _within(label, found)
        for finding in found:
            score = scores.setdefault(finding.kind, Score())
            score.found += 1
            score.right += any(
                label.kind == finding.kind and label.start < finding.end and finding.start < label.end
                for label in one.spans
            )
    return dict(sorted(scores.items()))


def _within(label: Label, found: list[Finding]) -> bool:
    """Whether every character of a label is in some finding; these do not overlap each other."""
    inside = sum(max(0, min(label.end, one.end) - max(label.start, one.start)) for one in found)
    return inside == label.end - label.start


@dataclass
class Scan:
    """What is in a file: how many records (0: it is plain text) and findings by kind, and where, without content.

    ``places`` maps a kind to the first places: ``line:column`` in text, ``line/pointer`` in records.
    """

    records: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str, count: int = 1) -> None:
        """Count findings at a place."""
        self.counts[kind] += count
        known = self.places.setdefault(kind, [])
        if len(known) < 5:
            known.append(place)


def scan(path: Path, detector: Detector) -> Scan:
    """What is in a file: records as JSON lines where its first line is one, text otherwise. Raises SourceError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    result = Scan()
    if _record(data.lstrip().partition(b"\n")[0]) is None:
        _scan_text(data.decode("utf-8", "replace"), detector, result)
        return result
    redactor = Redactor(SAFE_HARBOR, secrets.token_bytes(KEY_BYTES))
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            raise SourceError(f"{path}, line {number} is no record", hint="`tracemill records` writes such files.")
        result.records += 1
        for note in redactor.notes(redactor.record(record)):
            if detector.looks_for(note.kind):
                result.add(note.kind, f"{number}{note.place}", note.count)
    return result


def _scan_text(text: str, detector: Detector, result: Scan) -> None:
    line, line_start = 1, 0
    for one in detector.find(text):
        line += text.count("\n", line_start, one.start)
        line_start = max(line_start, text.rfind("\n", line_start, one.start) + 1)
        result.add(one.kind, f"{line}:{one.start - line_start + 1}")


def _record(line: bytes) -> AnyRecord | None:
    try:
        return decode_json(line)
    except RecordError:
        return None
