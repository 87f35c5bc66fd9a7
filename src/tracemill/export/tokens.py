"""Rows as a model reads them: how many tokens, over which of them a loss is taken, and what a chat template left out.

Each row is put through the chat template and the tokenizer that a trainer would use. What is wrong is listed with the
row, which is written all the same: another template may do better.

Tokens of the loss: of a prompt and its completion all that follows the prompt, which is where the tokens of both part
(as TRL 1 does it). Of a conversation what stands in the template's ``{% generation %}`` blocks; without such blocks, each
answer is what the template writes for the conversation with it and does not write for the conversation up to it. That
needs the earlier text to be the beginning of the later one, which some templates break by leaving out earlier reasoning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tracemill.core.examples import TokenCounts, TokenStatistics
from tracemill.core.messages import role
from tracemill.core.records import Message
from tracemill.export.losses import Lost, RefusedError
from tracemill.export.rows import Format
from tracemill.export.templates import ChatTemplate
from tracemill.export.tokenizer import ChatTokenizer

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What a model reads at a time: a conversation, of which ``answer`` is the part after the prompt, if it has one.

    ``paths`` are the messages' places in the example.
    """

    messages: list[Message]
    paths: list[str]
    tools: Sequence[Mapping[str, Any]]
    answer: int | None = None


@dataclass(slots=True)
class _Counted:
    """How many tokens one sequence has, the places of those of the loss among them, and what is wrong."""

    tokens: int
    learnt: list[int]
    lost: list[Lost] = field(default_factory=list)


