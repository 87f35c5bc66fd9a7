"""Everything a recipe can ask for of all records at once is the same whoever works on it, and no worker's key is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dataset.support import feedback, interaction, open_store, reward, says, user
from tests.dataset.test_workers import content
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings
from tracemill.dataset import assemble, shards
from tracemill.dataset.augmented import Augmentation
from tracemill.dataset.build import _Build, build
from tracemill.dataset.processes import Processes, sendable
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.site import Plan
from tracemill.dataset.splitting import Splitting
from tracemill.dataset.version import Version
from tracemill.privacy.policies import MASK
from tracemill.privacy.redact import Redactor
from tracemill.store.hot import HotStore

KEY = b"a key of this test, 32 bytes long"
COUNT = 1500
"""Interactions, of which a fifth has feedback: two shards with it."""
WORDS = [
    "river",
    "kettle",
    "garden",
    "violin",
    "harbour",
    "lantern",
    "meadow",
    "compass",
    "orchard",
    "saddle",
    "pepper",
]
RECIPE = Recipe(
    name="whole",
    signals=("supervised", "labelled", "trials", "regenerations"),
    split={"train": 0.6, "test": 0.4},
    splitting=Splitting(method="time", group=("conversation", "near_duplicate"), similarity=0.9),
    features=("words", "conversation_age_days", "conversation_interactions", "user_interactions", "user_share"),
    weights="balanced",
    half_life_days=0.3,
    augment=Augmentation(operations=("synonyms",), synonyms={"kettle": ("pot",), "river": ("stream",)}, similarity=0.0),
)


def sample() -> Iterator[AnyRecord]:
    """Pairs of turns of a conversation, the second often the same question answered again; some tasks, some thumbs."""
    for number in range(COUNT):
        conversation, second = number // 2, number % 2
        asked = conversation - (conversation % 13 == 12)  # every thirteenth conversation asks what the one before asked
        words = " ".join(WORDS[(asked * 7 + at * at) % len(WORDS)] + str(asked % 9) for at in range(6))
        yield interaction(
            f"turn {number}",
            [says("user", f"kettle or river? {words} {asked}")],
            response=says("assistant", f"Ask jo{asked}@mail.example about {words}, {asked} {second * (asked % 3)}"),
            conversation_id=f"c{conversation}",
            user=user(f"u{conversation % 50}"),
            task_id=f"t{conversation}" if conversation % 5 == 0 else None,
            success=number % 3 != 0,
            minutes=number + (COUNT if number == 7 else 0),  # one that reaches over the moment the test split begins
        )
        if number % 5 == 0:
            yield feedback(f"thumb {number}", f"turn {number}", kind="thumbs_up" if number % 4 else "thumbs_down")
        if conversation % 5 == 0:
            yield reward(f"turn {number}", float(second))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HotStore]:
    records = list(sample())
    assert len(records) > shards.SHARD_PLACES
    opened = open_store(tmp_path_factory.mktemp("store"), records)
    yield opened
    opened.close()


def made(store: HotStore, root: Path, settings: Settings | None = None) -> Version:
    return build(store, RECIPE, root, redactor=Redactor(MASK, KEY), settings=settings).version


def test_the_whole_is_the_same_by_workers(store: HotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = made(store, tmp_path / "alone")
    check(alone)
    monkeypatch.setattr(assemble, "RANGE_BYTES", 50_000)
    monkeypatch.setattr(assemble, "_FATE_BYTES", 20_000)
    started: list[int] = []
    begin = Processes.__enter__

    def noting(self: Processes) -> Processes:
        started.append(self.size)
        return begin(self)

    monkeypatch.setattr(Processes, "__enter__", noting)
    monkeypatch.setattr(_Build, "_clean_up", lambda _: None)
    by_workers = made(store, tmp_path / "workers", Settings(workers=2))
    assert started == [2]
    assert content(by_workers) == content(alone)
    files = [path for path in (tmp_path / "workers").rglob("*") if path.is_file()]
    assert any(path.name == "inputs.pickle" for path in files)
    assert not [path for path in files if KEY in path.read_bytes()]
    monkeypatch.setattr(shards, "SHARD_PLACES", 230)
    assert content(made(store, tmp_path / "small")) == content(alone)


def check(version: Version) -> None:
    """That each of what was asked for is in it."""
    assert version.verify() == []
    manifest = version.manifest
    assert manifest.drops["split.straddles"] >= 2
    assert manifest.drops["augmented.not_train"] > 50
    assert manifest.changes["privacy.email"] > 1000
    assert set(manifest.examples["train"]) == {"labelled", "preference", "supervised", "trajectory_preference"}
    assert manifest.redaction is not None
    notes = " ".join(manifest.notes)
    assert "examples of train are augmented" in notes
    assert "equally weighted ones" in notes
    assert "reach over the moment" in notes
    rows = list(version.examples("train", "supervised"))
    assert sum(row.weight for row in rows) == pytest.approx(len(rows))
    assert not [row for row in rows if "@mail" in json.dumps(row.messages)]  # type: ignore[union-attr]
    features = [row.features for row in rows]
    assert {one["conversation_interactions"] for one in features} == {2}
    assert any(one["conversation_age_days"] > 0 for one in features)  # type: ignore[operator]
    assert any(one["user_share"] > 1 / COUNT for one in features)  # type: ignore[operator]


def test_a_redactor_that_only_this_process_knows_is_not_sent(tmp_path: Path) -> None:
    class Finds:
        """Finds nothing."""

        def find(self, _text: str) -> list[object]:
            return []

    known = Plan(tmp_path, RECIPE, 0, Settings(), Redactor(MASK, KEY))
    only_here = Plan(tmp_path, RECIPE, 0, Settings(), Redactor(MASK, KEY, detector=Finds()))  # type: ignore[arg-type]
    assert sendable(known)
    assert not sendable(only_here)
