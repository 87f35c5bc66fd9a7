"""Checking a row from its bytes: is it a conversation a trainer accepts, and does it hold all that its example says?

This module does not trust the functions that make rows. It parses the written bytes and accounts for every message,
tool-call id, name and argument value of the example: each stands in the row at its place, or in the list of what is lost.
A row of another shape than messages is read into messages first (``unfold``), and has to be all that those messages give
again: what the reading passed over is a fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tracemill.core.codec import encode_plain
from tracemill.core.errors import RecordError
from tracemill.core.examples import Example
from tracemill.core.messages import problems, role, text
from tracemill.core.records import Message
from tracemill.dataset.history import call_ids
from tracemill.export.call_ids import NINE
from tracemill.export.losses import Lost, RefusedError, is_empty, pointer
from tracemill.export.rows import Format, value_of

_ACCEPTED = {"starts_with_assistant"}
"""What :func:`tracemill.core.messages.problems` finds and trainers take: applications that greet first are common."""

_GONE = "field_not_in_format"
"""The one reason by which a field may be missing; what is listed for another is there in another form."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is not written: a stable word, and a sentence."""

    reason: str
    detail: str


def check_row(data: bytes, example: Example, made: Format, lost: Sequence[Lost]) -> Fault | None:
    """The first thing that is wrong with a row, or None. ``data`` is the line as it will stand in the file."""
    try:
        row = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Fault("not_json", str(error))
    if not isinstance(row, dict):
        return Fault("not_json", "the row is no object")
    try:
        return next(_faults(row, example, made, lost), None)
    except _UnreadError as error:
        return Fault("not_of_the_format", str(error))


class _UnreadError(Exception):
    """A row that is not of its format."""


def _faults(row: dict[str, Any], example: Example, made: Format, losses: Sequence[Lost]) -> Iterator[Fault]:
    lost = {entry.path: entry.reason for entry in losses}
    if made.texts:
        yield from _check_texts(row, example, made, lost)
        return
    row = _read(row, made)
    if unknown := row.keys() - {*made.sides, *made.values, "tools", "parallel_tool_calls"}:
        yield Fault("unknown_key", f"the row has {sorted(unknown)}")
    sides = {side: getattr(example, side) for side in made.sides}
    if made.dialect.ids != "kept":
        yield from _check_ids_listed(sides, made, losses)
        sides = _in_order(sides) if made.dialect.ids == "order" else _renamed(sides, row)
    for side in made.sides:
        yield from _check_side(row.get(side), sides[side], f"/{side}", lost)
    for name in made.values:
        expected = value_of(example, name)
        gone = name not in row and (is_empty(expected) or lost.get(f"/{name}") == _GONE)
        if not _equal(row.get(name), expected) and not gone:
            yield Fault("value_changed", f"{name} is not the example's")
    yield from _check_tools(row, example, lost)
    parallel = made.marks_parallel_calls and any(
        len(message.get("tool_calls") or ()) > 1 for side in made.sides for message in row[side]
    )
    if row.get("parallel_tool_calls") is not (True if parallel else None):
        yield Fault("value_changed", "parallel_tool_calls is not what the messages say")
    if getattr(example, "tail", None) and "tail" not in made.sides and "/tail" not in lost:
        yield Fault("tail_not_listed", "messages after the last answer are neither in the row nor listed")
    for conversation in made.conversations:
        yield from _check_conversation([message for side in conversation for message in row[side]], made)
    if made.ends_with_answer:
        yield from _check_answers(row, made)


def _read(row: dict[str, Any], made: Format) -> dict[str, Any]:
    """The row as messages. Raises _UnreadError for one that is not of its form, or says more than can be read out of it."""
    if made.fold is None or made.unfold is None:
        return row
    try:
        read = made.unfold(row)
        again = made.fold(read, [])
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, RefusedError) as error:
        raise _UnreadError(f"{type(error).__name__}: {error}") from error
    if not _equal(again, row):
        raise _UnreadError("the row has what no reader of its form looks at")
    return read


def _check_tools(row: dict[str, Any], example: Example, lost: dict[str, str]) -> Iterator[Fault]:
    if "tools" not in row:
        if example.tools and lost.get("/tools") != _GONE:
            yield Fault("value_changed", "tools is not the example's")
    elif not _equal(row["tools"], example.tools):
        yield from _account(example.tools, row["tools"], "/tools", lost)


def _check_ids_listed(sides: dict[str, list[Message]], made: Format, losses: Sequence[Lost]) -> Iterator[Fault]:
    """Ids that a format does not have as they were are all named in the list."""
    for side, messages in sides.items():
        ids = [value for value in call_ids(messages) if made.dialect.ids == "order" or not NINE.fullmatch(value)]
        listed = [entry.call_ids for entry in losses if entry.path == f"/{side}" and entry.call_ids]
        if ids and ids not in listed:
            yield Fault("value_lost", f"the tool-call ids of {side} are neither in the row nor listed as lost")


