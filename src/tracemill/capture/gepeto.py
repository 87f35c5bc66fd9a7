"""The Gepeto tree of JSON files: written so that any reader of it can use it, read back to the same records.

    chat_contexts/1.0/context_<session>_<timestamp>-<id>.json     what the model was given
    predictions/1.0/prediction_<session>_<timestamp>-<id>.json    what it answered and did, step by step
    metadata/session_<session>.json                               which files belong to a session
    metadata/record_<type>_<id>.json                              records of other types
    metadata/steps/<interaction>/record_step_<id>.json            steps whose interaction has not come yet

The files have the layout's own fields; what these cannot hold stands under one more, ``tracemill``. Names of files are made
of session ids without trusting them. A tree that another program wrote is read too (:mod:`tracemill.capture.gepeto_foreign`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from tracemill.capture.gepeto_foreign import foreign_records, moment
from tracemill.capture.ingest import Reject
from tracemill.core.codec import MAX_BYTES, decode_json, encode_json
from tracemill.core.errors import RecordError
from tracemill.core.ids import EPOCH, new_id
from tracemill.core.owned import locked
from tracemill.core.records import AnyRecord, Interaction, Step, User
from tracemill.sdk.react import FINISH

logger = logging.getLogger("tracemill")
VERSION = "1.0"
CONTEXTS, PREDICTIONS, METADATA, STEPS = "chat_contexts", "predictions", "metadata", "steps"
REMEMBERED = 10_000
"""Interactions of which a tree knows the files, for steps that come after them."""
_KEPT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_LONGEST = 80
_BATCH = 500

Document: TypeAlias = dict[str, Any]


def safe_name(text: str) -> str:
    """A file name part for any text: different texts give different names on every file system.

    Lower-case letters, digits, ``-`` and ``_`` stand for themselves, every other byte of the UTF-8 form is ``~`` and its
    two hex digits; a long name ends in 128 bits of the text's SHA-256. The empty text is ``~``.
    """
    raw = text.encode("utf-8", "surrogatepass")
    name = "".join(chr(byte) if chr(byte) in _KEPT else f"~{byte:02x}" for byte in raw) or "~"
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 20]}~_{hashlib.sha256(raw).hexdigest()[:32]}"


def write_tree(records: Iterable[AnyRecord], root: Path) -> int:
    """Write records as a tree; returns how many. Writing the same records again gives the same files.

    Raises OSError, and RecordError for what JSON cannot hold (``too_deep``).
    """
    count = 0
    source, tree = iter(records), GepetoTree(root)
    while batch := list(islice(source, _BATCH)):
        tree.write(batch)
        count += len(batch)
    return count


class GepetoTree:
    """A tree to write into, some records at a time. Processes that write one tree take turns.

    A Step goes into the trajectory of its interaction's prediction, whichever of the two comes first. One that comes long
    after its interaction (see :data:`REMEMBERED`) stays in a file of its own. What a prediction holds already is kept when
    it is written again.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._predictions: OrderedDict[str, Path] = OrderedDict()

    def write(self, records: Sequence[AnyRecord]) -> None:
        """Write some records. Raises OSError and RecordError; what was written before stays."""
        self.root.mkdir(parents=True, exist_ok=True)
        touched: set[Path] = set()
        with locked(self.root, os.O_RDONLY):
            self._write(records, touched)
            for folder in touched:
                _sync(folder)

    def _write(self, records: Sequence[AnyRecord], touched: set[Path]) -> None:
        here = {record.id for record in records if isinstance(record, Interaction)}
        steps: dict[str, list[Document]] = {}
        links: dict[str, list[Document]] = {}
        for record in records:
            if isinstance(record, Step) and record.interaction_id is not None:
                steps.setdefault(record.interaction_id, []).append(_plain(record))
        for record in records:
            if isinstance(record, Interaction):
                session, link, prediction = _write_interaction(record, steps.pop(record.id, []), self.root, touched)
                links.setdefault(session, []).append(link)
                self._remember(record.id, prediction)
            elif not isinstance(record, Step) or record.interaction_id is None:
                _write_alone(self.root / METADATA, _plain(record), touched)
        for interaction, listed in steps.items():
            if interaction not in here:
                self._write_steps(interaction, listed, touched)
        for session, entries in links.items():
            _link(self.root / METADATA / f"session_{safe_name(session)}.json", session, entries, touched)

    def _write_steps(self, interaction: str, steps: list[Document], touched: set[Path]) -> None:
        """Write steps whose interaction is not among the records with them."""
        path = self._predictions.get(interaction)
        document = _document(path) if path is not None else {}
        if path is None or not document:
            for step in steps:
                _write_alone(_waiting(self.root, interaction), step, touched)
        else:
            _write(path, {**document, "trajectory": _merged(document, steps)}, touched)

    def _remember(self, interaction: str, prediction: Path) -> None:
        self._predictions[interaction] = prediction
        self._predictions.move_to_end(interaction)
        if len(self._predictions) > REMEMBERED:
            self._predictions.popitem(last=False)


