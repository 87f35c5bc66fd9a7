"""The bounds that spare most texts the measuring never change what is found."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.quality.repetition import Repeated, repeated_share, repetition
from tracemill.quality.text import REPEATED_RUN, REPEATED_SHARE, TOP_NGRAMS, words

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
few = st.sampled_from(["a", "the", "of", "it's", "refund", "reservation", "on", "to", "cancel", "please"])
drawn = st.lists(few | st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=80)
texts = st.one_of(
    drawn,
    st.tuples(drawn, st.integers(1, 6)).map(lambda pair: pair[0] * pair[1]),
    st.tuples(drawn, st.integers(1, 60)).map(lambda pair: pair[0] + pair[0][-pair[1] :] + ["end"] + pair[0][: pair[1]]),
)


def by_definition(found: list[str]) -> Repeated | None:
    """The measures without any bound."""
    total = sum(map(len, found))
    for size, limit in TOP_NGRAMS.items():
        grams = Counter(tuple(found[at : at + size]) for at in range(len(found) - size + 1))
        if not grams:
            continue
        times, gram = max((times * sum(map(len, gram)), gram) for gram, times in grams.items())
        if grams[gram] > 2 and times / total > limit:
            return Repeated(times / total, limit, " ".join(gram))
    share = repeated_share(found, REPEATED_RUN, total)
    return Repeated(share, REPEATED_SHARE, None) if share > REPEATED_SHARE else None


@given(texts)
def test_what_is_found_is_what_the_definition_says(found: list[str]) -> None:
    assert repetition(found, TOP_NGRAMS, REPEATED_RUN, REPEATED_SHARE) == by_definition(found)


def test_each_kind_is_found() -> None:
    prose = [f"word{number}" for number in range(60)]
    assert repetition(prose, TOP_NGRAMS, REPEATED_RUN, REPEATED_SHARE) is None
    gram = repetition(["very", "good"] * 30 + prose, TOP_NGRAMS, REPEATED_RUN, REPEATED_SHARE)
    assert gram is not None
    assert gram.gram == "very good"
    again = repetition(prose + prose[:50], TOP_NGRAMS, REPEATED_RUN, REPEATED_SHARE)
    assert again is not None
    assert again.gram is None
    assert again.share == pytest.approx(50 / 110, rel=0.05)


@given(st.text(st.characters(max_codepoint=200) | st.sampled_from("'’_ aZ09İΣß")))
def test_words_are_those_of_the_expression(content: str) -> None:
    assert words(content) == _WORD.findall(content.lower())
