"""Other conversations made of one that took place: other values, a tool that fails once, odd input, other difficulty.

Nothing here invents what an assistant would have said. Every answer of a row was given by the recorded assistant, to what it
was given there; where a change would ask for another answer, the row ends before it and says what it needs.
"""

from __future__ import annotations

import copy
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from tracemill.core.messages import role, text, tool_calls
from tracemill.core.records import Message
from tracemill.quality.metrics import is_failure
from tracemill.quality.rewording import pick

SlotValue: TypeAlias = str | dict[str, str]
Slots: TypeAlias = Mapping[str, Sequence[SlotValue]]
"""Values that may stand for each other, by slot: texts, or mappings of texts that go together (a city and its code)."""
Fault: TypeAlias = Literal["timeout", "malformed", "error", "unknown_tool"]
TRANSIENT: tuple[Fault, ...] = ("timeout", "malformed")
"""Faults after which to call again is the right thing to do, as the recorded assistant then does."""
Edge: TypeAlias = Literal["unicode", "very_long", "empty", "tool_gone"]
HARMLESS: tuple[Edge, ...] = ("unicode", "very_long")
"""Edges that ask for no other answer than the one that was given."""
FAILURES: dict[Fault, str] = {
    "timeout": "Error: the tool did not answer in time.",
    "malformed": '{"status": "ok", "data": [{"id":',
    "error": "Error: the tool failed with an internal error.",
    "unknown_tool": "Error: there is no such tool.",
}
PADDING = 2000
"""Characters of blank lines and dots that make an input very long."""


class Made(Struct, frozen=True, kw_only=True):
    """A conversation that was made of another. ``needs`` is empty when it is whole; else what only a person or a model can
    give: ``answer`` (it ends with a user's message) or ``recovery`` (it ends with a failed call).
    """

    messages: list[Message]
    tools: list[dict[str, Any]]
    needs: Literal["", "answer", "recovery"] = ""


# -- other values


def vary(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]], slots: Slots, source: random.Random
) -> Made | None:
    """The conversation with other values in its slots: in what was said, in tool calls and in their results alike.

    Values that occur are exchanged for values that do not, different ones for different ones. None when none occurs, when
    there is no other value left, or when a value stands in the tools' descriptions, which are not to change.
    """
    spoken = json.dumps(list(messages), ensure_ascii=False, default=str)
    offered = json.dumps(list(tools), ensure_ascii=False, default=str)
    exchange: dict[str, str] = {}
    for name in sorted(slots):
        choices = [_facets(value) for value in slots[name]]
        present = [one for one in choices if any(_occurs(facet, spoken) for facet in one.values())]
        free = [one for one in choices if not any(_occurs(facet, spoken) for facet in one.values())]
        for old in present:
            if not free or any(_occurs(facet, offered) for facet in old.values()):
                return None
            new = free.pop(pick(source, len(free)))
            if old.keys() != new.keys():
                return None
            exchange.update({old[facet]: new[facet] for facet in old})
    if not exchange:
        return None
    replace = _replacer(exchange)
    return Made(messages=[_varied(message, replace) for message in messages], tools=list(tools))


def _facets(value: SlotValue) -> dict[str, str]:
    return {"": value} if isinstance(value, str) else dict(value)


def _occurs(value: str, content: str) -> bool:
    return bool(value) and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", content, re.IGNORECASE) is not None


def _replacer(exchange: Mapping[str, str]) -> Callable[[str], str]:
    """All values at once, longest first, so that none is replaced twice; in capitals or small letters where they stood so."""
    folded = {old.lower(): new for old, new in exchange.items()}
    longest = sorted(exchange, key=lambda old: (-len(old), old))
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE)

    def one(match: re.Match[str]) -> str:
        found, new = match[0], folded.get(match[0].lower(), match[0])
        if found in exchange:
            return new
        return new.lower() if found.islower() else new.upper() if found.isupper() else new

    return lambda content: pattern.sub(one, content)


def _varied(value: Any, replace: Callable[[str], str]) -> Any:
    """A message with every text in it replaced; JSON inside a text by its values, keys and roles stay."""
    if isinstance(value, str):
        return _in_json(value, replace)
    if isinstance(value, list):
        return [_varied(element, replace) for element in value]
    if isinstance(value, dict):
        kept = ("role", "id", "tool_call_id", "type")
        return {key: each if key in kept else _varied(each, replace) for key, each in value.items()}
    return value


def _in_json(content: str, replace: Callable[[str], str]) -> str:
    if content.lstrip()[:1] in ("{", "["):
        try:
            plain = json.loads(content)
            changed = _json_values(plain, replace)
            return content if changed == plain else json.dumps(changed, ensure_ascii=content.isascii())
        except (ValueError, RecursionError):  # no JSON, or nested deeper than can be walked
            return replace(content)
    return replace(content)


def _json_values(value: Any, replace: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, list):
        return [_json_values(element, replace) for element in value]
    if isinstance(value, dict):
        return {key: _json_values(each, replace) for key, each in value.items()}
    return value


# -- a tool that fails