class TokenCheck:
    """Counts the rows of an export. ``max_tokens`` is the length at which a trainer cuts a sequence off."""

    def __init__(self, made: Format, tokenizer: ChatTokenizer, max_tokens: int | None) -> None:
        self._made, self._tokenizer, self._max = made, tokenizer, max_tokens
        self._special = re.compile("|".join(map(re.escape, tokenizer.special)) or "(?!)")
        self._splits: dict[str, dict[str, int]] = {}
        self._texts_only = made.texts or not made.sides
        if not self._texts_only:
            tokenizer.template(tools=False)  # or say at once that there is none

    @property
    def key(self) -> tuple[str, int | None]:
        """What the numbers depend on beside the rows: the tokenizer, by its SHA-256, and the limit."""
        return self._tokenizer.sha256, self._max

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The numbers so far, by split: what a check that goes on behind this row begins with."""
        return {split: dict(counted) for split, counted in self._splits.items()}

    def go_on(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Begin with the :attr:`counts` of an earlier check."""
        self._splits = {split: dict(counted) for split, counted in counts.items()}

    def statistics(self) -> TokenStatistics:
        """The numbers so far."""
        if self._texts_only:
            mask = "text"
        elif any(side == "prompt" for side in self._sides()):
            mask = "completion"
        else:
            mask = "generation" if self._tokenizer.template(tools=False).marks_answers else "prefix"
        splits = {split: TokenCounts(**counted) for split, counted in self._splits.items()}
        return TokenStatistics(tokenizer_sha256=self._tokenizer.sha256, mask=mask, max_tokens=self._max, splits=splits)

    def look_at(self, split: str, line: bytes) -> list[Lost]:
        """Count a row, given as its line, and say what is wrong with it."""
        counts = self._splits.setdefault(split, dict.fromkeys(TokenCounts.__struct_fields__, 0))
        row = _decode(line)
        try:
            counted = self._texts(row) if self._texts_only else self._conversations(row)
        except RefusedError as refused:
            counts["unread"] += 1
            return [Lost("", refused.reason, refused.detail)]
        lost: dict[tuple[str, str], Lost] = {}
        for sequence in counted:
            counts["sequences"] += 1
            counts["tokens"] += sequence.tokens
            counts["loss_tokens"] += len(sequence.learnt)
            counts["longest"] = max(counts["longest"], sequence.tokens)
            for entry in (*sequence.lost, *self._length(sequence, counts)):
                lost.setdefault((entry.path, entry.reason), entry)  # a prompt has one text on both sides
        return list(lost.values())

    def _length(self, sequence: _Counted, counts: dict[str, int]) -> Iterator[Lost]:
        kept = len(sequence.learnt)
        if self._max is not None and sequence.tokens > self._max:
            beyond = sum(1 for at in sequence.learnt if at >= self._max)
            kept -= beyond
            counts["over"] += 1
            counts["cut_tokens"] += sequence.tokens - self._max
            counts["cut_loss_tokens"] += beyond
            detail = f"{sequence.tokens} tokens; {beyond} of the loss stand beyond {self._max}"
            yield Lost("", "longer_than_limit", detail)
        if not kept:
            yield Lost("", "nothing_to_learn", "no token of the loss is left")

    def _texts(self, row: Mapping[str, Any]) -> list[_Counted]:
        lengths = [len(self._tokenizer.encode(row[column], special=True).ids) for column in self._made.columns]
        return [_Counted(length, list(range(length))) for length in lengths]

    # -- conversations

    def _sides(self) -> tuple[str, ...]:
        """The fields with messages, as the trainer has them."""
        if self._made.columns.keys() >= {"prompt", "completion"}:
            return ("prompt", "completion")
        return self._made.sides

    def _sequences(self, row: dict[str, Any]) -> list[_Sequence]:
        direct = self._sides() != self._made.sides
        read = row if direct or self._made.unfold is None else self._made.unfold(row)
        found = []
        for sides in [self._sides()] if direct else self._made.conversations:
            messages = [_with_objects(message) for side in sides for message in read.get(side, ())]
            paths = [f"/{side}/{at}" for side in sides for at in range(len(read.get(side, ())))]
            if direct:
                paths = [f"/{self._made.sides[0]}/{at}" for at in range(len(messages))]
            rejected = sides == ("rejected",) and read.get("rejected_tools") is not None
            tools = read["rejected_tools"] if rejected else read.get("tools") or ()
            found.append(_Sequence(messages, paths, tools, len(read["prompt"]) if sides[0] == "prompt" else None))
        return found

    def _conversations(self, row: dict[str, Any]) -> list[_Counted]:
        sequences = self._sequences(row)
        template = self._tokenizer.template(tools=any(sequence.tools for sequence in sequences))
        read = [(sequence, template.render(sequence.messages, sequence.tools)) for sequence in sequences]
        if sequences[0].answer is not None:
            counted = self._completions(sequences, [rendered.text for _, rendered in read], template)
        else:
            counted = []
            for sequence, rendered in read:
                lost: list[Lost] = []
                spans = rendered.generated
                if not template.marks_answers:
                    spans = tuple(_answers(sequence, rendered.text, template, lost))
                counted.append(self._masked(sequence, rendered.text, spans, lost))
        for (sequence, rendered), one in zip(read, counted, strict=True):
            one.lost += [*_unsaid(sequence, rendered.text), *self._special_inside(sequence)]
        return counted

    def _completions(
        self, sequences: Sequence[_Sequence], texts: Sequence[str], template: ChatTemplate
    ) -> list[_Counted]:
        """Prompts with their answers: the sides of a preference part from the prompt at the same token."""
        first = sequences[0]
        prompt = self._tokenizer.encode(template.render(first.messages[: first.answer], first.tools, prompt=True).text)
        whole = [self._tokenizer.encode(text).ids for text in texts]
        begin = min(_common(prompt.ids, ids) for ids in whole)
        lost = []
        if begin < len(prompt.ids):
            detail = f"the prompt has {len(prompt.ids)} tokens, of which with an answer only {begin} stay"
            lost.append(Lost(first.paths[first.answer or 0], "prompt_not_kept", detail))
        return [_Counted(len(ids), list(range(begin, len(ids))), list(lost)) for ids in whole]

    def _masked(self, sequence: _Sequence, text: str, spans: Sequence[tuple[int, int]], lost: list[Lost]) -> _Counted:
        offsets = self._tokenizer.encode(text).offsets
        learnt, across = _inside(offsets, spans)
        if across:
            lost.append(
                Lost("", "token_across_mask", f"{across} tokens stand on both sides of where an answer ends or begins")
            )
        said = "\0".join(text[begin:end] for begin, end in spans)
        if masked := list(_unsaid(sequence, said, answers_only=True)):
            known = {entry.path for entry in (*_unsaid(sequence, text), *lost)}
            for entry in masked:
                message = "/".join(entry.path.split("/")[:3])
                if not known & {entry.path, message}:
                    lost.append(Lost(entry.path, "not_learnt", "the template's mask leaves it out"))
        return _Counted(len(offsets), learnt, lost)

    def _special_inside(self, sequence: _Sequence) -> Iterator[Lost]:
        """Texts that the tokenizer takes for its own control tokens."""
        for message, path in zip(sequence.messages, sequence.paths, strict=True):
            for key, text in _texts_of(message):
                if found := self._special.search(text):
                    yield Lost(f"{path}{key}", "control_token_in_text", f"{found[0]!r} becomes a control token")


