"""Who the interaction itself says its people are, and where they recur.

What stands under telling fields (a profile a tool gave back, the arguments of a call) and what rules found once is known from
then on, and is found wherever it stands in the same record: a first name in a greeting, a handle in a URL, a date of birth
written another way. No model is needed.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

import re2

from tracemill.privacy.detect import Finding
from tracemill.privacy.wording import words

SCORE = 0.96
"""How sure a recurrence is: surer than names by context, less so than an e-mail address it may be a part of."""
TOO_COMMON = frozenset(
    ("city", "date", "card_security_code", "card_expiry", "pin", "age_over_89", "geo_coordinates", "photo")
)
"""Kinds whose values are too short or too common to be looked for where nothing points at them."""
_ORDINARY = frozenset(
    words(
        "may will mark grace april june august rose hope faith joy jack art bill rob sue pat drew chase "
        "chance frank grant guy jay rich ray dean dale lane young long brown white black green king "
        "bishop baker cook hunter page price rice wood woods stone hill field park parks banks bush "
        "rivers lake day love best good man new an so do go the and or in on at to he me my you your no "
        "yes is be can case bond cash cross drake fish fox gold miles noble reed short small swift west "
        "north south east winter summer wise worth ward walker turner taylor mason major marshall "
    )
)
_MONTHS = words("January February March April May June July August September October November December ")
_WORDS = re.compile(r"[^\W\d_](?:[^\W_]|['’-])*")


class Known:
    """The values known of one conversation, and the search for them. ``add`` what is known, then ``find``."""

    def __init__(self) -> None:
        self._folded: dict[str, str] = {}
        self._exact: dict[str, str] = {}
        self._patterns: tuple[Any, Any] | None = None

    def add(self, kind: str, value: str) -> None:
        """Look for a value of a kind from now on; for the parts of a name too. Values that say nothing are left out."""
        value = value.strip()
        if kind in TOO_COMMON or len(value) < 2 or len(value) > 2000:
            return
        self._patterns = None
        if kind == "person_name":
            self._add_name(value)
        elif kind == "date_of_birth":
            self._folded.update(dict.fromkeys((value.lower(), *_ways_to_write(value)), kind))
        elif any(character.isdigit() for character in value):
            if len(value) >= 5 or (kind == "card_last_four" and not re.fullmatch(r"(?:19|20)\d\d", value)):
                self._folded.setdefault(value.lower(), kind)
        elif len(value) >= 5 and value.lower() not in _ORDINARY:
            self._folded.setdefault(value.lower(), kind)

    def _add_name(self, value: str) -> None:
        parts = _WORDS.findall(value)
        if len(parts) > 1:
            self._folded.setdefault(value.lower(), "person_name")
        for part in parts:
            if part.lower() in _ORDINARY or len(part) < 2:
                if len(parts) == 1:
                    self._exact.setdefault(part, "person_name")
            elif len(part) < 4:
                self._exact.setdefault(part[:1].upper() + part[1:], "person_name")
                self._exact.setdefault(part.upper(), "person_name")
            else:
                self._folded.setdefault(part.lower(), "person_name")

    def __bool__(self) -> bool:
        return bool(self._folded or self._exact)

    def find(self, text: str) -> list[Finding]:
        """Where known values stand in a text, as whole words. May overlap."""
        if not self or not text:
            return []
        if self._patterns is None:
            self._patterns = (_pattern(self._folded, "(?i)"), _pattern(self._exact, ""))
        found: list[Finding] = []
        for pattern, values, folded in zip(self._patterns, (self._folded, self._exact), (True, False), strict=True):
            if pattern is not None:
                found.extend(_search(pattern, values, text, folded))
        return found


def _pattern(values: dict[str, str], flags: str) -> Any:
    if not values:
        return None
    options = re2.Options()
    options.max_mem = 256 << 20
    longest_first = sorted(values, key=lambda value: (-len(value), value))
    encoded = "|".join(_literal(value) for value in longest_first)
    return re2.compile(f"{flags}(?:{encoded})", options)


def _literal(value: str) -> str:
    """A value as a pattern; one blank stands for any."""
    text = value.encode("utf-8", "replace").decode()
    return r"\s+".join(re2.escape(part) for part in text.split())


def _search(pattern: Any, values: dict[str, str], text: str, folded: bool) -> Iterator[Finding]:
    clean = text.encode(
        "utf-8", "replace"
    ).decode()  # one character for one: half a surrogate pair becomes a question mark
    at = 0
    while match := pattern.search(clean, at):
        start, end = match.span()
        if end == start:
            return
        if _whole(clean, start, end):
            written = " ".join(clean[start:end].split())
            kind = values.get(written.lower() if folded else written)
            yield Finding(kind or "person_name", start, end, SCORE)
            at = end
        else:
            at = start + 1


def _whole(text: str, start: int, end: int) -> bool:
    return not (
        (start > 0 and _joins(text[start - 1]) and _joins(text[start]))
        or (end < len(text) and _joins(text[end]) and _joins(text[end - 1]))
    )


def _joins(character: str) -> bool:
    return character.isalnum() or character == "_"


def _ways_to_write(value: str) -> list[str]:
    """A date given as YYYY-MM-DD, as people write it otherwise, in lower case."""
    try:
        day = datetime.date.fromisoformat(value[:10])
    except ValueError:
        return []
    month = _MONTHS[day.month - 1]
    return [
        written.lower()
        for written in (
            f"{day.month:02}/{day.day:02}/{day.year}",
            f"{day.month}/{day.day}/{day.year}",
            f"{day.day:02}/{day.month:02}/{day.year}",
            f"{day.day:02}.{day.month:02}.{day.year}",
            f"{day.day}.{day.month}.{day.year}",
            f"{month} {day.day}, {day.year}",
            f"{month} {day.day} {day.year}",
            f"{day.day} {month} {day.year}",
            f"{month[:3]} {day.day}, {day.year}",
        )
    ]
