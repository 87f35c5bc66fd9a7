"""Near duplicates through files and parts are those of the index in memory."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import list_store
from tracemill.dataset import near
from tracemill.dataset.near import Comparison, clusters
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.site import Alone, Site
from tracemill.dataset.texts import Pattern, TextFiles, TextWriter, read_texts
from tracemill.quality.documents import Boilerplate
from tracemill.quality.duplicates import Document, DuplicateIndex

Texts = list[tuple[str, float, bool]]
_text = st.lists(st.sampled_from("abcdefg"), max_size=14).map(" ".join)
_line = st.sampled_from(["thank you for calling us", "how can we help today", "a b c d e", "yes"])
TEXTS = st.lists(
    st.tuples(
        st.one_of(_text, st.lists(_line, max_size=5).map("\n".join)), st.integers(0, 2).map(float), st.booleans()
    ),
    max_size=30,
)


def identity(number: int) -> bytes:
    """Ids in another order than numbers."""
    return (number * 7919 % 10007).to_bytes(16, "big")


def write(folder: Path, texts: Texts, per_shard: int) -> list[TextFiles]:
    files = []
    for base in range(0, len(texts), per_shard):
        part = texts[base : base + per_shard]
        paths = folder / f"shard-{base}.patterns", folder / f"shard-{base}.narrow"
        with TextWriter(*paths) as writer:
            for place, (text, score, _) in enumerate(part):
                writer.add(Pattern(place, score, text))
        files.append(TextFiles(*paths, base, bytes(kept for _, _, kept in part)))
    return files


def by_files(folder: Path, texts: Texts, how: Comparison, per_shard: int) -> list[tuple[int, ...]]:
    crew = Alone(Site(folder, Recipe(), 0, _store=list_store([])))
    return [cluster.numbers for cluster in clusters(crew, folder, write(folder, texts, per_shard), how, identity)]


def in_memory(texts: Texts, how: Comparison) -> list[tuple[int, ...]]:
    kept = [(number, text, score) for number, (text, score, compared) in enumerate(texts) if compared]
    boilerplate = Boilerplate(how.boilerplate or 1.0)
    for _, text, _ in kept:
        boilerplate.count(text)
    index = DuplicateIndex(how.threshold, shingle=how.shingle, recall=how.recall)
    names = {identity(number).hex(): (-score, identity(number), number) for number, _, score in kept}
    index.add(
        Document(identity(number).hex(), text if how.boilerplate is None else boilerplate.without(text), score)
        for number, text, score in kept
    )
    found = []
    for cluster in index.clusters():
        members = sorted(names[one] for one in [cluster.kept, *(duplicate.id for duplicate in cluster.duplicates)])
        assert members[0] == names[cluster.kept]
        found.append(tuple(number for _, _, number in members))
    return found


@given(TEXTS, st.integers(1, 12), st.sampled_from([None, 0.1, 0.5]))
def test_the_clusters_are_those_of_the_index(texts: Texts, per_shard: int, boilerplate: float | None) -> None:
    how = Comparison(0.6, shingle=2, boilerplate=boilerplate)
    with tempfile.TemporaryDirectory() as name:
        assert by_files(Path(name), texts, how, per_shard) == in_memory(texts, how)
        assert not list(Path(name).glob("near-*"))


def test_many_alike_in_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_PAIRS", 50)
    monkeypatch.setattr(near, "_BATCH", 7)
    draw = random.Random(5)
    words = [f"w{number}" for number in range(400)]
    texts: Texts = []
    for _ in range(30):
        base = draw.choices(words, k=40)
        for _ in range(draw.randint(1, 12)):
            changed = list(base)
            for _ in range(draw.randint(0, 6)):
                changed[draw.randrange(40)] = draw.choice(words)
            line = "please rate us with five stars\n" if draw.random() < 0.5 else ""
            texts.append((line + " ".join(changed), float(draw.randint(0, 3)), draw.random() < 0.9))
    draw.shuffle(texts)
    how = Comparison(0.6, boilerplate=0.3)
    found = by_files(tmp_path, texts, how, 20)
    assert found == in_memory(texts, how)
    assert len(found) > 15
    assert found != in_memory(texts, Comparison(0.6))  # the line that half of them share makes others alike


def test_texts_come_back_however_long(tmp_path: Path) -> None:
    texts = ["", "é" * 700_000, "short", "漢" * 300_000, "x\ud800y"]
    with TextWriter(tmp_path / "a", tmp_path / "b") as writer:
        for place, text in enumerate(texts):
            writer.add(Pattern(place, 0.5, text))
    assert [one.text for one in read_texts(tmp_path / "a")] == texts