def _with_objects(message: Message) -> Message:
    """A message with tool-call arguments as objects, which templates write out themselves."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    changed = []
    for call in calls:
        function = call["function"]
        try:
            parsed = json.loads(function["arguments"]) if isinstance(function["arguments"], str) else None
        except (ValueError, RecursionError):
            parsed = None
        changed.append({**call, "function": {**function, "arguments": parsed}} if isinstance(parsed, dict) else call)
    return {**message, "tool_calls": changed}


def _answers(sequence: _Sequence, text: str, template: ChatTemplate, lost: list[Lost]) -> Iterator[tuple[int, int]]:
    """The places of the assistant's messages in a text; those that cannot be told are listed, and left out."""
    for at, message in enumerate(sequence.messages):
        if role(message) != "assistant":
            continue
        try:
            before = template.render(sequence.messages[:at], sequence.tools, prompt=True).text if at else ""
            after = template.render(sequence.messages[: at + 1], sequence.tools).text
        except RefusedError as refused:
            lost.append(Lost(sequence.paths[at], "prompt_not_kept", f"alone it is refused: {refused.detail}"))
            continue
        if not text.startswith(before) or not text.startswith(after) or len(after) < len(before):
            detail = "up to here the template writes the conversation otherwise than when it goes on"
            lost.append(Lost(sequence.paths[at], "prompt_not_kept", detail))
            continue
        yield len(before), len(after)


def _inside(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """The tokens that begin in a span, and how many stand across the bounds of one."""
    learnt, across = [], 0
    waiting = iter([span for span in spans if span[0] < span[1]])
    span = next(waiting, None)
    for at, (begin, end) in enumerate(offsets):
        while span is not None and begin >= span[1]:
            span = next(waiting, None)
        if span is None:
            break
        if begin >= span[0]:
            learnt.append(at)
            across += end > span[1]
        else:
            across += end > span[0]
    return learnt, across


def _texts_of(message: Message) -> Iterator[tuple[str, str]]:
    """The texts of a message with their places in it."""
    for key in ("content", "reasoning_content", "thinking"):
        value = message.get(key)
        if isinstance(value, str) and value.strip():
            yield f"/{key}", value.strip()
        elif isinstance(value, list):
            for at, part in enumerate(value):
                if isinstance(part, dict) and isinstance(part.get("text"), str) and part["text"].strip():
                    yield f"/{key}/{at}/text", part["text"].strip()
    for at, call in enumerate(message.get("tool_calls") or ()):
        place = f"/tool_calls/{at}/function"
        yield f"{place}/name", call["function"]["name"]
        for value in _leaves(call["function"]["arguments"]):
            yield f"{place}/arguments", value


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
    elif isinstance(value, dict):
        for child in value.values():
            yield from _leaves(child)
    elif isinstance(value, list):
        for child in value:
            yield from _leaves(child)


def _unsaid(sequence: _Sequence, text: str, *, answers_only: bool = False) -> Iterator[Lost]:
    """What of a conversation is not in a text, as it stands or as JSON has it."""
    for message, path in zip(sequence.messages, sequence.paths, strict=True):
        if not answers_only or role(message) == "assistant":
            for key, value in _texts_of(message):
                if not _stands(value, text):
                    yield Lost(f"{path}{key}", "not_rendered", "the chat template leaves it out")
    if not answers_only:
        for at, tool in enumerate(sequence.tools):
            name = (tool.get("function") or {}).get("name")
            if isinstance(name, str) and not _stands(name, text):
                yield Lost(f"/tools/{at}", "not_rendered", "the chat template leaves it out")


def _stands(value: str, text: str) -> bool:
    if value in text:
        return True
    return any(json.dumps(value, ensure_ascii=ascii)[1:-1] in text for ascii in (False, True))  # noqa: A001


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens two texts have in common."""
    return next(
        (at for at, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs),
        min(len(one), len(other)),
    )
