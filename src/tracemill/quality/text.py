"""What the messages of one interaction show by themselves: defects a trainer would learn, each with its place.

The rules look at what the assistant said, turn by turn, and leave code fences out where prose is judged. Limits are those of
chat, not of web pages: a one-word answer, a list, JSON or another language is no defect. Every rule says what it measured
and against which limit, so that nothing is dropped without a reason.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from tracemill.core.messages import problems, role, text, tool_calls, trajectory, written
from tracemill.core.records import Interaction, Message
from tracemill.quality.endings import cut_off, says_goodbye
from tracemill.quality.phrases import corrects, declines, declines_and_objects
from tracemill.quality.repetition import repetition

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_ITEM = re.compile(r"(?:[-*+•·–|>]|\d+[.)]|#{1,6}\s)|[^.!?]*\S:\**\s*\S{0,40}$")
"""A line of a list or a table, or of the form "name: value"."""
_SPACED = {point: " " for point in range(128) if not chr(point).isalnum() and chr(point) != "'"}
SHORTEST_JUDGED = 50
"""Words of a turn below which its repetition is not judged: a share of ten words says nothing."""
TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
"""Largest share of characters in the most frequent n-gram (Rae et al., Gopher, 2021, table A1); lists are left out."""
REPEATED_RUN, REPEATED_SHARE = 10, 0.30
"""Words of a run, and the largest share of characters in runs that came before (Gopher's is 0.10, for web pages)."""
REPEATED_LINES = 0.50
LOOP = 3
"""Equal turns, or equal tool calls one after another, from which on it is a loop."""
LEAK_WORDS, LEAK_RUN, LEAK_SHARE = 8, 30, 0.20
LONGEST_REFUSAL = 60
LONGEST_ANSWER = 100_000
LONGEST_REMEMBERED = 20_000
"""Characters of a text whose words are kept for the next rule to look at it."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a rule found: the rule's name, the message's place (−1: the whole), what was measured, and a sentence.

    ``defect`` is False for what a reader should know and a trainer need not fear.
    """

    rule: str
    index: int
    detail: str
    value: float | None = None
    limit: float | None = None
    defect: bool = True


class TextQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What the texts of one interaction measure. Counts are of messages; ``words`` are the assistant's.

    ``script`` is the writing most letters of the assistant belong to (``LATIN``, ``CJK``…), empty without letters: all that
    can be said of the language without a model. ``refusals`` and ``corrections`` count turns.
    """

    assistant_turns: int
    user_turns: int
    words: int
    script: str
    refusals: int
    corrections: int
    findings: tuple[Finding, ...]

    def defects(self) -> list[str]:
        """The names of the rules that found a defect, each once."""
        return sorted({finding.rule for finding in self.findings if finding.defect})


def measure_text(interaction: Interaction) -> TextQuality:
    """Every text rule over one interaction. A pure function of it."""
    messages = trajectory(interaction)
    said = [(at, text(message)) for at, message in enumerate(messages) if role(message) == "assistant"]
    refusals = [at for at, content in said if is_refusal(content) or messages[at].get("refusal")]
    corrections = list(_corrections(messages))
    findings = [
        *_structure(interaction, messages),
        *_truncation(interaction, messages, said),
        *_refusal(said, refusals),
        *_repetition(messages, said),
        *_length(messages, said),
        *_leak(messages, said),
        *(
            Finding(rule="user_corrects", index=at, detail="the user corrects the turn before", defect=False)
            for at in corrections
        ),
    ]
    return TextQuality(
        assistant_turns=len(said),
        user_turns=sum(role(message) == "user" for message in messages),
        words=sum(len(tokens(content)) for _, content in said),
        script=dominant_script(" ".join(content for _, content in said)),
        refusals=len(refusals),
        corrections=len(corrections),
        findings=tuple(findings),
    )


def words(content: str) -> list[str]:
    """The words of a text in lower case: letters and digits, an apostrophe inside."""
    lowered = content.lower()
    if not lowered.isascii():
        return _WORD.findall(lowered)
    found = lowered.translate(_SPACED).split()  # the same several times as fast, for most texts
    if "'" in lowered:
        return [word for part in found for word in (_WORD.findall(part) if "'" in part else (part,))]
    return found


def tokens(content: str) -> tuple[str, ...]:
    """The words of a text that several rules look at."""
    return _remembered(content) if len(content) <= LONGEST_REMEMBERED else tuple(words(content))


@lru_cache(maxsize=64)
def _remembered(content: str) -> tuple[str, ...]:
    return tuple(words(content))


def prose(content: str) -> str:
    """A text without its code fences."""
    return _FENCE.sub("\n", content) if "```" in content else content


def is_refusal(content: str) -> bool:
    """Whether a turn declines.

    Either it has at most 60 words and calls what is asked only "that" or "your request", or consists of words that name
    nothing at all; or, at any length, its first 40 words decline and object (illegal, unethical, harmful…).

    A turn that says what cannot be done and names it ("I cannot remove a passenger from a reservation") applies a policy, and
    is no refusal. English only.
    """
    if not content:
        return False
    if declines_and_objects(content):
        return True
    found = tokens(content)
    return len(found) <= LONGEST_REFUSAL and declines(content, found)


def dominant_script(content: str) -> str:
    """The script most letters belong to, as the first word of their Unicode names; of equals the first by name."""
    if content.isascii():
        return "LATIN" if any(letter.isalpha() for letter in content) else ""
    counts: Counter[str] = Counter()
    for letter, times in Counter(content).items():
        if letter.isalpha():
            counts[unicodedata.name(letter, "UNKNOWN").split(" ")[0]] += times
    return min(counts, key=lambda name: (-counts[name], name)) if counts else ""


# -- structure: roles, tool calls and results


def _structure(interaction: Interaction, messages: Sequence[Message]) -> Iterator[Finding]:
    last = max((at for at, message in enumerate(messages) if role(message) == "assistant"), default=-1)
    for problem in problems(messages):
        begins = problem.reason == "starts_with_assistant"
        open_end = problem.reason == "unanswered_call" and problem.index == last and interaction.response is not None
        yield Finding(rule=problem.reason, index=problem.index, detail=problem.detail, defect=not (begins or open_end))
    known = _tool_names(interaction)
    names: dict[str, str] = {}
    for at, message in enumerate(messages):
        if role(message) == "assistant":
            for call in tool_calls(message):
                if call.id and call.name:
                    names[call.id] = call.name
                if known and call.name not in known:
                    yield Finding(rule="unknown_tool", index=at, detail=f"no tool {call.name!r} was offered")
                if not _is_object(call.arguments):
                    yield Finding(rule="broken_arguments", index=at, detail=f"arguments of {call.name} are no object")
        elif role(message) == "tool":
            expected, given = names.get(str(message.get("tool_call_id"))), message.get("name")
            if expected and isinstance(given, str) and given != expected:
                yield Finding(rule="wrong_tool_result", index=at, detail=f"{given} answers a call of {expected}")


def _tool_names(interaction: Interaction) -> set[str]:
    found = set()
    for tool in interaction.tools:
        function = tool.get("function", tool)
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found.add(function["name"])
    return found


STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\],]', re.DOTALL)
"""What gives a JSON text its structure: brackets and commas, and texts as a whole, in which these mean nothing."""


def text_depth(text: str) -> int:
    """How many levels of objects and lists a JSON text opens in each other, by its brackets; it may be no JSON."""
    depth = deepest = 0
    for match in STRUCTURE.finditer(text):
        if match[0] in ("{", "["):
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in ("}", "]"):
            depth -= 1
    return deepest


def _is_object(arguments: object) -> bool:
    if arguments is None or arguments == "" or isinstance(arguments, dict):
        return True  # a call without arguments
    if not isinstance(arguments, str):
        return False
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


# -- the end


def _truncation(
    interaction: Interaction, messages: Sequence[Message], said: Sequence[tuple[int, str]]
) -> Iterator[Finding]:
    if interaction.finish_reason in ("length", "max_tokens") or interaction.truncated:
        yield Finding(rule="truncated", index=-1, detail="cut off at the token limit")
    elif interaction.completion_status in ("interrupted", "partial"):
        yield Finding(rule="truncated", index=-1, detail=f"marked {interaction.completion_status}")
    if said and not list(tool_calls(messages[said[-1][0]])):
        at, content = said[-1]
        others = [other for place, other in said[:-1] if other and not list(tool_calls(messages[place]))]
        if (why := cut_off(content, others)) is not None:
            yield Finding(rule="truncated", index=at, detail=why)
    if messages and role(messages[-1]) == "user" and not says_goodbye(text(messages[-1])):
        yield Finding(rule="unanswered_user", index=len(messages) - 1, detail="what the user said last has no answer")


# -- what is said


def _refusal(said: Sequence[tuple[int, str]], refusals: Sequence[int]) -> Iterator[Finding]:
    spoken = [at for at, content in said if content.strip()] or [at for at, _ in said]
    for at in refusals:
        last = at == spoken[-1]
        share = len(refusals) / max(1, len(spoken))
        yield Finding(
            rule="refusal",
            index=at,
            value=share,
            limit=0.5,
            detail="the assistant's last word is a refusal" if last else "a refusal",
            defect=last or share >= 0.5,
        )


def _corrections(messages: Sequence[Message]) -> Iterator[int]:
    answered = False
    for at, message in enumerate(messages):
        if role(message) == "user" and answered and corrects(text(message)[:300]):
            yield at
        answered = role(message) == "assistant" or (answered and role(message) == "tool")


def _length(messages: Sequence[Message], said: Sequence[tuple[int, str]]) -> Iterator[Finding]:
    if not said:
        yield Finding(rule="no_answer", index=-1, detail="the assistant said and called nothing")
    for at, content in said:
        if (count := len(tokens(content))) > LONGEST_ANSWER:
            yield Finding(rule="too_long", index=at, value=count, limit=LONGEST_ANSWER, detail=f"{count} words")
    if said and not any(content.strip() or list(tool_calls(messages[at])) for at, content in said):
        yield Finding(rule="no_answer", index=said[-1][0], detail="every answer is empty")


def _repetition(messages: Sequence[Message], said: Sequence[tuple[int, str]]) -> Iterator[Finding]:
    for at, content in said:
        yield from _repeats_itself(at, prose(content))
    spoken = Counter(content.strip() for _, content in said if len(tokens(content)) >= 4)
    for content, times in spoken.items():
        if times >= LOOP and times / len(said) >= 0.5:
            where = next(at for at, other in said if other.strip() == content)
            detail = f"the same turn {times} times"
            yield Finding(rule="repeated_turns", index=where, value=times / len(said), limit=0.5, detail=detail)
    run, before = 0, ""
    for at, _ in said:
        asked = [[call.name, written(call.arguments)] for call in tool_calls(messages[at])]
        now = json.dumps(asked) if asked else "[]"
        run = run + 1 if now == before and now != "[]" else 1
        before = now
        if run == LOOP:
            yield Finding(rule="looping_calls", index=at, value=run, limit=LOOP, detail="the same call again and again")


def _repeats_itself(at: int, content: str) -> Iterator[Finding]:
    """Lines that come again; n-grams of what is no list, for the items of a list share their frame by design."""
    all_lines = [line.strip() for line in content.splitlines()]
    if len(all_lines) <= 1:
        yield from _repeats_words(at, () if _ITEM.match(content.strip()) else tokens(content))
        return
    by_line = [(line, tokens(line)) for line in all_lines]
    lines = [line for line, found in by_line if len(found) >= 5]
    repeated = 1 - len(set(lines)) / len(lines) if len(lines) >= 4 else 0.0
    if repeated > REPEATED_LINES:
        detail = f"{repeated:.0%} of the lines stand there before"
        yield Finding(rule="repetition", index=at, value=repeated, limit=REPEATED_LINES, detail=detail)
        return
    yield from _repeats_words(at, [word for line, found in by_line if not _ITEM.match(line) for word in found])


def _repeats_words(at: int, found: Sequence[str]) -> Iterator[Finding]:
    if len(found) < SHORTEST_JUDGED:
        return
    again = repetition(found, TOP_NGRAMS, REPEATED_RUN, REPEATED_SHARE)
    if again is None:
        return
    detail = f"runs of {REPEATED_RUN} words that came before make {again.share:.0%} of the turn"
    if again.gram is not None:
        detail = f"{again.gram!r} makes {again.share:.0%} of the turn"
    yield Finding(rule="repetition", index=at, value=again.share, limit=again.limit, detail=detail)


def _leak(messages: Sequence[Message], said: Sequence[tuple[int, str]]) -> Iterator[Finding]:
    """Turns that recite the system prompt: 30 of its words in a row, or a fifth of its runs of 8 words."""
    prompts = tuple(text(message) for message in messages if role(message) in ("system", "developer"))
    secret, parts = _secrets(prompts)
    if not secret:
        return
    for at, content in said:
        found = tokens(content)
        if _leaks_nothing(found, parts):
            continue
        longest = run = 0
        shown = set()
        for start in range(len(found) - LEAK_WORDS + 1):
            gram = found[start : start + LEAK_WORDS]
            run = run + 1 if gram in secret else 0
            longest = max(longest, run)
            if run:
                shown.add(gram)
        length, share = longest + LEAK_WORDS - 1 if longest else 0, len(shown) / len(secret)
        if length >= LEAK_RUN or (share >= LEAK_SHARE and len(secret) >= LEAK_WORDS):
            detail = f"{length} words of the system prompt in a row, {share:.0%} of it"
            yield Finding(rule="leaked_system_prompt", index=at, value=float(length), limit=LEAK_RUN, detail=detail)


_LEAK_PART = LEAK_WORDS // 2


@lru_cache(maxsize=8)
def _secrets(prompts: tuple[str, ...]) -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    """The runs of words of system prompts, and the shorter runs in these. Many conversations have the same prompt."""
    secret: set[tuple[str, ...]] = set()
    parts: set[tuple[str, ...]] = set()
    for prompt in prompts:
        found = words(prompt)
        secret.update(zip(*(found[start:] for start in range(LEAK_WORDS)), strict=False))
        parts.update(zip(*(found[start:] for start in range(_LEAK_PART)), strict=False))
    return frozenset(secret), frozenset(parts)


def _leaks_nothing(found: Sequence[str], parts: frozenset[tuple[str, ...]]) -> bool:
    """Whether a turn cannot hold a run of the prompt: then one of every few short runs of its words would stand in it."""
    every = LEAK_WORDS - _LEAK_PART + 1
    return parts.isdisjoint(zip(*(found[start::every] for start in range(_LEAK_PART)), strict=False))
