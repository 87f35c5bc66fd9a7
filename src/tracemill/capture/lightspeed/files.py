"""Turns and feedback as the JSON files that Lightspeed's exporter collects, and those files as records again.

The exporter takes every ``*.json`` it finds, at any moment, and may delete it. So a file is written under another name,
synced, and only then renamed: none is ever seen half written. Texts are redacted, and users are pseudonyms.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from tracemill.capture.ingest import Reject
from tracemill.capture.lightspeed.frames import tool_calls
from tracemill.capture.lightspeed.redact import redact
from tracemill.capture.lightspeed.schemas import IMAGE_SIGNATURES
from tracemill.capture.lightspeed.turns import Answer, answer_shown, kind_of, question_of
from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError, SettingError
from tracemill.core.ids import derived_id, new_id
from tracemill.core.records import SCHEMA_VERSION, Feedback, Interaction, Message, Model, User

_PLAIN = re.compile(r"[0-9a-z][0-9a-z-]{0,63}")
_HASHED = "sha256-"
_DEVICES = re.compile(r"con|prn|aux|nul|(?:com|lpt)[0-9]")


def safe_name(raw: str) -> str:
    """A folder's or file's name for any text; two texts never share one, on no file system.

    Short lower-case words of letters, digits and hyphens stay as they are. Everything else becomes ``sha256-`` and its
    hash: what a path could misread (``..``, separators, NUL), what Windows keeps for devices (``con``), what some file
    systems fold together (upper case, composed letters), what is too long or empty, and what looks like such a hash.
    """
    if _PLAIN.fullmatch(raw) and not raw.startswith(_HASHED) and not _DEVICES.fullmatch(raw):
        return raw
    return _HASHED + hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()


def transcript_of(turn: Interaction) -> dict[str, Any]:
    """A turn as the content of a transcript file."""
    asked, model = turn.model_requested, turn.model or Model()
    calls = turn.response.get("tool_calls") if turn.response else None
    return {
        "metadata": {
            "provider": model.provider,
            "model": model.name or "",
            "query_provider": asked.provider if asked else model.provider,
            "query_model": asked.name if asked else model.name,
            "user_id": turn.user.pseudonym if turn.user else "",
            "conversation_id": turn.conversation_id or "",
            "timestamp": turn.time.isoformat(),
        },
        "redacted_query": redact(question_of(turn)),
        "query_is_valid": turn.query_is_valid is not False,
        "llm_response": redact(answer_shown(turn)),
        "rag_chunks": _redacted(turn.retrieved_chunks),
        "truncated": turn.truncated is True,
        "attachments": [_attachment(entry) for entry in turn.attachments],
        "tool_calls": _redacted(tool_calls(Answer(tool_calls=calls))) if isinstance(calls, list) else [],
        "tool_results": [],
    }


def feedback_content(feedback: Feedback) -> dict[str, Any]:
    """A feedback as the content of a feedback file."""
    sentiment = {"thumbs_up": 1, "thumbs_down": -1}.get(feedback.kind)
    return {
        "user_id": feedback.user.pseudonym if feedback.user else "",
        "timestamp": str(feedback.time),
        "conversation_id": feedback.conversation_id,
        "user_question": redact(feedback.user_question or ""),
        "llm_response": redact(feedback.llm_response or ""),
        "sentiment": sentiment,
        "user_feedback": None if feedback.comment is None else redact(feedback.comment),
        "categories": feedback.categories or None,
    }


def write_transcript(root: Path, turn: Interaction) -> Path:
    """Write ``{root}/{user}/{conversation}/{id}.json``; returns its path. Raises OSError, SettingError."""
    user = turn.user.pseudonym if turn.user else ""
    folder = root / safe_name(user) / safe_name(turn.conversation_id or "")
    return write_json(root, folder / f"{safe_name(turn.id)}.json", transcript_of(turn))


def write_feedback(root: Path, feedback: Feedback) -> Path:
    """Write ``{root}/{id}.json``; returns its path. Raises OSError, SettingError."""
    return write_json(root, root / f"{safe_name(feedback.id)}.json", feedback_content(feedback))


def write_json(root: Path, path: Path, content: Any) -> Path:
    """Write a file that is there whole or not at all. Its folder is made, and must lie inside of ``root``.

    Raises OSError, and SettingError where a link leads out of the root.
    """
    folder = path.parent
    _inside(root, folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    _inside(root, folder)
    encoded = msgspec.json.encode(content)
    draft = folder / f".{new_id()}.draft"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encoded)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync(folder)
    return path


def _inside(root: Path, folder: Path) -> None:
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root)):
        raise SettingError(f"{folder} leads out of {root}", hint="Remove the symbolic link.")


def _sync(folder: Path) -> None:
    """Make a new name in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _attachment(entry: Any) -> Any:
    """An attachment with its text redacted. An image stays: what it shows cannot be found by patterns."""
    if isinstance(entry, dict) and entry.get("content_type") in IMAGE_SIGNATURES:
        return entry
    return _redacted(entry)