class GepetoSink:
    """Writes delivered records into a tree as well, without ever standing in the way of their delivery.

    Where the tree cannot be written, that is logged when it begins and when it ends; ``missing`` counts the records that
    are not in it. The store has them: Workspace.write_gepeto writes them all.
    """

    def __init__(self, root: Path) -> None:
        self._tree = GepetoTree(root)
        self.missing = 0
        self._failing = False

    def write(self, records: Sequence[AnyRecord]) -> None:
        """Write records; raises nothing of what writing may."""
        try:
            self._tree.write(records)
        except (OSError, RecordError) as error:
            left = [record for record in records if not self._alone(record)]
            self.missing += len(left)
            if not self._failing:
                logger.warning("the Gepeto tree %s cannot be written: %s", self._tree.root, error)
            self._failing = True
            return
        if self._failing:
            logger.warning("the Gepeto tree %s is written again; %d records are missing", self._tree.root, self.missing)
        self._failing = False

    def _alone(self, record: AnyRecord) -> bool:
        try:
            self._tree.write([record])
        except (OSError, RecordError):
            return False
        return True


def _plain(record: AnyRecord) -> Document:
    """The record as :func:`encode_json` writes it, with the codec's marks where JSON cannot hold a value."""
    plain: Document = json.loads(encode_json(record))
    return plain


def _write_alone(folder: Path, plain: Document, touched: set[Path]) -> None:
    path = folder / f"record_{plain['record']}_{safe_name(plain['id'])}.json"
    _write(path, {"version": VERSION, "tracemill": plain}, touched)


def _waiting(root: Path, interaction: str) -> Path:
    return root / METADATA / STEPS / safe_name(interaction)


def _write_interaction(
    record: Interaction, steps: list[Document], root: Path, touched: set[Path]
) -> tuple[str, Document, Path]:
    """Write both files of an interaction; gives its session, the entry that links the files, and the prediction's path."""
    session = record.session_id if record.session_id is not None else record.id
    name = f"{safe_name(session)}_{record.time:%Y%m%dT%H%M%S%f}-{safe_name(record.id)}.json"
    context, prediction = f"{CONTEXTS}/{VERSION}/context_{name}", f"{PREDICTIONS}/{VERSION}/prediction_{name}"
    plain = _plain(record)
    stamp = record.time.isoformat().replace("+00:00", "Z")
    head: Document = {"version": VERSION, "timestamp": stamp, "session_id": plain.get("session_id")}
    channel, model = plain.get("channel", {}), plain.get("model", {})
    given = {
        **head,
        "events": plain.get("messages", []),
        "chat_id": channel.get("id"),
        "chat_name": channel.get("name"),
        "chat_type": channel.get("type"),
        "model_name": model.get("name"),
        "model_config": model.get("configuration", {}),
        "user_count": channel.get("user_count"),
        "message_count": channel.get("message_count"),
        "contains_images": channel.get("contains_images"),
        "tracemill": {key: value for key, value in plain.items() if key != "messages"},
    }
    early = sorted(_waiting(root, record.id).glob("record_step_*.json"))
    waited = [step for step in (_document(path).get("tracemill") for path in early) if isinstance(step, dict)]
    answered = {
        **head,
        "trajectory": _merged(_document(root / prediction), [*waited, *steps]),
        "reasoning": plain.get("reasoning"),
        "execution_time_ms": plain.get("duration_ms"),
        "success": plain.get("success"),
        "tools_used": plain.get("tools_used", []),
        "tool_call_count": plain.get("tool_call_count"),
        "error": plain.get("error"),
        "tracemill": {"interaction_id": record.id, "response": plain.get("response")},
    }
    _write(root / prediction, answered, touched)
    _write(root / context, given, touched)
    if early:
        _sync((root / prediction).parent)  # before the steps go from where they were
        for path in early:
            path.unlink()
        with suppress(OSError):  # another program's file in it
            early[0].parent.rmdir()
    return session, {"context": context, "prediction": prediction, "timestamp": stamp}, root / prediction


