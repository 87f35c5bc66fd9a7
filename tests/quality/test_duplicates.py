"""Clusters: independent of order, batches, processes and saving; equal to brute force within the stated recall."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.core.errors import DatasetError
from tracemill.quality.duplicates import Cluster, Document, DuplicateIndex, brute_force

TEXTS = st.lists(st.sampled_from("abcdefg"), max_size=14).map(" ".join)
DOCUMENTS = st.lists(st.tuples(TEXTS, st.integers(0, 2)), max_size=25).map(
    lambda pairs: [Document(f"d{at:02d}", text, float(score)) for at, (text, score) in enumerate(pairs)]
)


def clusters(documents: Iterable[Document], threshold: float = 0.6) -> list[Cluster]:
    index = DuplicateIndex(threshold, shingle=2)
    index.add(documents)
    return index.clusters()


def components(documents: Sequence[Document], pairs: Iterable[tuple[str, str]]) -> set[frozenset[str]]:
    """The connected components of more than one document, by relabelling until nothing changes."""
    label = {document.id: document.id for document in documents}
    listed = list(pairs)
    changed = True
    while changed:
        changed = False
        for one, other in listed:
            if label[one] != label[other]:
                label[one] = label[other] = min(label[one], label[other])
                changed = True
    groups: dict[str, set[str]] = {}
    for name, group in label.items():
        groups.setdefault(group, set()).add(name)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def members(found: Iterable[Cluster]) -> set[frozenset[str]]:
    return {frozenset([cluster.kept, *(one.id for one in cluster.duplicates)]) for cluster in found}


@given(DOCUMENTS, st.randoms(use_true_random=False), st.lists(st.integers(1, 6), max_size=8))
def test_clusters_know_no_order_and_no_batches(documents: list[Document], draw: random.Random, cuts: list[int]) -> None:
    shuffled = documents[:]
    draw.shuffle(shuffled)
    index = DuplicateIndex(0.6, shingle=2)
    for cut in cuts:
        index.add(shuffled[:cut])
        del shuffled[:cut]
    index.add(shuffled)
    assert index.clusters() == clusters(documents)


@settings(max_examples=30)
@given(DOCUMENTS, DOCUMENTS)
def test_saving_and_loading_between_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, first: list[Document], rest: list[Document]
) -> None:
    path = tmp_path_factory.mktemp("index") / "index.npz"
    rest = [Document(f"later {one.id}", one.text, one.score) for one in rest]
    index = DuplicateIndex(0.6, shingle=2)
    index.add(first)
    index.save(path)
    loaded = DuplicateIndex.load(path)
    assert loaded.clusters() == index.clusters()
    loaded.add(rest)
    assert loaded.clusters() == clusters([*first, *rest])


@given(DOCUMENTS)
def test_nothing_is_linked_that_brute_force_does_not_link(documents: list[Document]) -> None:
    pairs = brute_force(documents, 0.6, shingle=2)
    same = {
        (one.id, other.id)
        for at, one in enumerate(documents)
        for other in documents[at + 1 :]
        if one.text == other.text
    }
    allowed = components(documents, pairs | same)
    for cluster in members(clusters(documents)):
        assert any(cluster <= component for component in allowed)
    certain = components(documents, same)
    found = members(clusters(documents))
    for cluster in certain:
        assert any(cluster <= one for one in found)


@given(DOCUMENTS)
def test_the_best_is_kept(documents: list[Document]) -> None:
    by_id = {document.id: document for document in documents}
    for cluster in clusters(documents):
        kept = by_id[cluster.kept]
        for duplicate in cluster.duplicates:
            other = by_id[duplicate.id]
            assert (-kept.score, kept.id) < (-other.score, other.id)
            assert (duplicate.kind == "exact") == (kept.text == other.text)
            if kept.text != other.text:
                (pair,) = brute_force([kept, other], 0.0, shingle=2)
                assert set(pair) == {kept.id, other.id}
                assert 0 <= duplicate.similarity <= 1


def corpus(count: int, seed: int) -> list[Document]:
    """Texts of 100 words, a third of them an earlier one with up to ten words exchanged."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]
    texts: list[list[str]] = []
    for _ in range(count):
        if texts and draw.random() < 0.33:
            text = list(draw.choice(texts))
            for _ in range(draw.randint(0, 10)):
                text[draw.randrange(len(text))] = draw.choice(words)
        else:
            text = draw.choices(words, k=100)
        texts.append(text)
    return [Document(f"{at:06d}", " ".join(text), float(at % 7)) for at, text in enumerate(texts)]


def test_brute_force_is_equalled_within_the_stated_recall() -> None:
    documents = corpus(2500, 5)
    pairs = brute_force(documents)
    assert len(pairs) > 300
    index = DuplicateIndex()
    index.add(documents)
    label = {name: number for number, group in enumerate(members(index.clusters())) for name in group}
    found = sum(one in label and label[one] == label.get(other) for one, other in pairs)
    assert found / len(pairs) >= index.recall
    for one in documents[::50]:
        direct = {(min(one.id, name), max(one.id, name)) for name, _ in index.similar(one.text) if name != one.id}
        assert direct <= pairs


def test_a_large_family_of_copies_is_one_cluster() -> None:
    common = " ".join(f"word{number}" for number in range(200))
    documents = [Document(f"{number:05d}", f"{common} order {number}", number / 2) for number in range(6000)]
    (cluster,) = clusters(documents, 0.8)
    assert cluster.kept == "05999"
    assert len(cluster.duplicates) == 5999


def test_texts_without_words_are_alike_only_when_they_are_equal() -> None:
    found = clusters([Document("a", "..."), Document("b", "!!!"), Document("c", "..."), Document("d", "")])
    assert [(one.id, one.kept, one.kind) for cluster in found for one in cluster.duplicates] == [("c", "a", "exact")]
    assert DuplicateIndex().similar("...") == []


def test_an_id_that_is_known_is_left_as_it_was() -> None:
    index = DuplicateIndex(0.6, shingle=2)
    assert index.add([Document("a", "one two three"), Document("b", "four five six")]) == 2
    assert index.add([Document("a", "four five six"), Document("c", "one two three", 1.0)]) == 1
    assert ("a" in index, "z" in index, len(index)) == (True, False, 3)
    (cluster,) = index.clusters()
    assert (cluster.kept, [one.id for one in cluster.duplicates]) == ("c", ["a"])
    assert index.similar("One, two; THREE!") == [("a", 1.0), ("c", 1.0)]


def test_every_process_finds_the_same(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.quality.test_duplicates import corpus\n"
        "from tracemill.quality.duplicates import DuplicateIndex\n"
        "index = DuplicateIndex(); index.add(corpus(300, 9)); index.save(Path(sys.argv[1])); print(index.clusters())"
    )
    printed, saved = [], []
    for seed in ("0", "1"):
        path = tmp_path / f"{seed}.npz"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, env=environment, check=True
        )
        printed.append(run.stdout)
        saved.append(DuplicateIndex.load(path).clusters())
    assert printed[0] == printed[1]
    assert len(printed[0]) > 1000
    assert saved[0] == saved[1]


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.npz"
    index = DuplicateIndex()
    index.add(corpus(20, 1))
    index.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"PK\x03\x04", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match="no index of duplicates"):
            DuplicateIndex.load(path)
    with pytest.raises(DatasetError, match="no index"):
        DuplicateIndex.load(tmp_path / "none.npz")
    with pytest.raises(DatasetError, match="cannot be written"):
        index.save(tmp_path / "no folder" / "index.npz")


def test_a_shingle_has_a_word() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        DuplicateIndex(shingle=0)
