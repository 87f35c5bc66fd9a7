"""Where in a text personal data and secrets stand.

One pass of RE2's ``Set`` over the text says which rules can match at all (most texts: none); only these look for spans. A
span counts when its check holds and, for what has no shape of its own, when a word that belongs to it stands near. Spans
that overlap are resolved: the higher score, then the longer, then the earlier, then the kind's name. The same text always
gives the same findings.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import re2

from tracemill.privacy import kinds, kinds_fields, kinds_numbers, kinds_secrets
from tracemill.privacy.kinds import Rule

RULES: tuple[Rule, ...] = (*kinds.RULES, *kinds_numbers.RULES, *kinds_secrets.RULES)
GROUPS: dict[str, str] = {**kinds_fields.GROUPS, **{rule.kind: rule.group for rule in RULES}}
"""The group of every kind there is."""
BEFORE, AFTER = 64, 32
"""Bytes before and after a span in which a context word counts."""
THRESHOLD = 0.5
_SHORT = 16
"""A word of letters alone that is shorter than this is nothing by itself: no kind has that shape."""
_MEMORY = 512 << 20
_TAG = re.compile(rb"\[([A-Z][A-Z0-9_]{1,40})(?::[0-9a-f]{8,64})?\]")


class Finding(NamedTuple):
    """One span of a text, in characters, ``end`` exclusive. ``score`` is how sure it is, 0 to 1: a rank, no probability."""

    kind: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    pattern: Any
    context: Any
    groups: int


class Detector:
    """Finds the kinds asked for (all of them by default). Safe to share between threads.

    Raises ValueError for a kind there is no rule for.
    """

    def __init__(self, only: Collection[str] | None = None, *, threshold: float = THRESHOLD) -> None:
        unknown = set(only or ()) - GROUPS.keys()
        if unknown:
            raise ValueError(f"there is no kind {min(unknown)!r}")
        self.threshold = threshold
        self._rules = [_compiled(rule) for rule in RULES if only is None or rule.kind in only]
        self._set = _set_of(tuple(one.rule.pattern for one in self._rules))
        self._fields = only is None or bool(kinds_fields.GROUPS.keys() & set(only))
        self._only = only

    def looks_for(self, kind: str) -> bool:
        """Whether a kind is among those asked for."""
        return self._only is None or kind in self._only

    def find(self, text: str) -> list[Finding]:
        """Every finding in a text, by place, none overlapping another."""
        if len(text) < _SHORT and text.replace("_", "").isalpha():
            return []
        if not text:
            return []
        data = text.encode("utf-8", "surrogatepass")
        found = list(self._spans(data))
        if self._fields:
            found.extend(one for one in kinds_fields.written(data) if self.looks_for(one[0]))
        if not found:
            return []
        kept = resolve(Finding(*one) for one in found if one[3] >= self.threshold)
        kept = _without_tags(data, kept)
        return kept if len(data) == len(text) else list(_in_characters(data, kept))

    def _spans(self, data: bytes) -> Iterator[tuple[str, int, int, float]]:
        for index in sorted(self._set.Match(data) or ()):
            one = self._rules[index]
            rule = one.rule
            if one.context is not None and not rule.alone and not one.context.search(data):
                continue
            at, length = 0, len(data)
            while at < length and (match := one.pattern.search(data, at)):
                start, end = _value_span(match, one.groups)
                at = max(match.end(), at + 1)
                if not rule.inside and _touches(data, start, end, rule.apart):
                    at = _next_word(data, start)
                    continue
                score = _score(one, data, start, end)
                if score <= 0:
                    continue
                if rule.valid is not None and not rule.valid(data[start:end].decode("utf-8", "replace")):
                    at = _next_word(data, start)
                    continue
                yield rule.kind, start, end, score


def resolve(findings: Iterable[Finding]) -> list[Finding]:
    """Findings without overlaps: the best of those that overlap stays. Sorted by place."""
    kept: list[Finding] = []
    starts: list[int] = []
    for one in sorted(findings, key=lambda found: (-found.score, found.start - found.end, found.start, found.kind)):
        at = bisect_left(starts, one.start)
        if (at == 0 or kept[at - 1].end <= one.start) and (at == len(kept) or one.end <= kept[at].start):
            kept.insert(at, one)
            starts.insert(at, one.start)
    return kept


def whole_match(rule: Rule, text: str) -> bool:
    """Whether all of a text has the shape of a rule without a group; its check is not asked."""
    return bool(_compiled(rule).pattern.fullmatch(text.encode("utf-8", "surrogatepass")))


@lru_cache(maxsize=8)
def _set_of(patterns: Sequence[str]) -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY
    made = re2.Set.SearchSet(options)
    for pattern in patterns:
        made.Add(pattern)
    made.Compile()
    return made


@cache
def _compiled(rule: Rule) -> _Compiled:
    words = "|".join(re2.escape(word) for word in rule.context)
    context = re2.compile(rf"(?i)(?:^|[^\pL\pN])(?:{words})(?:$|[^\pL\pN])") if words else None
    pattern = re2.compile(rule.pattern)
    return _Compiled(rule, pattern, context, pattern.groups)


def _value_span(match: Any, groups: int) -> tuple[int, int]:
    spans: list[tuple[int, int]] = [match.span(group) for group in range(1, groups + 1)]
    return next((span for span in spans if span[0] >= 0), match.span())


def _is_word(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


def _joins(data: bytes, at: int) -> bool:
    """Whether two letters or digits meet at a place. Scripts written without spaces (from U+2000 on) join nothing."""
    before, after = data[at - 1], data[at]
    if before < 0x80 and after < 0x80:
        return _is_word(before) and _is_word(after)
    left = data[max(0, at - 4) : at].decode("utf-8", "ignore")[-1:]
    right = data[at : at + 4].decode("utf-8", "ignore")[:1]
    return left.isalnum() and right.isalnum() and left < "\u2000" and right < "\u2000"


def _touches(data: bytes, start: int, end: int, apart: str) -> bool:
    """Whether a letter or digit stands right before or after, so that the span is a piece of something longer."""
    if start >= end:
        return True
    if (start > 0 and _joins(data, start)) or (end < len(data) and _joins(data, end)):
        return True
    if not apart:
        return False
    before, after = data[max(0, start - 2) : start], data[end : end + 2]
    return (before[:1].isdigit() and before[1:].decode("latin-1") in apart) or (
        after[1:].isdigit() and after[:1].decode("latin-1") in apart
    )


def _next_word(data: bytes, start: int) -> int:
    """Where the search goes on after a span that was none: behind the run of letters and digits it begins in."""
    at = start + 1
    while at < len(data) and _is_word(data[at - 1]) and _is_word(data[at]):
        at += 1
    return at


def _score(one: _Compiled, data: bytes, start: int, end: int) -> float:
    if one.context is None:
        return one.rule.score
    before = data[max(0, start - BEFORE) : start]
    after = data[end : end + AFTER]
    near = one.context.search(before) or one.context.search(after)
    return one.rule.score if near else one.rule.alone


def _without_tags(data: bytes, found: list[Finding]) -> list[Finding]:
    """Findings outside of tags such as ``[EMAIL]``, which stand for what was there."""
    if b"[" not in data:
        return found
    tags = [match.span() for match in _TAG.finditer(data) if match[1].decode().lower() in GROUPS]
    return [one for one in found if all(one.end <= start or one.start >= end for start, end in tags)]


def _in_characters(data: bytes, found: list[Finding]) -> Iterator[Finding]:
    """The same spans counted in characters; each stretch of bytes is decoded once."""
    at, characters = 0, 0
    for one in found:
        characters += len(data[at : one.start].decode("utf-8", "surrogatepass"))
        length = len(data[one.start : one.end].decode("utf-8", "surrogatepass"))
        yield Finding(one.kind, characters, characters + length, one.score)
        at, characters = one.end, characters + length