def _document(path: Path) -> Document:
    """What a file of ours holds; empty when there is none, or none that can be read: we never leave a torn one."""
    with suppress(OSError, ValueError, RecursionError):
        known = json.loads(path.read_bytes())
        if isinstance(known, dict):
            return known
    return {}


def _merged(document: Document, steps: list[Document]) -> list[Document]:
    """The trajectory of a prediction with these steps in it, in order: each in the layout's words and as it is."""
    former = document.get("trajectory")
    known = [entry.get("tracemill") for entry in former if isinstance(entry, dict)] if isinstance(former, list) else []
    merged = {str(step.get("id")): step for step in [*known, *steps] if isinstance(step, dict)}
    return [_entry(step) for step in sorted(merged.values(), key=_order)]


def _entry(step: Document) -> Document:
    actions = step.get("actions", [])
    action = actions[0] if actions else {}
    finishes = action.get("type") == FINISH
    return {
        "thought": step.get("reasoning"),
        "tool_name": FINISH if finishes else action.get("tool"),
        "tool_args": action.get("parameters"),
        "observation": action.get("result", step.get("outputs")),
        "tracemill": step,
    }


def _order(step: Document) -> tuple[float, str]:
    index = step.get("index", 0)  # text where the codec had to mark a number beyond 64 bits
    return index if isinstance(index, int) else math.inf, str(step.get("id"))


def _link(path: Path, session: str, entries: list[Document], touched: set[Path]) -> None:
    known = _document(path)  # where it is lost, the files themselves say what belongs together
    former = known.get("interactions")
    listed = [entry for entry in former if isinstance(entry, dict)] if isinstance(former, list) else []
    merged = {str(entry.get("context")): entry for entry in [*listed, *entries]}
    if list(merged.values()) != listed:
        printable = session.encode("utf-8", "backslashreplace").decode()
        ordered = sorted(merged.values(), key=lambda entry: (str(entry.get("timestamp")), str(entry.get("context"))))
        newest = {"context_file": ordered[-1].get("context"), "prediction_file": ordered[-1].get("prediction")}
        head = {"version": VERSION, "session_id": printable, "timestamp": ordered[-1].get("timestamp"), **newest}
        _write(path, {**head, "interactions": ordered}, touched)


def _write(path: Path, document: Document, touched: set[Path]) -> None:
    """Write a file whole or not at all; the caller syncs the folders in ``touched`` once for all files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{new_id()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(json.dumps(document, ensure_ascii=True, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    touched.add(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_tree(
    root: Path, *, platform: str = "gepeto", pseudonymize: Callable[[str | int], User] | None = None
) -> Iterator[AnyRecord | Reject]:
    """The records of a tree, ours or another's; what cannot be read is a Reject with its file's name.

    Every version's folder is read. ``platform`` is what records of another program's files get, and ``pseudonymize`` stands
    for the ids of people in them. A chat context of another
    program belongs to the prediction of the same name or, where names differ, to the next one of its session by time; one
    without the other is read for what it has.
    """
    for context, prediction in _pairs(root):
        yield from _read_pair(context, prediction, root, platform, pseudonymize)
    for path in sorted([*root.glob(f"{METADATA}/record_*.json"), *root.glob(f"{METADATA}/{STEPS}/*/record_*.json")]):
        document = _read(path, root)
        yield document if isinstance(document, Reject) else _decoded(document.get("tracemill"), path, root)


def is_tree(root: Path) -> bool:
    """Whether a folder has any of the layout's own."""
    return any((root / folder).is_dir() for folder in (CONTEXTS, PREDICTIONS, METADATA))


