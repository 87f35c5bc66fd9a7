"""Steps and decisions find their interaction: by its id, or by what is above them, in any order of coming."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import decision, feedback, interaction, list_store, open_store, record_id, says, step
from tracemill.core.foreign import trace_record_id
from tracemill.core.ids import EPOCH
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, Interaction, Option, Outcome
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.rules import ClearReasoning, MinimumQuality, SoundText, judge_quality
from tracemill.feedback.attach import attach
from tracemill.feedback.executions import find_executions
from tracemill.workspace import Workspace

TRACE = "ab" * 16
ROOT = Interaction(
    id=trace_record_id(TRACE), time=EPOCH, schema_version=SCHEMA_VERSION, producer="t", sequence=0, trace_id=TRACE
)
ASKED = [says("user", "How far is it from Oslo to Bergen by train?"), says("assistant", "About seven hours.")]


def found(records: list[AnyRecord], owner: str, up_to: int | None = None) -> list[str]:
    store = list_store(records)
    execution = find_executions(store, up_to=up_to).of(store, [owner]).get(owner)
    return [] if execution is None else [record.id for record in (*execution.steps, *execution.decisions)]


def test_steps_are_in_order_and_decisions_behind_them() -> None:
    records: list[AnyRecord] = [
        decision("d2", "t", minutes=2),
        step("s2", "t", index=2),
        step("other", "u", index=0),
        interaction("t", ASKED),
        step("s1", "t", index=1, minutes=9),
        decision("d1", "t", minutes=1),
    ]
    assert found(records, record_id("t")) == [record_id(name) for name in ("s1", "s2", "d1", "d2")]


def test_what_names_no_interaction_is_led_there_by_what_is_above_it() -> None:
    top = step("top", parent_id=record_id("t"))
    records: list[AnyRecord] = [
        decision("of a loose step", step_id=record_id("inner")),
        step("inner", parent_id=top.id, index=2),
        decision("of a step", step_id=record_id("named")),
        step("named", "t", index=3),
        top,
        interaction("t", ASKED),
        step("of a trace", trace_id=TRACE, parent_id=record_id("never came")),
        ROOT,
    ]
    names = ("top", "inner", "named", "of a loose step", "of a step")
    assert sorted(found(records, record_id("t"))) == sorted(record_id(name) for name in names)
    assert found(records, ROOT.id) == [record_id("of a trace")]


def test_a_circle_and_an_unknown_parent_lead_nowhere() -> None:
    records: list[AnyRecord] = [
        step("a", parent_id=record_id("b")),
        step("b", parent_id=record_id("a")),
        step("lost", parent_id=record_id("gone")),
        decision("alone"),
        interaction("t", ASKED),
    ]
    assert find_executions(list_store(records)).loose == {}


def test_nothing_later_than_the_watermark_is_read() -> None:
    records: list[AnyRecord] = [interaction("t", ASKED), step("s1", "t"), step("s2", "t", index=1)]
    assert found(records, record_id("t"), up_to=2) == [record_id("s1")]


@given(st.permutations(range(9)))
def test_the_order_of_storing_leaves_no_trace(order: list[int]) -> None:
    records: list[AnyRecord] = [
        interaction("t", ASKED),
        interaction("u", ASKED),
        step("1", "t", index=1),
        step("0", "t", index=0),
        step("inner", parent_id=record_id("1"), index=2),
        decision("d", step_id=record_id("inner")),
        decision("e", "u"),
        ROOT,
        step("traced", trace_id=TRACE),
    ]
    shuffled = [records[at] for at in order]
    for owner in (record_id("t"), record_id("u"), ROOT.id):
        assert found(shuffled, owner) == found(records, owner)


def test_feedback_that_names_a_decision_is_about_that_part_of_its_interaction() -> None:
    records: list[AnyRecord] = [
        interaction("t", ASKED),
        decision("d", "t"),
        feedback("f", None, kind="edit", step_id=record_id("d")),
    ]
    attachments = attach(list_store(records))
    (mark,) = attachments.of(record_id("t")).feedback
    assert (mark.about_step, mark.step_id, attachments.unmatched) == (True, record_id("d"), [])


CHOICE = decision(
    "d",
    "t",
    options=[Option(name="fetch", pros=["fresh"]), Option(name="cache", cons=["stale"])],
    choice="fetch",
    reasoning="maybe",
    confidence=0.9,
    outcome=Outcome(success=False, quality=0.1),
)


def test_the_rules_of_a_build_know_steps_and_decisions(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        step("s", "t", reasoning="whatever", success=False),
        CHOICE,
        interaction("t", ASKED),
        interaction("u", ASKED[:1], response=ASKED[1], success=True),
    ]
    store = open_store(tmp_path, records)
    version = build_version(store, Recipe(name="clear", steps=(ClearReasoning(),)), tmp_path)
    fates = {fate.id: fate.dropped for fate in version.fates()}
    assert fates[record_id("t")] == "steps.ambiguous_reasoning"
    assert fates[record_id("s")] == fates[record_id("d")] == "execution.not_used"
    assert version.verify() == []
    low = build_version(store, Recipe(name="low", steps=(MinimumQuality(),)), tmp_path)
    assert low.manifest.drops["steps.low_quality"] == 1
    store.close()


def test_the_measures_take_them_from_what_is_attached() -> None:
    records: list[AnyRecord] = [CHOICE, interaction("t", ASKED)]
    store = list_store(records)
    attachments = attach(store)
    attachments.executions = find_executions(store)
    (attached,) = attachments.of_batch(store, [record_id("t")])
    subject = store.get(record_id("t"))
    assert isinstance(subject, Interaction)
    assert attached.decisions == (CHOICE,)
    assert judge_quality(subject, attached).value("alignment") == 1 - 0.9**2  # Brier: sure of it, and it failed
    assert judge_quality(subject, attachments.of(subject.id)).value("alignment") is None


def test_a_recipe_that_does_not_look_at_them_does_not_read_them(tmp_path: Path) -> None:
    store = open_store(tmp_path, [interaction("t", ASKED, success=True), step("s", "t")])
    recipe = Recipe(name="plain", steps=(SoundText(),))
    first = build_version(store, recipe, tmp_path)
    store.append([step("s2", "t")])
    assert build_version(store, recipe, tmp_path).path == first.path
    assert first.manifest.records_read == 1
    store.close()


def test_what_was_archived_is_found_as_well(tmp_path: Path) -> None:
    with Workspace.open(tmp_path / "w") as workspace:
        workspace.store.append([interaction("t", ASKED, success=True), step("s1", "t", index=1), CHOICE])
        workspace.store.append([step("inner", parent_id=record_id("s1"), index=2)])
        assert workspace.archive(days_old=0).records == 4
        workspace.store.append([step("late", "t", index=3)])
        execution = find_executions(workspace.store).of(workspace.store, [record_id("t")])[record_id("t")]
    assert [one.id for one in execution.steps] == [record_id(name) for name in ("s1", "inner", "late")]
    assert [one.id for one in execution.decisions] == [record_id("d")]