def _in_order(sides: dict[str, list[Message]]) -> dict[str, list[Message]]:
    """The example's messages with ids that count the calls, and results named after what they answer."""
    count, counted = 0, {}
    for side, messages in sides.items():
        copied = []
        asked: list[tuple[str, Any]] = []
        for message in messages:
            if role(message) == "tool":
                number, name = asked.pop(0) if asked else ("", None)
                copied.append({**message, "tool_call_id": number, "name": name})
                continue
            calls = []
            for call in message.get("tool_calls") or ():
                count += 1
                calls.append({**call, "id": f"call_{count}"})
            asked = [(call["id"], call["function"]["name"]) for call in calls]
            copied.append({**message, "tool_calls": calls})
        counted[side] = copied
    return counted


def _renamed(sides: dict[str, list[Message]], row: dict[str, Any]) -> dict[str, list[Message]]:
    """The example's messages with the row's ids, where one id of the row stands for one id of the example."""
    theirs = [value for messages in sides.values() for value in call_ids(messages)]
    try:
        mine = [value for side in sides for value in call_ids(row[side])]
    except (LookupError, TypeError, AttributeError) as error:
        raise _UnreadError(f"{type(error).__name__}: {error}") from error
    pairs = set(zip(theirs, mine, strict=False))
    if len(theirs) != len(mine) or not len(pairs) == len(set(theirs)) == len(set(mine)):
        raise _UnreadError("the tool-call ids are not the example's under other names")
    if bad := [value for value in mine if not NINE.fullmatch(value)]:
        raise _UnreadError(f"{bad[0]!r} is no tool-call id of this format")
    if any(given != kept for given, kept in pairs if NINE.fullmatch(given)):
        raise _UnreadError("an id that the format takes was renamed")
    names = dict(pairs)
    return {side: [_rename(message, names) for message in messages] for side, messages in sides.items()}


def _rename(message: Message, names: dict[str, str]) -> Message:
    copied = dict(message)
    if isinstance(answered := message.get("tool_call_id"), str):
        copied["tool_call_id"] = names[answered]
    if calls := message.get("tool_calls"):
        copied["tool_calls"] = [
            {**call, "id": names[call["id"]]} if isinstance(call.get("id"), str) else call for call in calls
        ]
    return copied


def _check_texts(row: dict[str, Any], example: Example, made: Format, lost: dict[str, str]) -> Iterator[Fault]:
    """Texts picked out of a conversation: the last question, and the last message of each answering side."""
    if row.keys() != made.columns.keys():
        yield Fault("unknown_key", f"the row has {sorted(row)}")
        return
    sides = {side: getattr(example, side) for side in made.sides}
    answering = made.sides[1:] or made.sides
    asking = made.sides[0]
    ends = len(sides[asking]) - (asking in answering)
    asked = [at for at in range(ends) if role(sides[asking][at]) == "user" and text(sides[asking][at])]
    places = [(asking, asked[-1] if asked else 0), *((side, len(sides[side]) - 1) for side in answering)]
    for column, (side, at) in zip(made.columns, places, strict=True):
        message = sides[side][at]
        if row[column] != text(message) or not row[column]:
            yield Fault("value_changed", f"{column} is not what the example says")
        for key, value in message.items():
            plain = key == "role" or (key == "content" and isinstance(value, str)) or is_empty(value)
            if not plain and f"/{side}/{at}{pointer(key)}" not in lost:
                yield Fault("value_lost", f"{key} of {column} is neither in the row nor listed as lost")
    if sum(map(len, sides.values())) > len(places) and f"/{asking}" not in lost:
        yield Fault("messages_missing", "the rest of the conversation is neither in the row nor listed")
    yield from _check_tools(row, example, lost)
    if getattr(example, "tail", None) and "/tail" not in lost:
        yield Fault("tail_not_listed", "messages after the last answer are neither in the row nor listed")


def _check_side(found: Any, source: list[Message], path: str, lost: dict[str, str]) -> Iterator[Fault]:
    if not isinstance(found, list) or len(found) != len(source):
        yield Fault("messages_missing", f"{path} has not the example's {len(source)} messages")
        return
    for at, (mine, theirs) in enumerate(zip(found, source, strict=True)):
        if not _equal(mine, theirs):
            yield from _account(theirs, mine, f"{path}/{at}", lost)


