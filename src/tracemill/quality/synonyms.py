"""Synonyms from a source the caller has: the database files of WordNet, or a file of words.

None comes with tracemill: a short list would only look like a dictionary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tracemill.core.errors import SourceError

_PLAIN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_PARTS = ("noun", "verb", "adj", "adv")


class Synonyms:
    """Words that may stand for a word, single words in lower case, in a fixed order."""

    def __init__(self, words: Mapping[str, Sequence[str]] | None = None) -> None:
        self._words: dict[str, tuple[str, ...]] = {}
        for word, others in (words or {}).items():
            kept = tuple(dict.fromkeys(other.lower() for other in others if _PLAIN.fullmatch(other)))
            kept = tuple(other for other in kept if other != word.lower())
            if kept and _PLAIN.fullmatch(word):
                self._words[word.lower()] = kept

    def __len__(self) -> int:
        return len(self._words)

    def of(self, word: str) -> tuple[str, ...]:
        """What may stand for a word; empty when nothing is known."""
        return self._words.get(word.lower(), ())

    @classmethod
    def load(cls, path: Path) -> Synonyms:
        """The synonyms of a folder or file. Raises SourceError when it cannot be read or holds none.

        A folder holds WordNet's database (``index.noun``, ``data.noun``…, wndb(5WN)); only words that have one sense
        there are taken: which of several is meant cannot be told. A file is JSON (``{"quick": ["fast"]}``) or has lines
        ``word: synonym, synonym`` or ``word,synonym,synonym``; ``#`` begins a comment.
        """
        try:
            if path.is_dir():
                found = cls(_wordnet(path))
            else:
                text = path.read_text(encoding="utf-8-sig")
                found = cls(_mapping(text) if path.suffix == ".json" else _lines(text))
        except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
            raise SourceError(f"no synonyms can be read from {path}: {error}") from error
        if not found:
            raise SourceError(f"{path} holds no synonyms", hint="docs/augmentation.md shows the forms.")
        return found


def _mapping(text: str) -> dict[str, list[str]]:
    plain = json.loads(text)
    if not isinstance(plain, dict):
        raise ValueError("a JSON object is expected")
    return {word: [str(other) for other in others] for word, others in plain.items() if isinstance(others, list)}


def _lines(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        content = line.split("#", 1)[0].strip()
        head, colon, rest = content.partition(":")
        if not colon:
            head, _, rest = content.partition(",")
        others = [other.strip() for other in rest.split(",") if other.strip()]
        if head.strip() and others:
            found.setdefault(head.strip(), []).extend(others)
    return found


def _wordnet(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    several: set[str] = set()
    for part in _PARTS:
        if not (folder / f"index.{part}").exists():
            continue
        members = _synsets(folder / f"data.{part}")
        for line in (folder / f"index.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue  # the licence stands at the head of every file
            fields = line.split()
            word, senses, pointers = fields[0], int(fields[2]), int(fields[3])
            if word in found or senses != 1:
                several.add(word)
            found[word] = members[fields[6 + pointers]]
    return {word: others for word, others in found.items() if word not in several}


def _synsets(path: Path) -> dict[str, list[str]]:
    """The words of every synset by its offset, without the marks of adjectives."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            fields = line.split()
            count = int(fields[3], 16)
            found[fields[0]] = [fields[4 + 2 * at].split("(")[0] for at in range(count)]
    return found