def _pairs(root: Path) -> Iterator[tuple[Path | None, Path | None]]:
    """Files that belong together, by name, then by session and time; then those that are alone."""
    contexts = _files(root, CONTEXTS, "context_")
    predictions = _files(root, PREDICTIONS, "prediction_")
    for key in sorted(contexts.keys() & predictions.keys()):
        yield contexts.pop(key), predictions.pop(key)
    sessions: dict[str, list[tuple[datetime, int, Path]]] = {}
    for kind, files in enumerate((contexts, predictions)):
        for path in files.values():
            document = _read(path, root)
            session = None if isinstance(document, Reject) else document.get("session_id")
            if isinstance(document, Reject) or session is None:
                yield (path, None) if kind == 0 else (None, path)
            else:
                stated = moment(document.get("timestamp")) or EPOCH
                sessions.setdefault(json.dumps(session), []).append((stated, kind, path))
    for found in sessions.values():
        waiting: list[Path] = []
        for _, kind, path in sorted(found):
            if kind == 0:
                waiting.append(path)
            else:
                yield (waiting.pop() if waiting else None), path
        yield from ((path, None) for path in waiting)


def _files(root: Path, folder: str, prefix: str) -> dict[tuple[str, str], Path]:
    found = sorted(root.glob(f"{folder}/*/{prefix}*.json"))
    return {(path.parent.name, path.name.removeprefix(prefix)): path for path in found}


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(100_000)
    except OSError:
        return b""


def _read(path: Path, root: Path) -> Document | Reject:
    place = str(path.relative_to(root))
    try:
        if not path.is_file():
            return Reject(place, "malformed", "not a regular file", b"")
        if path.stat().st_size > MAX_BYTES:
            return Reject(place, "too_large", f"a file of more than {MAX_BYTES:,} bytes", _head(path))
        document = json.loads(path.read_bytes())  # the codec's marks stay as they are until the record is decoded
    except RecursionError:
        return Reject(place, "too_deep", "nested too deeply to be read", _head(path))
    except (ValueError, OSError) as error:
        return Reject(place, "malformed", f"cannot be read: {error}", _head(path))
    if not isinstance(document, dict):
        return Reject(place, "invalid", "a file of the tree holds an object", _head(path))
    return document


def _decoded(plain: Any, path: Path, root: Path) -> AnyRecord | Reject:
    try:
        return decode_json(json.dumps(plain).encode())
    except RecordError as error:
        return Reject(str(path.relative_to(root)), error.reason, error.message, _head(path))


def _read_pair(
    context_path: Path | None,
    prediction_path: Path | None,
    root: Path,
    platform: str,
    pseudonymize: Callable[[str | int], User] | None,
) -> Iterator[AnyRecord | Reject]:
    documents: list[Document] = []
    for path in (context_path, prediction_path):
        document = {} if path is None else _read(path, root)
        if isinstance(document, Reject):
            yield document
        documents.append({} if isinstance(document, Reject) else document)
    context, prediction = documents
    ours = [isinstance(document.get("tracemill"), dict) for document in documents]
    if context_path is not None and ours[0]:
        events = context.get("events")
        yield _decoded({**context["tracemill"], **({"messages": events} if events else {})}, context_path, root)
    if prediction_path is not None and ours[1]:
        if not context:
            place = str(prediction_path.relative_to(root))
            yield Reject(place, "invalid", "a prediction without its chat context", _head(prediction_path))
        trajectory = prediction.get("trajectory")
        for step in trajectory if isinstance(trajectory, list) else []:
            yield _decoded(step.get("tracemill") if isinstance(step, dict) else step, prediction_path, root)
    foreign = [{} if own else document for document, own in zip(documents, ours, strict=True)]
    if not any(foreign):
        return
    try:
        yield from foreign_records(foreign[0], foreign[1], platform, pseudonymize)
    except RecordError as error:
        path = context_path or prediction_path or root
        yield Reject(str(path.relative_to(root)), error.reason, error.message, _head(path))