def _account(source: Any, found: Any, path: str, lost: dict[str, str]) -> Iterator[Fault]:
    """Follow two values side by side down to what differs."""
    if path in lost:
        no_arguments = path.endswith("/function/arguments") and is_empty(source) and found == "{}"
        if not no_arguments and not _allowed(source, found):
            yield Fault("value_changed", f"{path} is listed, but is neither gone nor in a form that says the same")
    elif path.endswith("/function/arguments") and isinstance(source, str) != isinstance(found, str):
        if not _same_arguments(source, found):
            yield Fault("value_changed", f"{path} is not what was captured")
    elif isinstance(source, dict) and isinstance(found, dict):
        yield from _account_object(source, found, path, lost)
    elif isinstance(source, list) and isinstance(found, list) and len(source) == len(found):
        for at, (theirs, mine) in enumerate(zip(source, found, strict=True)):
            yield from _account(theirs, mine, f"{path}/{at}", lost)
    elif not _equal(source, found) and not (is_empty(source) and is_empty(found)):
        yield Fault("value_changed", f"{path} is not what was captured")


def _account_object(source: dict[str, Any], found: dict[str, Any], path: str, lost: dict[str, str]) -> Iterator[Fault]:
    for key, value in source.items():
        if isinstance(value, str) and found.get(key) == value:
            continue
        place = path + pointer(str(key))
        if key in found:
            yield from _account(value, found[key], place, lost)
        elif not is_empty(value) and lost.get(place) != _GONE and not _position(key, value, path):
            yield Fault("value_lost", f"{place} is neither in the row nor listed as lost")
    for key in found.keys() - source.keys():
        if not is_empty(found[key]) and (key, found[key]) != ("type", "function"):
            yield Fault("value_invented", f"{path}{pointer(str(key))} is not in the example")


def _allowed(source: Any, found: Any) -> bool:
    """Whether a value that is listed as changed says the same in its new form."""
    if source == "developer":
        return bool(found == "system")
    if isinstance(source, list) and isinstance(found, str):
        return found == "\n".join(part["text"] for part in source)
    return _equal(source, found) or (is_empty(source) and is_empty(found))


def _position(key: str, value: Any, path: str) -> bool:
    """The ``index`` of a streamed tool call says what its place in the list says."""
    return key == "index" and path.endswith(f"/tool_calls/{value}")


def _same_arguments(source: Any, found: Any) -> bool:
    text, value = (source, found) if isinstance(source, str) else (found, source)
    try:
        return _equal(json.loads(text, object_pairs_hook=_distinct), value)
    except (ValueError, TypeError, RecursionError):
        return is_empty(source) and is_empty(found)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice, and an object holds one of the values only")
    return dict(pairs)


def _equal(one: Any, other: Any) -> bool:
    """Equality that tells 1, 1.0 and true apart and takes no account of the order of keys. NaN is equal to nothing."""
    if one != other:
        return False
    if isinstance(one, str) or (isinstance(one, dict) and all(isinstance(value, str) for value in one.values())):
        return True  # texts are equal or not: only numbers need a closer look
    try:
        return encode_plain(one) == encode_plain(other)
    except RecordError:
        return False


def _check_conversation(messages: list[Message], made: Format) -> Iterator[Fault]:
    last = max((at for at, message in enumerate(messages) if role(message) == "assistant"), default=-1)
    for problem in problems(messages):
        if problem.reason in _ACCEPTED or (problem.reason == "unanswered_call" and problem.index == last):
            continue  # the results of the last calls are in the tail, where no format can hold them
        yield Fault(problem.reason, f"message {problem.index}: {problem.detail}")
    if made.dialect.fields is not None:  # a format that keeps messages as captured keeps odd calls too
        yield from _check_calls(messages)
    if not messages:
        yield Fault("no_messages", f"a row of {made.name} without messages")


def _check_calls(messages: list[Message]) -> Iterator[Fault]:
    for at, message in enumerate(messages):
        for call in message.get("tool_calls") or ():
            name = call.get("function", {}).get("name")
            if call.get("type") != "function" or not isinstance(name, str) or not name:
                yield Fault("malformed_tool_calls", f"message {at} calls no function by name")


def _check_answers(row: dict[str, Any], made: Format) -> Iterator[Fault]:
    answers = [side for side in made.sides if side != "prompt"]
    for side in answers:
        if not row[side] or role(row[side][-1]) != "assistant":
            yield Fault("last_message_not_assistant", f"{side} does not end with an assistant message")
    if "prompt" in made.sides:
        if not row["prompt"]:
            yield Fault("prompt_is_empty", "nothing stands before the answer")
        elif role(row["prompt"][-1]) not in ("user", "tool", "assistant"):
            yield Fault("prompt_ends_with_system", "no user or tool message stands before the answer")
    if len(answers) > 1 and _equal(row[answers[0]], row[answers[1]]):
        yield Fault("sides_equal", "in this format both sides say the same")
