"""Shingles against a plain reading of their definition, signatures against probability."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.quality.minhash import band_keys, bands_for, collision, jaccard, shingle_sets, signatures

WORDS = st.lists(st.sampled_from(["a", "B", "c1", "été", "ω", "-", ".", "\n", "ﬁ", "\ud800"]), max_size=30).map(
    " ".join
)

GOLDEN_VALUES = [7448649513059, 7631600588759]
GOLDEN_KEYS = [[10620461941468562421, 1291505401192508495], [9575619577520950934, 12072475758923276622]]


def plain(text: str, shingle: int) -> set[tuple[str, ...]]:
    """The shingles of a text by the definition."""
    words = re.findall(r"[^\W_]+", text.lower())
    if len(words) < shingle:
        return {tuple(words)} if words else set()
    return {tuple(words[at : at + shingle]) for at in range(len(words) - shingle + 1)}


@given(st.lists(WORDS, min_size=1, max_size=8), st.integers(1, 5))
def test_similarities_are_those_of_the_definition(texts: list[str], shingle: int) -> None:
    sets = shingle_sets(texts, shingle)
    assert [len(plain(text, shingle)) for text in texts] == sets.sizes().tolist()
    left, right = (np.array(list(side), np.int64) for side in zip(*_all_pairs(len(texts)), strict=True))
    for one, other, found in zip(left, right, jaccard(sets, left, right), strict=True):
        a, b = plain(texts[one], shingle), plain(texts[other], shingle)
        assert found == (len(a & b) / len(a | b) if a | b else 0.0)


def _all_pairs(count: int) -> list[tuple[int, int]]:
    return [(one, other) for one in range(count) for other in range(count)]


@given(st.lists(WORDS, max_size=6), WORDS)
def test_a_text_has_its_signature_whatever_stands_beside_it(texts: list[str], text: str) -> None:
    alone = signatures(shingle_sets([text]), 12)[0]
    assert signatures(shingle_sets([*texts, text]), 12)[-1].tolist() == alone.tolist()


def test_long_texts_and_many_chunks_are_read_as_short_ones_are() -> None:
    draw = random.Random(3)
    texts = [" ".join(draw.choices("abcdefgh", k=draw.choice([0, 1, 5, 60_000]))) for _ in range(40)]
    sets = shingle_sets(texts, 4)
    assert sets.sizes().tolist() == [len(plain(text, 4)) for text in texts]
    whole = signatures(sets, 8)
    for at, text in enumerate(texts):
        assert whole[at].tolist() == signatures(shingle_sets([text], 4), 8)[0].tolist()


def test_letters_of_scripts_without_spaces_are_words() -> None:
    assert shingle_sets(["我想改签航班", "こんにちは", "ฉันชอบ"], 1).sizes().tolist() == [6, 5, 6]
    assert shingle_sets(["हिन्दी भाषा"], 1).sizes().tolist() == [2]  # marks belong to their word


def test_values_are_the_same_on_every_machine() -> None:
    """What is stored today is compared with what is made years from now."""
    sets = shingle_sets(["the quick brown fox jumps over the lazy dog", "été"])
    assert sets.values.tolist()[:2] == GOLDEN_VALUES
    assert band_keys(signatures(sets, 4), 2, 2).tolist() == GOLDEN_KEYS


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.95])
def test_signatures_agree_as_often_as_sets_do(similarity: float) -> None:
    draw = random.Random(11)
    size = 400
    shared = round(2 * size * similarity / (1 + similarity))
    words = [f"w{number}" for number in draw.sample(range(10**6), 2 * size - shared)]
    sets = shingle_sets([" ".join(words[:size]), " ".join(words[size - shared :])], 1)
    exact = jaccard(sets, np.array([0]), np.array([1]))[0]
    found = signatures(sets, 4096)
    agreeing = float((found[0] == found[1]).mean())
    assert abs(agreeing - exact) < 5 * math.sqrt(exact * (1 - exact) / 4096)


@given(st.floats(0.05, 0.98), st.floats(0.5, 0.999), st.integers(1, 256))
def test_bands_reach_the_recall_with_the_most_rows(threshold: float, recall: float, permutations: int) -> None:
    try:
        bands, rows = bands_for(threshold, recall=recall, permutations=permutations)
    except ValueError:
        assert collision(threshold, permutations, 1) < recall + 1e-9
        return
    assert bands * rows <= permutations
    assert collision(threshold, bands, rows) >= recall - 1e-9
    more_rows = rows + 1
    assert collision(threshold, permutations // more_rows, more_rows) < recall + 1e-9
    assert bands == 1 or collision(threshold, bands - 1, rows) < recall + 1e-9


@pytest.mark.parametrize(
    ("threshold", "recall", "permutations"), [(0, 0.9, 9), (1, 0.9, 9), (0.5, 1, 9), (0.5, 0.9, 0)]
)
def test_numbers_that_mean_nothing_are_refused(threshold: float, recall: float, permutations: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        bands_for(threshold, recall=recall, permutations=permutations)
