"""What holds of every signal: the order of storing is invisible, and every example names records that were read."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.dataset.support import (
    calls,
    decision,
    feedback,
    interaction,
    list_store,
    record_id,
    result,
    says,
    step,
    validation,
)
from tracemill.core.records import Action, AnyRecord, Option
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import SIGNALS, Recipe
from tracemill.dataset.version import Version

RECIPE = Recipe(name="law", signals=SIGNALS, split={"train": 0.6, "test": 0.4})
_QUESTIONS = ("how do i reset the router", "how do i reset my router", "what does it cost to ship abroad")
_OPTIONS = [Option(name="a", pros=["fast"]), Option(name="b")]


@st.composite
def histories(draw: st.DrawFn) -> list[AnyRecord]:
    """Calls of few conversations with few different texts, so that answers and questions come again; and what is said."""
    records: list[AnyRecord] = []
    for number in range(draw(st.integers(1, 8))):
        name = f"i{number}"
        messages = [says("user", draw(st.sampled_from(_QUESTIONS)))]
        for at in range(draw(st.integers(0, 2))):
            content = draw(st.sampled_from(["{}", "Error: no"]))
            messages += [calls("f", f'{{"n": {at}}}', f"c{at}"), result(f"c{at}", content, "f")]
        fields: dict[str, Any] = {
            "conversation_id": draw(st.sampled_from([None, "c1", "c2"])),
            "success": draw(st.sampled_from([None, True, False])),
            "response": draw(st.none() | st.builds(says, st.just("assistant"), st.sampled_from(["yes.", "no."]))),
            "retrieved_chunks": draw(
                st.sampled_from([[], ["a long text about some routers", "no such passage here at all"]])
            ),
        }
        records.append(interaction(name, messages, minutes=number, **fields))
        if draw(st.booleans()):
            records.append(validation(f"v{number}", name, passed=draw(st.booleans())))
        if draw(st.booleans()):
            kind = draw(st.sampled_from(["thumbs_up", "thumbs_down"]))
            records.append(
                feedback(f"f{number}", name, kind=kind, name="mark", score=draw(st.sampled_from([0.0, 1.0])))
            )
        if draw(st.booleans()):
            records.append(step(f"s{number}", name, actions=[Action(tool="f", parameters={"n": number})]))
            choice = draw(st.sampled_from(["a", "b", "c", None]))
            records.append(decision(f"d{number}", step_id=record_id(f"s{number}"), options=_OPTIONS, choice=choice))
            records.append(feedback(f"o{number}", kind="edit", step_id=record_id(f"d{number}"), correction="b"))
    return records


def built(records: list[AnyRecord], folder: str) -> Version:
    return build_version(list_store(records), RECIPE, Path(folder))


@settings(max_examples=30)
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_storing_leaves_no_trace(records: list[AnyRecord], order: random.Random) -> None:
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        one, other = built(records, here), built(order.sample(records, len(records)), there)
        assert one.verify() == other.verify() == []
        assert one.manifest_sha256 == other.manifest_sha256


@settings(max_examples=30)
@given(histories())
def test_every_source_was_read_and_says_so(records: list[AnyRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        version = built(records, folder)
        fates = {fate.id: fate for fate in version.fates()}
        assert fates.keys() == {record.id for record in records}
        for split in version.splits():
            for example in version.examples(split):
                assert example.sources == sorted(set(example.sources))
                for source in example.sources:
                    assert example.id in fates[source].examples
                    assert fates[source].split == split


@settings(max_examples=30)
@given(
    st.lists(
        strategies.interactions
        | strategies.feedback
        | strategies.validations
        | strategies.steps
        | strategies.decisions,
        unique_by=lambda record: record.id,
        max_size=8,
    )
)
def test_whatever_was_stored_can_be_built(records: list[AnyRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert built(records, folder).verify() == []
