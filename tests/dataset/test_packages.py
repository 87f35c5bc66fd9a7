"""The packages: each builds, its rows say what they are for, and what is counted beforehand is what a build gives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import (
    calls,
    decision,
    feedback,
    interaction,
    list_store,
    open_store,
    result,
    says,
    step,
    validation,
)
from tracemill.core.errors import RecipeError
from tracemill.core.examples import EXAMPLE_TYPES
from tracemill.core.records import AnyRecord, Interaction, Option, Outcome
from tracemill.core.steps import KEEP, Drop, Verdict
from tracemill.dataset.build import build_version
from tracemill.dataset.packages import ALIASES, PACKAGES, count_qualified, package_recipe
from tracemill.dataset.recipe import parse_recipe
from tracemill.dataset.rules import Domain, SeveralAgents
from tracemill.export.formats import FORMATS
from tracemill.feedback.attach import Attached

WORK = [
    says("user", "Book it."),
    calls("book", '{"pay": 250}', "c1"),
    result("c1", "Error: the price is 305"),
    calls("book", '{"pay": 305}', "c2"),
    result("c2", "{}"),
    says("assistant", "Booked."),
]
ASK = [says("user", "How do I reset my router password?")]


def trials(number: int, cost: float, milliseconds: float, score: float) -> list[AnyRecord]:
    name = f"trial {number}"
    answer = says("assistant", f"by way {number}")
    spent: dict[str, Any] = {
        "cost_usd": cost,
        "duration_ms": milliseconds,
        "success": True,
        "task_id": "t",
        "trial": number,
    }
    reward = feedback(f"reward {number}", name, kind="score", name="reward", score=score)
    return [interaction(name, [says("user", "Do it.")], response=answer, **spent), reward]


RECORDS: list[AnyRecord] = [
    interaction("work", WORK, success=True, scenario="Booking", tags=["domain:Travel"]),
    interaction("team", ASK, kind="agent"),
    step("s1", "team", agent="planner", reasoning="First find out what is needed because it is unclear."),
    step("s2", "team", index=1, agent="writer"),
    decision(
        "d",
        "team",
        context="Router prices",
        options=[Option(name="scrape", pros=["fresh"]), Option(name="cache")],
        choice="scrape",
        reasoning="Current prices are needed because the router prices change every day.",
        outcome=Outcome(success=True, quality=0.9),
    ),
    interaction("a", ASK, response=says("assistant", "Routers route."), conversation_id="c"),
    validation("v", "a", passed=False),
    interaction("b", ASK, response=says("assistant", "Press reset."), conversation_id="c", minutes=1),
    feedback("up", "b", kind="thumbs_up"),
    *trials(0, 0.1, 900.0, 0.0),
    *trials(1, 0.2, 300.0, 1.0),
]
EXPECTED: dict[str, dict[str, int]] = {
    "decision_making": {"action": 1},
    "tool_selection": {"action": 1},
    "error_handling": {"action": 1, "labelled": 1},
    "workflow_optimisation": {"preference": 1},
    "multi_agent_coordination": {"action": 1},
    "domain_specific": {"supervised": 1},
    "performance": {"preference": 1},
    "quality": {"labelled": 1, "preference": 2, "reward": 2},
    "user_interaction": {"labelled": 3, "preference": 1, "supervised": 3},
}


@pytest.mark.parametrize("name", PACKAGES)
def test_each_builds_and_its_rows_say_what_they_are_for(name: str, tmp_path: Path) -> None:
    store = open_store(tmp_path, RECORDS)
    recipe = package_recipe(name)
    version = build_version(store, recipe, tmp_path)
    assert version.verify() == []
    rows = list(version.examples())
    assert Counter(str(type(row).__struct_config__.tag) for row in rows) == EXPECTED[name]
    assert {row.training_type for row in rows} == {name}
    assert all(row.weight == row.confidence for row in rows)
    counted = count_qualified(store)[name]
    alone = [row for row in rows if not getattr(row, "pairs", None)]
    assert sum(counted.examples.values()) == len(alone)
    interactions = {record.id for record in RECORDS if isinstance(record, Interaction)}
    assert counted.interactions == len({source for row in alone for source in row.sources if source in interactions})
    assert parse_recipe({**recipe.plain(), "steps": [entry["step"] for entry in recipe.plain()["steps"]]}) == recipe
    store.close()


def test_a_row_says_how_its_interaction_went(tmp_path: Path) -> None:
    store = open_store(tmp_path, RECORDS)
    (row,) = build_version(store, package_recipe("domain_specific", domain="travel"), tmp_path).examples()
    assert (row.scenario, row.execution_successful, row.training_type) == ("Booking", True, "domain_specific")
    assert row.quality_score is not None
    (chosen,) = build_version(store, package_recipe("decision_making"), tmp_path).examples()
    assert (chosen.execution_successful, chosen.weight) == (True, 0.8)
    store.close()


def test_the_cheaper_and_the_quicker_are_not_the_same(tmp_path: Path) -> None:
    store = open_store(tmp_path, RECORDS)
    chosen: dict[str, Any] = {}
    for name in ("performance", "workflow_optimisation"):
        (row,) = build_version(store, package_recipe(name), tmp_path).examples()
        chosen[name] = getattr(row, "chosen")[0]["content"]  # noqa: B009 - of whichever kind the row is
    assert chosen == {"performance": "by way 0", "workflow_optimisation": "by way 1"}
    store.close()


def test_only_the_newest_are_counted_where_that_is_asked() -> None:
    store = list_store(RECORDS)
    counted = count_qualified(store, newest=len(RECORDS) - 1)
    assert counted["error_handling"].examples == {"labelled": 1}
    assert {count.looked_at for count in counted.values()} == {5}
    assert count_qualified(store, domain="travel")["user_interaction"].interactions == 1
    assert count_qualified(store)["domain_specific"].dropped == {"no_domain": 5}


def test_other_names_and_names_nobody_knows() -> None:
    for alias, name in ALIASES.items():
        assert package_recipe(alias) == package_recipe(name)
    assert package_recipe("quality", dataset="better").name == "better"
    with pytest.raises(RecipeError) as caught:
        package_recipe("tool_selecting")
    assert caught.value.hint == "Did you mean tool_selection?"


def test_the_formats_that_suit_a_package_take_what_it_holds() -> None:
    for name, package in PACKAGES.items():
        types = {str(FORMATS[format_].example.__struct_config__.tag) for format_ in package.formats}
        assert types <= EXAMPLE_TYPES.keys()
        assert types & EXPECTED[name].keys()


@pytest.mark.parametrize(
    ("fields", "names", "verdict"),
    [
        ({"tags": ["domain:Legal"]}, ("legal",), KEEP),
        ({"extra": {"domain": "legal"}}, ("legal", "health"), KEEP),
        ({"scenario": "Legal"}, ("legal",), KEEP),
        ({"platform": "legal"}, ("LEGAL",), KEEP),
        ({"tags": ["legal advice"]}, ("legal",), Drop("other_domain")),
        ({"tags": ["domain:x"]}, (), KEEP),
        ({"scenario": "Legal"}, (), Drop("no_domain")),
    ],
)
def test_domains(fields: dict[str, Any], names: tuple[str, ...], verdict: Verdict[Any]) -> None:
    assert Domain(names=names)(interaction("x", ASK, **fields)) == verdict


def test_agents_are_counted_by_steps_and_names() -> None:
    subject = interaction("x", [*ASK, says("assistant", "a", name="scout")])
    two = Attached(steps=(step("s1", agent="scout"), step("s2", agent="cook")))
    assert SeveralAgents()(subject) == Drop("too_few_agents")
    assert SeveralAgents().judge(subject, two) == KEEP
    assert SeveralAgents(count=3).judge(subject, two) == Drop("too_few_agents")
