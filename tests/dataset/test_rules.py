"""Rules of quality as steps of a recipe, and duplicate patterns left out of a version."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.support import (
    calls,
    feedback,
    interaction,
    list_store,
    open_store,
    result,
    says,
    tau_bench,
    validation,
)
from tracemill.core.errors import RecipeError
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.steps import KEEP, Drop, Verdict
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe, parse_recipe, recorded_recipe
from tracemill.dataset.rules import (
    RULES,
    ClearReasoning,
    CompleteExecution,
    DuplicatePatterns,
    FailedExecutions,
    MinimumQuality,
    PositiveOutcome,
    Rule,
    SoundText,
    said_of,
)
from tracemill.dataset.version import Version
from tracemill.feedback.attach import attach
from tracemill.quality.metrics import Said

ASKED, TOLD = says("user", "Which flights go to Seattle?"), says("assistant", "Two.")
TALK = [ASKED, TOLD]
RECOVERED = [
    *(ASKED, calls("search", '{"a": 1}', "c1"), result("c1", "Error: no such city")),
    *(calls("search", '{"a": 2}', "c2"), result("c2", "[]"), TOLD),
]


@pytest.mark.parametrize(
    ("step", "messages", "fields", "verdict"),
    [
        (MinimumQuality(), TALK, {"success": True}, KEEP),
        (MinimumQuality(), TALK, {"success": False}, Drop("low_quality")),
        (MinimumQuality(), TALK, {}, KEEP),
        (MinimumQuality(unknown="drop"), TALK, {}, Drop("quality_unknown")),
        (MinimumQuality(), RECOVERED, {"success": False}, Drop("low_quality")),
        (MinimumQuality(or_learning=0.5), RECOVERED, {"success": False}, KEEP),
        (MinimumQuality(or_learning=0.5), TALK, {"success": False}, Drop("low_quality")),
        (MinimumQuality(score=0.9), TALK, {"success": True, "cost_usd": 4.0}, KEEP),
        (
            MinimumQuality(score=0.9, expected_cost_usd=1.0),
            TALK,
            {"success": True, "cost_usd": 4.0},
            Drop("low_quality"),
        ),
        (CompleteExecution(), TALK, {}, KEEP),
        (CompleteExecution(), TALK, {"finish_reason": "length"}, Drop("incomplete_execution")),
        (CompleteExecution(), TALK, {"completion_status": "interrupted"}, Drop("incomplete_execution")),
        (CompleteExecution(), RECOVERED[:-1], {}, KEEP),
        (CompleteExecution(), RECOVERED[:-2], {}, Drop("incomplete_execution")),
        (CompleteExecution(), [*TALK, ASKED], {}, Drop("incomplete_execution")),
        (ClearReasoning(), TALK, {}, KEEP),
        (ClearReasoning(unknown="drop"), TALK, {}, Drop("ambiguous_reasoning")),
        (ClearReasoning(), TALK, {"reasoning": "not sure, maybe"}, Drop("ambiguous_reasoning")),
        (ClearReasoning(), TALK, {"reasoning": "We need the city because flights differ"}, KEEP),
        (PositiveOutcome(), TALK, {"success": True}, KEEP),
        (PositiveOutcome(), TALK, {}, KEEP),
        (PositiveOutcome(unknown="drop"), TALK, {}, Drop("no_positive_outcome")),
        (PositiveOutcome(), TALK, {"completion_status": "partial"}, Drop("no_positive_outcome")),
        (FailedExecutions(), TALK, {"success": True}, KEEP),
        (FailedExecutions(), TALK, {"success": False}, Drop("failed_execution")),
        (FailedExecutions(), RECOVERED, {"success": False}, KEEP),
        (SoundText(), TALK, {}, KEEP),
        (SoundText(), [ASKED, says("assistant", "I can't help with that.")], {}, Drop("refusal")),
        (SoundText(rules=("repetition",)), [ASKED, says("assistant", "I can't help with that.")], {}, KEEP),
        (DuplicatePatterns(), TALK, {}, KEEP),
    ],
)
def test_verdicts(
    step: Any, messages: list[dict[str, Any]], fields: dict[str, Any], verdict: Verdict[Interaction]
) -> None:
    assert step(interaction("x", messages, **fields)) == verdict


def test_what_was_said_counts() -> None:
    judged = interaction("x", TALK, success=True)
    records: list[AnyRecord] = [
        judged,
        feedback("f1", "x", kind="thumbs_down"),
        feedback("f2", "x", kind="rating", rating=2),
        feedback("f3", "x", kind="edit", correction="Three."),
        validation("v1", "x", passed=True, score=40),
        validation("v2", "x", passed=True),
        validation("v3", "x"),
    ]
    attached = attach(list_store(records), up_to=len(records)).of(judged.id)
    said = said_of(attached)
    assert said == Said(thumbs=(False,), ratings=(2,), checks=said.checks, corrected=True)
    assert sorted(said.checks) == [0.4, 1.0]
    steps: list[tuple[Rule, str]] = [(PositiveOutcome(), "no_positive_outcome"), (MinimumQuality(), "low_quality")]
    for step, reason in steps:
        assert step(judged) == KEEP
        assert step.judge(judged, attached) == Drop(reason)


def test_a_recipe_file_names_every_rule() -> None:
    steps: list[dict[str, dict[str, Any]]] = [{name: {}} for name in RULES]
    recipe = parse_recipe({"steps": steps})
    assert [type(step) for step in recipe.steps] == list(RULES.values())
    assert recorded_recipe(recipe.plain(), recipe.hash()) == recipe
    other = parse_recipe({"steps": [{"minimum_quality": {"score": 0.7}}]})
    assert other.hash() != parse_recipe({"steps": ["minimum_quality"]}).hash()
    for wrong in ({"score": 1.5}, {"unknown": "guess"}, {"scores": 0.5}):
        with pytest.raises(RecipeError, match="minimum_quality"):
            parse_recipe({"steps": [{"minimum_quality": wrong}]})
    with pytest.raises(RecipeError, match="twice"):
        parse_recipe({"steps": ["duplicate_patterns", {"duplicate_patterns": {"threshold": 0.5}}]})


def fates(version: Version) -> dict[str, str | None]:
    return {fate.id: fate.dropped or next(iter(fate.left_out.values()), None) for fate in version.fates()}


def test_rules_see_feedback_in_a_build(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        interaction("good", TALK, success=True, task_id="1"),
        interaction("bad", [ASKED, says("assistant", "Three.")], success=True, task_id="2"),
        feedback("f", "bad", kind="thumbs_down"),
    ]
    version = build_version(list_store(records), Recipe(steps=(PositiveOutcome(),), signals=("supervised",)), tmp_path)
    assert version.manifest.drops["steps.no_positive_outcome"] == 1
    assert version.count() == 1


LONG = " ".join(f"word{at}" for at in range(120))


def copies() -> list[AnyRecord]:
    """Three that say nearly the same, of which the second went best, one of its own, and a call logged twice."""
    texts = [f"{LONG} one", f"{LONG} two", f"{LONG} three", " ".join(reversed(LONG.split()))]
    records: list[AnyRecord] = [
        interaction(
            f"i{at}", [says("system", LONG), ASKED, says("assistant", f"{text}.")], success=True, task_id=str(at)
        )
        for at, text in enumerate(texts)
    ]
    first = interaction(
        "call",
        [says("user", LONG.replace("word", "other") + "?")],
        response=says("assistant", "One."),
        conversation_id="c",
    )
    later = interaction(
        "later",
        [*first.messages, says("assistant", "One."), says("user", "Thanks.")],
        response=says("assistant", "Bye."),
        conversation_id="c",
        success=True,
    )
    records += [first, later, feedback("up", "i1", kind="rating", rating=5)]
    records += [feedback(f"down{at}", f"i{at}", kind="rating", rating=4) for at in (0, 2)]
    return records


PATTERNS = Recipe(steps=(DuplicatePatterns(),), signals=("supervised",), split={"train": 1.0})


def test_of_duplicate_patterns_the_best_is_kept(tmp_path: Path) -> None:
    records = copies()
    version = build_version(list_store(records), PATTERNS, tmp_path)
    found = fates(version)
    assert [found[record.id] for record in records[:6]] == [
        *("duplicate_pattern", None, "duplicate_pattern", None),
        *("success_unknown", None),
    ]
    assert version.manifest.drops["supervised.duplicate_pattern"] == 2
    assert version.verify() == []


@settings(max_examples=8)
@given(st.permutations(range(9)))
def test_a_version_without_duplicates_knows_no_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    records = copies()
    hashes = {
        build_version(list_store(some), PATTERNS, tmp_path_factory.mktemp("datasets")).manifest_sha256
        for some in (records, [records[at] for at in order])
    }
    assert len(hashes) == 1


def test_numpy_is_loaded_only_to_look_for_duplicates() -> None:
    program = "import sys, tracemill.dataset.build; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_numpy_the_rule_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.dataset.patterns.find_spec", lambda _: None)
    with pytest.raises(RecipeError, match="needs NumPy") as raised:
        build_version(list_store(copies()), PATTERNS, tmp_path)
    assert "tracemill[quality]" in raised.value.hint


def test_pairs_of_trials_outlive_duplicates(tmp_path: Path) -> None:
    records = [
        interaction(f"t{at}", [ASKED, says("assistant", f"{LONG} {at}.")], success=bool(at), task_id="same", trial=at)
        for at in range(2)
    ]
    recipe = Recipe(steps=(DuplicatePatterns(),), trial_score="success", split={"train": 1.0})
    version = build_version(list_store(records), recipe, tmp_path)
    assert version.count(type="preference") == 1
    assert version.count(type="supervised") == 1


def test_the_rules_of_the_seed_on_real_trajectories(shared_data: Path, tmp_path: Path) -> None:
    """Of what succeeded nearly all is kept; of what failed only what teaches something about errors."""
    records = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    steps: tuple[Rule | DuplicatePatterns, ...] = (
        SoundText(),
        CompleteExecution(),
        ClearReasoning(clarity=0.3),
        FailedExecutions(or_learning=0.5),
        MinimumQuality(or_learning=0.5),
        DuplicatePatterns(),
    )
    store = open_store(tmp_path, records)
    version = build_version(store, Recipe(steps=steps, signals=("supervised", "trials")), tmp_path / "datasets")
    store.close()
    found = fates(version)
    succeeded = [record for record in records if isinstance(record, Interaction) and record.success]
    failed = [record for record in records if isinstance(record, Interaction) and not record.success]
    dropped = Counter(
        found[record.id] for record in succeeded if found[record.id] not in (None, "only_trial", "equal_scores")
    )
    assert dropped.total() <= 0.02 * len(succeeded), dropped
    kept = [record for record in failed if not (found[record.id] or "").startswith("steps.")]
    assert 0 < len(kept) < len(failed) / 2
