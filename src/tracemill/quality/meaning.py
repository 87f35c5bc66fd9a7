"""Whether a changed text still means what it meant: facts that must stand, and how similar it is.

What is checked can be checked: numbers, names, negations, addresses and code are compared one by one. The rest is left to the
similarity of the words (TF-IDF) or of a model the caller has. A text that passes may still mean something else.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from tracemill.quality.text import words

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*%?")
_MARKED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\"[^\"\n]*\"|“[^”\n]*”|\S*(?:[@\\/_<>{}=#$€£]|\w\.\w)\S*", re.DOTALL)
"""Code, quotations, addresses, paths, amounts, identifiers."""
_WITH_DIGIT = re.compile(r"\S*\d\S*")
_SENTENCE_END = re.compile(r"(?:^|[.!?:\n\"“(*•-])\s*$")
_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
NUMBER_WORDS = {name: str(value) for value, name in enumerate(_COUNTED.split())}
NUMBER_WORDS |= {"first": "1st", "second": "2nd", "third": "3rd", "once": "1x", "twice": "2x", "hundred": "100"}
_NEGATING = (
    "no not never none nobody nothing nowhere neither nor without cannot unable hardly barely except unless "
    "nicht kein keine keinen nie niemals ohne non pas jamais sans nunca sin nessuno mai senza niet geen zonder"
)
NEGATIONS = frozenset(_NEGATING.split())
_FIRM_WORDS = (
    "only all any each every both either more less most least before after until since if when than must may can should "
    "would could will shall always often sometimes instead rather but or and"
)
_FIRM = frozenset(_FIRM_WORDS.split())
"""Words on which a meaning hangs: no operation touches them."""


def protected(content: str, others: Iterable[str] = ()) -> list[tuple[int, int]]:
    """The places (start, end) of a text that no operation may touch, in order.

    Code, quotations, addresses and identifiers; words with a digit or a capital letter; negations, number words and words of
    quantity, order and condition; and the words in ``others``, in lower case (values of tool calls, say).
    """
    kept = frozenset(others)
    spans = [match.span() for match in _MARKED.finditer(content)]
    spans.extend(match.span() for match in _WITH_DIGIT.finditer(content))
    for match in _WORD.finditer(content):
        word = match[0].lower().replace("’", "'")
        firm = word in NEGATIONS or word in NUMBER_WORDS or word in _FIRM or word.endswith("n't")
        if firm or word in kept or match[0] != match[0].lower():
            spans.append(match.span())
    return sorted(spans)


def changed_facts(before: str, after: str) -> list[str]:
    """What a changed text does not state as the original did: stable words, empty when all facts stand.

    ``numbers_changed`` (digits and number words, with how often), ``names_changed`` (words with a capital letter that do not
    begin a sentence must be in the other text too), ``negation_changed`` (how many negations), ``code_changed`` (code,
    quotations, addresses, identifiers, with how often).
    """
    found = []
    if _numbers(before) != _numbers(after):
        found.append("numbers_changed")
    if not (_names(before) <= _capitalised(after) and _names(after) <= _capitalised(before)):
        found.append("names_changed")
    if _negations(before) != _negations(after):
        found.append("negation_changed")
    if _codes(before) != _codes(after):
        found.append("code_changed")
    return found


def _numbers(content: str) -> Counter[str]:
    found = Counter(_NUMBER.findall(content))
    found.update(NUMBER_WORDS[word] for word in _lower(content) if word in NUMBER_WORDS)
    return found


def _lower(content: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _WORD.findall(content)]


def _negations(content: str) -> int:
    return sum(word in NEGATIONS or word.endswith("n't") for word in _lower(content))


def _codes(content: str) -> Counter[str]:
    return Counter(match.strip(".,;:!?") for match in _MARKED.findall(content))


def _capitalised(content: str) -> set[str]:
    return {word for word in _WORD.findall(content) if word != word.lower()}


def _names(content: str) -> set[str]:
    return {
        match[0]
        for match in _WORD.finditer(content)
        if match[0] != match[0].lower() and match[0] != "I" and not match[0].startswith(("I'", "I’"))
        and not _SENTENCE_END.search(content[max(0, match.start() - 4) : match.start()])
    }  # fmt: skip


class Similarity:
    """Cosine similarity of texts as TF-IDF vectors, 0 to 1, with the document frequencies of a corpus.

    The weight of a word is its count × (ln((1 + n) / (1 + d)) + 1) for n texts of which d have the word (scikit-learn's
    smoothed form). Two texts without words are alike when they are equal.
    """

    def __init__(self, corpus: Iterable[str] = ()) -> None:
        self._texts = 0
        self._having: Counter[str] = Counter()
        for text in corpus:
            self._texts += 1
            self._having.update(set(words(text)))

    def __call__(self, one: str, other: str) -> float:
        left, right = self._vector(one), self._vector(other)
        if not left or not right:
            return 1.0 if one == other else 0.0
        shared = math.fsum(weight * right[word] for word, weight in left.items() if word in right)
        lengths = math.sqrt(math.fsum(w * w for w in left.values()) * math.fsum(w * w for w in right.values()))
        return min(1.0, shared / lengths)

    def _vector(self, text: str) -> dict[str, float]:
        return {
            word: count * (math.log((1 + self._texts) / (1 + self._having[word])) + 1)
            for word, count in Counter(words(text)).items()
        }
