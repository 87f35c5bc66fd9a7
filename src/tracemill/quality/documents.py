"""What of a conversation is compared with others: what was said and called, without what every conversation shares."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence, Set

from tracemill.core.codec import encode_plain
from tracemill.core.messages import role, text, tool_calls
from tracemill.core.records import Message
from tracemill.quality.text import words

SHORTEST_BOILERPLATE = 4
"""Words of a line from which on it can be boilerplate: "yes" and "thank you" are said by everybody and mean something."""


def document(messages: Sequence[Message], *, results: bool = False) -> str:
    """The text of a conversation by which duplicates are found.

    System prompts are left out, for they are the same in every conversation of an application. So are the results of tools,
    unless ``results`` asks for them: they are long, come from the application's data, and a trainer does not learn them.
    """
    parts: list[str] = []
    for message in messages:
        kind = role(message)
        if kind in ("system", "developer") or (kind == "tool" and not results):
            continue
        parts.append(text(message))
        for call in tool_calls(message):
            arguments = call.arguments
            shown = arguments if isinstance(arguments, str) else encode_plain(arguments).decode("utf-8", "replace")
            parts.append(f"{call.name} {shown}")
    return "\n".join(part for part in parts if part)


class Boilerplate:
    """Lines that at least a ``share`` of all documents have, and at least ``least`` of them: greetings, footers, templates.

    Count all documents first, then :meth:`without` takes the lines out. What is boilerplate does not depend on the order.
    """

    def __init__(self, share: float = 0.2, least: int = 20) -> None:
        self.share, self.least = share, least
        self._documents = 0
        self._counts: Counter[bytes] = Counter()

    def count(self, content: str) -> None:
        """Count one document; a line that it repeats counts once."""
        self._documents += 1
        self._counts.update(line_digests(content))

    def without(self, content: str) -> str:
        """A document without its boilerplate; the whole of it where that is more than half of its words.

        So copies of one text never vanish, however many there are.
        """
        enough = least_count(self._documents, self.share, self.least)
        return without_lines(content, {line for line in line_digests(content) if self._counts[line] >= enough})


def least_count(documents: int, share: float, least: int = 20) -> float:
    """In how many of some documents a line must stand to be boilerplate."""
    return max(least, share * documents)


def line_digests(content: str) -> set[bytes]:
    """Eight bytes for each of a document's lines that are long enough to be boilerplate, whatever their case."""
    return {digest for line in content.splitlines() if (digest := _line(line))}


def without_lines(content: str, shared: Set[bytes]) -> str:
    """A document without the lines of some digests; the whole of it where they make more than half of its words."""
    if not shared:
        return content
    lines = content.splitlines()
    kept = [line for line in lines if _line(line) not in shared]
    if len(kept) == len(lines):
        return content
    return "\n".join(kept) if 2 * sum(map(_length, kept)) >= sum(map(_length, lines)) else content


def _length(line: str) -> int:
    return len(words(line))


def _line(line: str) -> bytes:
    """The digest of a line; empty for one that is too short to be boilerplate."""
    lowered = line.strip().lower()
    if len(lowered.split(None, SHORTEST_BOILERPLATE)) < SHORTEST_BOILERPLATE:
        return b""
    return hashlib.blake2b(lowered.encode("utf-8", "surrogatepass"), digest_size=8).digest()
