"""What several rows say is in one split, whoever said it and whatever the rows are for; nothing else is left out for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.support import feedback, interaction, list_store, reward, says, user
from tracemill.core.records import AnyRecord
from tracemill.dataset.augmented import Augmentation
from tracemill.dataset.build import build_version
from tracemill.dataset.parted import pack_parted, read_parted
from tracemill.dataset.parts import content_key
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.split import precedence
from tracemill.dataset.version import Version
from tracemill.quality.text import words

SPLIT = {"train": 0.5, "validation": 0.2, "test": 0.3}
SIGNALS = ("supervised", "labelled", "rewards", "actions")


def turn(name: str, question: str, **more: Any) -> list[AnyRecord]:
    """What one person asked and how it went: a row of a type that depends on what is known of it."""
    system = [says("system", more.pop("system"))] if "system" in more else []
    talk = [*system, says("user", question), says("assistant", f"about {question}")]
    made: list[AnyRecord] = [interaction(name, talk, user=user(f"user {name}"), success=more.get("success"))]
    if "thumb" in more:
        made.append(feedback(f"thumb {name}", name, kind=more["thumb"]))
    if "reward" in more:
        made.append(reward(name, more["reward"]))
    return made


KINDS: list[dict[str, Any]] = [
    {"success": True},
    {"success": True, "system": "it is Monday"},
    {"thumb": "thumbs_down"},
    {"thumb": "thumbs_up", "system": "it is Friday"},
    {"reward": 0.5},
]


def built(records: list[AnyRecord], folder: Path, **fields: Any) -> Version:
    fields = {"signals": SIGNALS, "split": SPLIT, **fields}
    return build_version(list_store(records), Recipe(name="said", **fields), folder)


def places(version: Version) -> dict[bytes, set[str]]:
    """In which splits the words of each row stand."""
    found: dict[bytes, set[str]] = {}
    for split in version.splits():
        for example in version.examples(split):
            found.setdefault(content_key(example), set()).add(split)
    return found


_talks = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(KINDS)), min_size=1, max_size=14)


@settings(max_examples=40)
@given(_talks, st.integers(0, 3))
def test_words_are_in_one_split(
    tmp_path_factory: pytest.TempPathFactory, talks: list[tuple[int, dict[str, Any]]], seed: int
) -> None:
    records = [one for at, (said, kind) in enumerate(talks) for one in turn(f"{at}", f"question {said}", **kind)]
    version = built(records, tmp_path_factory.mktemp("built"), seed=seed)
    assert all(len(splits) == 1 for splits in places(version).values())
    # the smallest split of those that would have it keeps it, and nothing is left out that nobody else keeps
    fates = {fate.id: fate for fate in version.fates()}
    lost = sum(reason == "duplicate_across_splits" for fate in fates.values() for reason in fate.left_out.values())
    assert version.manifest.drops.get("examples.duplicate_across_splits", 0) == lost
    kept = {" ".join(words(example_text(one)))[:10] for split in version.splits() for one in version.examples(split)}
    assert len(kept) == len({said for said, _ in talks})


def example_text(example: Any) -> str:
    messages = [*getattr(example, "messages", ()), *getattr(example, "prompt", ())]
    return str(next(message["content"] for message in messages if message["role"] == "user"))


def test_a_row_of_another_type_is_kept_by_the_smallest_split(tmp_path: Path) -> None:
    rank = precedence(SPLIT)
    seen: Counter[bool] = Counter()
    for seed in range(12):
        folder = tmp_path / str(seed)
        one, other = turn("a", "the same", success=True), turn("b", "the same", thumb="thumbs_down")
        alone = {
            name: next(iter(places(built(records, folder / name, seed=seed)).values()))
            for name, records in (("one", one), ("other", other))
        }
        version = built([*one, *other], folder / "both", seed=seed)
        would = alone["one"] | alone["other"]
        assert set.union(*places(version).values()) == {min(would, key=rank.__getitem__)}
        seen[len(would) > 1] += 1
        assert version.count() == (1 if len(would) > 1 else 2)
    assert min(seen[True], seen[False]) > 0


def test_system_prompts_do_not_hide_that_it_is_the_same(tmp_path: Path) -> None:
    records = [
        one
        for at in range(12)
        for one in turn(f"{at}", "where is it", success=True, system=f"it is day {at} of the year")
    ]
    version = built(records, tmp_path, signals=("supervised",))
    assert list(places(version).values()) == [{"validation"}] or len(version.splits()) == 1
    assert version.manifest.drops["examples.duplicate_across_splits"] + version.count() == 12


def test_what_a_later_call_repeats_takes_no_split(tmp_path: Path) -> None:
    """A call that falls anyhow keeps nobody else's row out of train."""
    first = [says("user", "hello"), says("assistant", "hello to you")]
    more = [*first, says("user", "and now"), says("assistant", "now what")]
    asked: list[AnyRecord] = [
        interaction("early", first, conversation_id="c", user=user("a"), success=True),
        interaction("late", more, conversation_id="c", user=user("a"), success=True, minutes=1),
    ]
    for seed in range(20):
        other = interaction("other", first, user=user("b"), success=True)
        version = built([*asked, other], tmp_path / str(seed), signals=("supervised",), seed=seed)
        assert version.count() == 2
        assert "examples.duplicate_across_splits" not in version.manifest.drops


def test_variations_of_what_another_split_keeps_are_not_trained_on(tmp_path: Path) -> None:
    augment = Augmentation(operations=("deletion", "swap"), per_example=2)
    question = "please show me the quickest way to change the address on my account"
    parted = 0
    for seed in range(12):
        one, other = turn("a", question, success=True), turn("b", question, thumb="thumbs_down")
        version = built(
            [*one, *other], tmp_path / str(seed), augment=augment, seed=seed, split={"train": 0.5, "test": 0.5}
        )
        if "examples.duplicate_across_splits" not in version.manifest.drops:
            continue
        rows = [example for split in version.splits() for example in version.examples(split)]
        made = [example for example in rows if example.augmented is not None]
        assert version.splits() == ["test"] or not made
        parted += 1
    assert parted > 0


def test_the_order_of_records_leaves_no_trace(tmp_path: Path) -> None:
    records = [one for at in range(60) for one in turn(f"{at}", f"question {at % 7}", **KINDS[at % 5])]
    one, other = built(records, tmp_path / "a"), built(records[::-1], tmp_path / "b")
    assert one.manifest == other.manifest
    assert one.manifest.drops["examples.duplicate_across_splits"] > 0


@given(st.dictionaries(st.binary(min_size=16, max_size=16), st.sampled_from(["train", "fold_12", "a"]), max_size=8))
def test_what_is_packed_is_read(found: dict[bytes, str]) -> None:
    assert read_parted(pack_parted(found.items()) + pack_parted([])) == found
