"""Near duplicates end to end, beside datasketch where it is installed: `python -m benches.duplicates`.

End to end is from texts to clusters: words, shingles, signatures, candidates, and whatever verification a library has.
The peer is given the same words and shingles' length and as many permutations.
"""

from __future__ import annotations

import importlib.util
import random
import re
import time
from collections.abc import Callable, Iterable

from benches import results
from benches.trajectories import REAL, real_turns
from tracemill.core.messages import text, trajectory
from tracemill.quality.duplicates import Document, DuplicateIndex, brute_force

THRESHOLD, SHINGLE, PERMUTATIONS = 0.8, 3, 128
_WORD = re.compile(r"[^\W_]+")
Pairs = Iterable[tuple[str, str]]


def made_up(count: int, seed: int = 7) -> list[Document]:
    """Texts of 100 words of a fixed vocabulary; three in ten are an earlier one with up to ten words exchanged."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(8000)]
    texts: list[list[str]] = []
    for _ in range(count):
        if texts and draw.random() < 0.3:
            changed = list(draw.choice(texts))
            for _ in range(draw.randint(0, 10)):
                changed[draw.randrange(len(changed))] = draw.choice(words)
        else:
            changed = draw.choices(words, k=100)
        texts.append(changed)
    return [Document(f"{at:08d}", " ".join(one)) for at, one in enumerate(texts)]


def real(copies: int) -> list[Document]:
    """The questions and answers of the real trajectories, and copies of each with every tenth to twentieth word exchanged."""
    draw = random.Random(7)
    turns = ["\n".join(text(message) for message in trajectory(turn)) for turn in real_turns()]
    words = sorted({word for turn in turns for word in turn.split()})
    texts = list(turns)
    for _ in range(copies):
        for turn in turns:
            exchanged = [
                draw.choice(words) if draw.random() < draw.choice([0.01, 0.05]) else word for word in turn.split()
            ]
            texts.append(" ".join(exchanged))
    return [Document(f"{at:08d}", one) for at, one in enumerate(texts)]


def ours(documents: list[Document]) -> dict[str, str]:
    """By id the one that stands for it."""
    index = DuplicateIndex(THRESHOLD, shingle=SHINGLE, permutations=PERMUTATIONS)
    index.add(documents)
    return {duplicate.id: duplicate.kept for duplicate in index.duplicates()}


def shingles(content: str) -> set[str]:
    """The shingles the peers are given."""
    words = _WORD.findall(content.lower())
    return {" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))}


def with_datasketch(documents: list[Document]) -> dict[str, str]:
    """datasketch: MinHash.bulk, MinHashLSH with its own choice of bands, and candidates verified by exact Jaccard."""
    from datasketch import MinHash, MinHashLSH

    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    linked: list[tuple[str, str]] = []
    sets = [shingles(document.text) for document in documents]
    encoded = [[one.encode() for one in made] for made in sets]
    for number, made in enumerate(MinHash.bulk(encoded, num_perm=PERMUTATIONS)):
        linked.extend(
            (documents[number].id, documents[other].id)
            for other in lsh.query(made)
            if len(sets[number] & sets[other]) >= THRESHOLD * len(sets[number] | sets[other])
        )
        lsh.insert(number, made, check_duplication=False)
    return joined(linked)


def joined(pairs: Pairs) -> dict[str, str]:
    """Linked pairs as clusters: by id the least id it is connected with."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while (up := above.setdefault(name, name)) != name:
            above[name] = above.setdefault(up, up)
            name = above[name]
        return name

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        above[high] = low
    return {name: root(name) for name in list(above)}


def clustered_pairs(label: dict[str, str]) -> set[tuple[str, str]]:
    """Every pair of one cluster, for comparing two clusterings."""
    groups: dict[str, set[str]] = {}
    for name, kept in label.items():
        groups.setdefault(kept, {kept}).add(name)
    return {(one, other) for group in groups.values() for one in group for other in group if one < other}


def f1(found: set[tuple[str, str]], truth: set[tuple[str, str]]) -> float:
    """The harmonic mean of precision and recall."""
    return 2 * len(found & truth) / (len(found) + len(truth)) if found or truth else 1.0


def measure(
    name: str, run: Callable[[list[Document]], dict[str, str]], corpus: str, documents: list[Document]
) -> dict[str, object]:
    """One row: speed of one core by the process's own clock, median of three; agreement with brute force on 3,000 texts."""
    words = sum(len(_WORD.findall(document.text)) for document in documents) / len(documents)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        run(documents)
        seconds.append(time.process_time() - began)
    some = documents[:3000]
    truth = clustered_pairs(joined(brute_force(some, THRESHOLD, shingle=SHINGLE)))
    return {
        "texts": corpus,
        "by": name,
        "count": len(documents),
        "words a text": words,
        "texts a second and core": len(documents) / results.middle(seconds),
        "F1 against brute force": f1(clustered_pairs(run(some)), truth),
        "duplicate pairs among 3,000": len(truth),
        "aim": "25,000; 0.95" if name == "tracemill" else "",
    }


def main() -> None:
    """Measure everything and write it down."""
    runs: list[tuple[str, Callable[[list[Document]], dict[str, str]]]] = [("tracemill", ours)]
    notes = [
        "Of texts with 3-word shingles at a Jaccard similarity of 0.8; CPU time of one process, from texts to clusters.",
        "Brute force compares all pairs of the first 3,000 texts exactly; clusters are compared pair by pair.",
        "Both verify exactly. datasketch chooses bands for least error of both kinds, tracemill for a recall of 0.99.",
    ]
    if importlib.util.find_spec("datasketch") is None:
        notes.append("datasketch was not installed and is not measured.")
    else:
        runs.append(("datasketch", with_datasketch))
    corpora = [("made up", made_up(20_000))]
    if REAL.is_file():
        corpora.append(("real turns and changed copies", real(9)))
    rows = [measure(name, run, corpus, documents) for corpus, documents in corpora for name, run in runs]
    results.write("duplicates", "Near duplicates", "python -m benches.duplicates", rows, notes)


if __name__ == "__main__":
    main()
