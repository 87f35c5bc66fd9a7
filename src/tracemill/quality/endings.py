"""Whether a text stops where its writer meant to: signs in the text alone, for where no finish reason was captured."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CLOSING = frozenset(".!?…:;)]}>\"'”’»`*_|~。！？）】」%$€")
_MIDDLE = frozenset(",([{–—-/&+=<“‘«")
"""Characters on which no text ends that was finished."""
_JOINING = re.compile(
    r"an?|the|and|or|but|of|to|in|on|at|for|with|from|by|as|if|is|are|was|were|be|your|my|our|their|his|her|its|that|which|who|"
    r"because|than|into|not|will|would|can|could|should|may|have|has|i|you|we|they|it's|this|these|those"
)
_LIST = re.compile(r"\s*(?:[-*+•·–]|\d+[.)]|#{1,6})\s")
_SMILEY = re.compile(r"[:;]-?\(")
_SENTENCE = re.compile(r"[.!?:](?=\s|$)")
_GOODBYE = re.compile(
    r"###|\b(?:thanks?|thank you|thx|cheers|bye|goodbye|that['’]?s (?:all|it|everything|perfect|great)"
    r"|that (?:is|will be) all|nothing else|have a (?:great|good|nice)|you too|perfect"
    r"|i (?:really )?appreciate (?:it|that|this|you|the|all)|gracias|danke|merci)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(r"\?|\bplease\b", re.IGNORECASE)
FRAGMENT, SHORTEST = 4, 8
"""Words below which an answer may be a fragment, and from which on it can be expected to be punctuated."""


def says_goodbye(content: str) -> bool:
    """Whether a user's message closes the conversation, so that no answer is owed: thanks, goodbye, a stop mark, nothing.

    A question or a request ("please") is no goodbye, whatever else the message says. English, with a few words of others.
    """
    stripped = content.strip()
    if "###" in stripped or not stripped:
        return True
    return _GOODBYE.search(stripped) is not None and _ASKS.search(stripped) is None


def cut_off(content: str, others: Sequence[str] = ()) -> str | None:
    """Why a text seems to be cut off, or None. ``others`` are texts by the same writer, which show how he ends them.

    Signs: a code fence that is not closed; JSON that does not close; an end on a comma, an opening bracket, a dash, or a word
    that joins ("of", "and"); an end without punctuation by a writer who punctuates otherwise.
    """
    stripped = content.rstrip()
    if not stripped:
        return None
    if stripped.count("```") % 2:
        return "a code fence is not closed"
    if stripped[0] in "{[" and stripped.count("{") + stripped.count("[") > stripped.count("}") + stripped.count("]"):
        return "its JSON is not closed"
    last_line = stripped.rsplit("\n", 1)[-1]
    end = stripped[-1]
    if end in _MIDDLE and len(stripped.split()) > 1 and not _SMILEY.search(stripped[-3:]):
        return f"it ends on {end!r}"
    if (open_mark := _left_open(last_line)) is not None:
        return open_mark
    if stripped.endswith("```") or end in _CLOSING:
        return None
    counted = stripped.split()
    if len(counted) < FRAGMENT or (len(counted) < SHORTEST and not _punctuates(others)):
        return None
    if _JOINING.fullmatch(counted[-1].lower()):
        return f"it ends on {counted[-1]!r}"
    if len(counted[-1]) == 1 and end.islower() and end.isascii():
        return f"it ends on the letter {end!r}"
    if not (end.isalnum()) or ord(end) > 0x2E7F:  # emoji, symbols; scripts that end sentences otherwise or not at all
        return None
    if _LIST.match(last_line) and _list_is_bare(stripped):
        return None
    if _punctuates([*others, stripped.rsplit("\n", 1)[0] if "\n" in stripped else ""]) or _SENTENCE.search(stripped):
        return "it ends without punctuation, which its writer uses"
    return None


def _left_open(last_line: str) -> str | None:
    """What the last line opens and does not close: emphasis, inline code, a parenthesis."""
    if last_line.count("**") % 2:
        return "emphasis is not closed"
    if last_line.count("`") % 2 and not last_line.endswith("```"):
        return "inline code is not closed"
    return (
        "a parenthesis is not closed"
        if last_line.count("(") > last_line.count(")") + _SMILEY.subn("", last_line)[1]
        else None
    )


def _punctuates(texts: Sequence[str]) -> bool:
    """Whether at least four of five of a writer's longer texts end on punctuation, and there is one."""
    ends = [one.rstrip()[-1] in _CLOSING for one in texts if len(one.split()) >= SHORTEST]
    return len(ends) >= 1 and sum(ends) >= 0.8 * len(ends)


def _list_is_bare(content: str) -> bool:
    """Whether the other items of a list that ends a text, of which there are some, end without punctuation too."""
    items = [line.rstrip() for line in content.splitlines() if _LIST.match(line)][:-1]
    return bool(items) and sum(item[-1] not in _CLOSING for item in items) >= 0.5 * len(items)
