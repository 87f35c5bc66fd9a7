"""What counts as a fact, that it is seen when it changes, and the similarity against scikit-learn's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.quality.meaning import Similarity, changed_facts, protected

TEXT = "Please move my flight UA123 from Boston to 5 May, but do not charge ada@example.com more than $40."


@pytest.mark.parametrize(
    ("before", "after", "facts"),
    [
        (TEXT, TEXT.replace("5 May", "6 May"), ["numbers_changed"]),
        ("I need two bags.", "I need three bags.", ["numbers_changed"]),
        ("I need two bags.", "I need 2 bags.", []),
        ("I pay 1,000 today.", "I pay 1,005 today.", ["numbers_changed"]),
        (TEXT, TEXT.replace("Boston", "Denver"), ["names_changed"]),
        ("Then Ada came.", "Ada came then.", []),
        ("Ada came then.", "Bob came then.", []),  # a first word may be no name: it cannot be told
        ("We asked Ada.", "We asked her.", ["names_changed"]),
        (TEXT, TEXT.replace("do not", "do"), ["negation_changed"]),
        ("I can't come.", "I cannot come.", []),
        ("I don’t know.", "I know.", ["negation_changed"]),
        ("Ich komme nicht.", "Ich komme.", ["negation_changed"]),
        ("Write to ada@example.com now.", "Write to bob@example.com now.", ["code_changed"]),
        ("Run `ls -a` there.", "Run `ls -b` there.", ["code_changed"]),
        ("He said \"go home\" twice.", "He said \"go away\" twice.", ["code_changed"]),
        ("The quick reply came.", "The fast reply came.", []),
    ],
)  # fmt: skip
def test_facts(before: str, after: str, facts: list[str]) -> None:
    assert changed_facts(before, after) == facts
    assert changed_facts(before, before) == []


@pytest.mark.parametrize("word", ["UA123", "Boston", "5", "not", "ada@example.com", "$40.", "more", "than", "flight"])
def test_what_is_protected(word: str) -> None:
    at = TEXT.index(word)
    covered = {place for start, end in protected(TEXT, ["flight"]) for place in range(start, end)}
    assert set(range(at, at + len(word.rstrip(".")))) <= covered
    free = TEXT.index("charge")
    assert not set(range(free, free + 6)) & covered


def test_similarity_is_scikit_learns() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from tracemill.quality.text import words

    corpus = ["where is my parcel", "my flight to seattle is late", "is my flight late today", "blank pages"]
    vectors = TfidfVectorizer(analyzer=words).fit_transform(corpus).toarray()
    alike = Similarity(corpus)
    for i in range(4):
        for j in range(4):
            assert alike(corpus[i], corpus[j]) == pytest.approx(float(vectors[i] @ vectors[j]))


@given(st.text(), st.text())
def test_similarity_is_a_share_and_symmetric(one: str, other: str) -> None:
    alike = Similarity([one, other])
    assert 0 <= alike(one, other) <= 1
    assert alike(one, other) == pytest.approx(alike(other, one))
    assert alike(one, one) == pytest.approx(1)