def fail(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]], fault: Fault, source: random.Random
) -> Made | None:
    """The conversation in which one call fails first. None where no single call with a good result stands in it.

    After a fault of :data:`TRANSIENT` the assistant calls again, as it did, and all goes on as it went. After any other the
    row ends with the failure: what to do then nobody said.
    """
    places = [at for at in range(len(messages) - 1) if _one_good_call(messages, at)]
    if not places:
        return None
    at = places[pick(source, len(places))]
    call = copy.deepcopy(messages[at])
    result = copy.deepcopy(messages[at + 1])
    failed = f"{call['tool_calls'][0]['id']}-failed"
    call["tool_calls"][0]["id"] = result["tool_call_id"] = failed
    result["content"] = FAILURES[fault]
    if fault == "unknown_tool":
        called = call["tool_calls"][0]["function"]
        called["name"] = result["name"] = f"{called['name']}_v2"
    begun = [*messages[:at], call, result]
    if fault in TRANSIENT:
        return Made(messages=[*begun, *messages[at:]], tools=list(tools))
    return Made(messages=begun, tools=list(tools), needs="recovery")


def _one_good_call(messages: Sequence[Message], at: int) -> bool:
    calls = list(tool_calls(messages[at])) if role(messages[at]) == "assistant" else []
    if len(calls) != 1 or calls[0].id is None or not isinstance(messages[at].get("tool_calls"), list):
        return False
    result = messages[at + 1]
    return role(result) == "tool" and result.get("tool_call_id") == calls[0].id and not is_failure(text(result))


# -- odd input


def edge(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]], case: Edge, source: random.Random
) -> Made | None:
    """The conversation with an odd input. None where it has no place for it.

    ``unicode`` and ``very_long`` change how a user's message is written and not what it says, so that the answer stands.
    ``empty`` makes the message empty and ``tool_gone`` takes the first tool that was called out of what is offered: these end
    with the user's message, for nobody answered it so.
    """
    turns = [
        at for at, message in enumerate(messages) if role(message) == "user" and isinstance(message.get("content"), str)
    ]
    turns = [at for at in turns if messages[at]["content"].strip()]
    if not turns:
        return None
    at = turns[pick(source, len(turns))]
    if case in HARMLESS:
        content = messages[at]["content"]
        odd = _odd_letters(content, source) if case == "unicode" else content + "\n" + " .\n" * (PADDING // 3)
        changed = {**messages[at], "content": odd}
        return (
            Made(messages=[*messages[:at], changed, *messages[at + 1 :]], tools=list(tools)) if odd != content else None
        )
    if case == "empty":
        return Made(messages=[*messages[:at], {**messages[at], "content": ""}], tools=list(tools), needs="answer")
    called = next((call.name for message in messages for call in tool_calls(message)), None)
    left = [tool for tool in tools if _tool_name(tool) != called]
    first = next((place for place, message in enumerate(messages) if any(tool_calls(message))), 0)
    before = [place for place in turns if place < first]
    if called is None or len(left) == len(tools) or not before:
        return None
    return Made(messages=list(messages[: before[-1] + 1]), tools=left, needs="answer")


def _odd_letters(content: str, source: random.Random) -> str:
    """The same text with decomposed accents, no-break spaces, curly apostrophes and zero-width spaces between words."""
    odd = unicodedata.normalize("NFD", content).replace("'", "’")
    spaces = (" ", " ", "\u00a0", "\u2009", " \u200b")
    return re.sub(" ", lambda _: spaces[pick(source, len(spaces))], odd)


def _tool_name(tool: Mapping[str, Any]) -> str | None:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else tool.get("name")
    return name if isinstance(name, str) else None


# -- difficulty


class Difficulty(Struct, frozen=True, kw_only=True):
    """How much a conversation asks for. ``level`` is 1 to 5: 1, and one more for each of these that holds: three user turns
    or more; a tool call; three different tools or more; five offered tools that are not called, or more.
    """

    level: int
    turns: int
    calls: int
    different_tools: int
    distractors: int


def difficulty(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Difficulty:
    """The difficulty of a conversation with the tools it was offered."""
    names = [call.name for message in messages for call in tool_calls(message)]
    offered = {_tool_name(tool) for tool in tools}
    turns = sum(role(message) == "user" for message in messages)
    distractors = len(offered - set(names))
    level = 1 + (turns >= 3) + bool(names) + (len(set(names)) >= 3) + (distractors >= 5)
    return Difficulty(
        level=level, turns=turns, calls=len(names), different_tools=len(set(names)), distractors=distractors
    )


def graded(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]], distractors: Sequence[dict[str, Any]]
) -> Iterator[Made]:
    """The conversation at other levels of difficulty, easiest first, one of each level other than its own.

    Easier: it ends at an earlier answer, or offers only the tools that it calls. Harder: tools are offered besides (those of
    ``distractors`` whose names are not taken), of which it calls none.
    """
    called = {call.name for message in messages for call in tool_calls(message)}
    needed = [tool for tool in tools if _tool_name(tool) in called]
    taken = {_tool_name(tool) for tool in tools}
    added = [tool for tool in distractors if _tool_name(tool) not in taken]
    ends = [
        at + 1 for at, message in enumerate(messages) if role(message) == "assistant" and not any(tool_calls(message))
    ]
    shorter = [list(messages[:end]) for end in ends if end < len(messages) and _asked(messages[:end])]
    made = [Made(messages=part, tools=kept) for part in shorter for kept in (needed, list(tools))]
    made.append(Made(messages=list(messages), tools=needed))
    if added:
        made.append(Made(messages=list(messages), tools=[*tools, *added]))
    own = difficulty(messages, tools).level
    levels: dict[int, Made] = {}
    for one in made:
        levels.setdefault(difficulty(one.messages, one.tools).level, one)
    yield from (levels[level] for level in sorted(levels) if level != own)


def _asked(messages: Sequence[Message]) -> bool:
    return any(role(message) == "user" for message in messages)