def _redacted(value: Any) -> Any:
    """JSON with every text in it redacted; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_redacted(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _redacted(entry) for key, entry in value.items()}
    return value


# -- and back


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The ``metadata`` of a transcript file."""

    user_id: str
    conversation_id: str
    timestamp: str
    provider: str | None = None
    model: str | None = None
    query_provider: str | None = None
    query_model: str | None = None


class _Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """A transcript file, as this or the real service writes it."""

    metadata: _Metadata
    redacted_query: str
    llm_response: str
    query_is_valid: bool | None = None
    truncated: bool | None = None
    rag_chunks: list[Any] = []
    attachments: list[Any] = []
    tool_calls: list[dict[str, Any]] = []
    tool_results: list[dict[str, Any]] = []


class _FeedbackFile(msgspec.Struct, frozen=True, kw_only=True):
    """A feedback file. ``categories`` may hold any words: older services took others."""

    user_id: str
    timestamp: str
    conversation_id: str
    user_question: str
    llm_response: str
    sentiment: int | None = None
    user_feedback: str | None = None
    categories: list[str] | None = None


def read_file(raw: bytes, place: str, *, user: Any, platform: str) -> Interaction | Feedback | Reject:
    """A transcript or feedback file as a record. ``user`` makes a User of the raw id that the file holds.

    The id is made of the content, so that reading a file again gives the same record. Transcripts say neither the order
    of turns nor what was said before: each is a turn of its own, ordered by time.
    """
    try:
        value = parse_json(raw)
        transcript = isinstance(value, dict) and "metadata" in value
        if transcript:
            return _interaction(msgspec.convert(value, _Transcript), raw, user, platform)
        return _feedback(msgspec.convert(value, _FeedbackFile), raw, user, platform)
    except RecordError as error:
        return Reject(place, error.reason, error.message, raw)
    except (msgspec.ValidationError, ValueError) as error:
        return Reject(place, "invalid", str(error), raw)


def _interaction(file: _Transcript, raw: bytes, user: Any, platform: str) -> Interaction:
    about = file.metadata
    answer: Message = {"role": "assistant", "content": file.llm_response}
    if file.tool_calls:
        answer["tool_calls"] = [_openai_call(call) for call in file.tool_calls]
    extra: dict[str, Any] = {"tool_results": file.tool_results} if file.tool_results else {}
    return Interaction(
        **_base(raw, about.timestamp),
        extra=extra,
        platform=platform,
        kind="query",
        conversation_id=about.conversation_id or None,
        user=_user(about.user_id, user),
        model_requested=_model(about.query_provider, about.query_model),
        model=_model(about.provider, about.model),
        messages=[{"role": "user", "content": file.redacted_query}],
        response=answer,
        tool_call_count=len(file.tool_calls),
        tools_used=list(dict.fromkeys(str(call.get("name")) for call in file.tool_calls if call.get("name"))),
        retrieved_chunks=file.rag_chunks,
        attachments=file.attachments,
        query_is_valid=file.query_is_valid,
        truncated=file.truncated,
    )


def _feedback(file: _FeedbackFile, raw: bytes, user: Any, platform: str) -> Feedback:
    return Feedback(
        **_base(raw, file.timestamp),
        kind=kind_of(file.sentiment, file.user_feedback, file.categories),
        conversation_id=file.conversation_id,
        platform=platform,
        user_question=file.user_question,
        llm_response=file.llm_response,
        user=_user(file.user_id, user),
        comment=file.user_feedback or None,
        categories=file.categories or [],
    )


def _base(raw: bytes, timestamp: str) -> dict[str, Any]:
    time = datetime.fromisoformat(timestamp)
    if time.tzinfo is None:
        raise ValueError(f"the timestamp {timestamp!r} has no offset from UTC")
    identity = derived_id("lightspeed-file", hashlib.sha256(raw).hexdigest(), moment=time)
    return {"id": identity, "time": time, "schema_version": SCHEMA_VERSION, "producer": "lightspeed", "sequence": 0}


def _user(raw_id: str, user: Any) -> User | None:
    return user(raw_id) if raw_id else None


def _model(provider: str | None, name: str | None) -> Model | None:
    return Model(provider=provider, name=name) if provider or name else None


def _openai_call(call: dict[str, Any]) -> dict[str, Any]:
    arguments = msgspec.json.encode(call.get("args", {})).decode()
    return {
        "id": call.get("id"),
        "type": "function",
        "function": {"name": str(call.get("name") or ""), "arguments": arguments},
    }
