"""The steps a recipe can name, and what identifies a step."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import pytest

from tests.dataset.support import calls, interaction, result, says
from tracemill.core.errors import RecipeError
from tracemill.core.records import Interaction
from tracemill.core.steps import KEEP, Change, Drop, Verdict
from tracemill.dataset.steps import (
    STEPS,
    Completed,
    InteractionStep,
    Kinds,
    MaximumBytes,
    MaximumMessages,
    MinimumMessages,
    Sample,
    Tagged,
    ValidQuery,
    WellFormed,
    WithoutFields,
    describe_step,
    import_step,
)

TALK = [says("user", "q"), says("assistant", "a")]


@pytest.mark.parametrize(
    ("step", "fields", "verdict"),
    [
        (MinimumMessages(count=2), {}, KEEP),
        (MinimumMessages(count=3), {}, Drop("too_few_messages")),
        (MinimumMessages(count=3), {"response": says("assistant", "b")}, KEEP),
        (MaximumMessages(count=2), {}, KEEP),
        (MaximumMessages(count=1), {}, Drop("too_many_messages")),
        (MaximumBytes(bytes=1000), {}, KEEP),
        (MaximumBytes(bytes=10), {}, Drop("too_large")),
        (Kinds(kinds=("agent",)), {"kind": "agent"}, KEEP),
        (Kinds(kinds=("agent",)), {"kind": "chat"}, Drop("other_kind")),
        (Tagged(any=("x",)), {"tags": ["x", "y"]}, KEEP),
        (Tagged(any=("x",)), {"tags": ["y"]}, Drop("not_tagged")),
        (Tagged(none=("x",)), {"tags": ["x"]}, Drop("tagged")),
        (Tagged(), {}, KEEP),
        (Completed(), {"completion_status": "successful"}, KEEP),
        (Completed(), {}, KEEP),
        (Completed(), {"completion_status": "interrupted"}, Drop("not_completed")),
        (Completed(), {"completion_status": "partial"}, Drop("not_completed")),
        (Completed(), {"truncated": True}, Drop("not_completed")),
        (Completed(), {"finish_reason": "length"}, Drop("not_completed")),
        (ValidQuery(), {"query_is_valid": False}, Drop("invalid_query")),
        (ValidQuery(), {}, KEEP),
        (WellFormed(), {}, KEEP),
        (WellFormed(), {"response": says("assistant", "")}, Drop("empty_message")),
        (WellFormed(), {"response": calls("f", "{}", "c1")}, KEEP),
        (WellFormed(), {"messages": [says("assistant", "Hello, I am Al."), *TALK]}, KEEP),
        (WellFormed(), {"messages": [calls("f", "{}", "c1"), *TALK]}, Drop("unanswered_call")),
        (WellFormed(), {"messages": [says("user", "q"), result("c1", "r")]}, Drop("orphan_result")),
        (Sample(fraction=0), {}, Drop("not_sampled")),
        (Sample(fraction=1), {}, KEEP),
        (WithoutFields(fields=("reasoning",)), {}, KEEP),
    ],
)
def test_steps(step: InteractionStep, fields: dict[str, Any], verdict: Verdict[Interaction]) -> None:
    messages = fields.get("messages", TALK)
    others = {key: value for key, value in fields.items() if key != "messages"}
    assert step(interaction("t", messages, **others)) == verdict


def test_a_sample_is_a_fraction_and_another_with_another_seed() -> None:
    subjects = [interaction(str(number), TALK) for number in range(1000)]
    drawn = {subject.id for subject in subjects if Sample(fraction=0.3)(subject) is KEEP}
    again = {subject.id for subject in subjects if Sample(fraction=0.3, seed=1)(subject) is KEEP}
    assert 250 < len(drawn) < 350
    assert drawn != again


def test_fields_are_removed_from_every_message() -> None:
    subject = interaction("t", [says("user", "q", extra=1)], response=says("assistant", "a", reasoning="r", extra=2))
    verdict = WithoutFields(fields=("reasoning", "extra"))(subject)
    assert isinstance(verdict, Change)
    assert verdict.value.messages == [says("user", "q")]
    assert verdict.value.response == says("assistant", "a")
    assert subject.messages == [says("user", "q", extra=1)]


def drop_all(interaction: Interaction) -> Verdict[Interaction]:
    return Drop("unwanted")


def drop_long(interaction: Interaction, limit: int = 3) -> Verdict[Interaction]:
    return Drop("long") if len(interaction.messages) > limit else KEEP


@dataclass(frozen=True)
class Longer:
    limit: int

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        return drop_long(interaction, self.limit)


def closing(limit: int) -> InteractionStep:
    return lambda interaction: drop_long(interaction, limit)


def test_a_named_step_is_its_name_and_arguments() -> None:
    assert describe_step(STEPS["minimum_messages"](count=3)) == {"step": "minimum_messages", "arguments": {"count": 3}}


def test_what_a_step_is_made_with_tells_it_apart() -> None:
    steps: list[InteractionStep] = [
        drop_all,
        drop_long,
        functools.partial(drop_long, limit=5),
        functools.partial(drop_long, limit=6),
        Longer(5),
        Longer(6),
        closing(5),
        closing(6),
    ]
    described = [describe_step(step) for step in steps]
    assert all(len(one["sha256"]) == 64 for one in described)
    assert all(one != other for at, one in enumerate(described) for other in described[:at])
    assert described == [describe_step(step) for step in steps]
    assert describe_step(closing(5)) == described[6]


def test_a_step_that_is_not_data_or_has_no_source_is_refused() -> None:
    with pytest.raises(RecipeError, match="not plain data"):
        describe_step(Longer(object()))  # type: ignore[arg-type]
    namespace: dict[str, Any] = {}
    exec("def nowhere(interaction): return None", namespace)
    with pytest.raises(RecipeError, match="has no source"):
        describe_step(namespace["nowhere"])


def test_a_step_of_one_s_own_is_imported_by_name() -> None:
    here = __name__
    subject = interaction("t", TALK)
    assert import_step(f"{here}:drop_all", {})(subject) == Drop("unwanted")
    assert import_step(f"{here}:drop_long", {"limit": 1})(subject) == Drop("long")
    assert import_step(f"{here}:Longer", {"limit": 2})(subject) is KEEP


@pytest.mark.parametrize("name", ["no_such_module:x", f"{__name__}:nothing", f"{__name__}:TALK", f"{__name__}:Longer"])
def test_what_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(RecipeError, match=name.split(":", maxsplit=1)[0]):
        import_step(name, {})
