"""Statistics against the plainest way to count the same, on the sample and on the real trajectories."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import base, calls, feedback, interaction, open_store, record_id, result, says, user
from tracemill.core.messages import text, tool_calls
from tracemill.core.records import (
    Action,
    AnyRecord,
    Channel,
    Decision,
    Failure,
    Feedback,
    Interaction,
    Model,
    SessionEnd,
    Step,
    Validation,
)
from tracemill.drawing.measures import Distribution
from tracemill.insight.figures import Statistics
from tracemill.insight.statistics import collect_statistics
from tracemill.store.hot import HotStore


def of_type(records: list[AnyRecord], kind: type[Any]) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]


def same_distribution(found: Distribution, values: list[float]) -> None:
    assert found.count == len(values)
    assert found.exact
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.median == pytest.approx(statistics.median(values))
    assert found.p95 == pytest.approx(statistics.quantiles(values, n=20, method="inclusive")[-1])
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert sum(each.count for each in found.bins) == len(values)


# -- the sample


def test_totals_are_those_of_the_records(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    interactions = of_type(sample_records, Interaction)
    assert sample.outcomes.interactions == len(interactions) >= 60
    assert sum(sample.scope.records.values()) == len(sample_records) == sample.scope.bodies
    assert sample.outcomes.succeeded.successes == sum(1 for each in interactions if each.success is True)
    assert sample.outcomes.succeeded.total == sum(1 for each in interactions if each.success is not None)
    assert sample.outcomes.unknown == sum(1 for each in interactions if each.success is None)
    assert sample.outcomes.refused == sum(1 for each in interactions if (each.response or {}).get("refusal")) == 1
    assert sample.outcomes.truncated == 1
    assert sample.scope.raw_bytes > sample.scope.stored_bytes > 0


def test_platforms_and_models(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    interactions = of_type(sample_records, Interaction)
    for groups, names in (
        (sample.platforms, [each.platform for each in interactions]),
        (sample.models, [each.model.name for each in interactions]),
    ):
        assert Counter(names) == {group.name: group.interactions for group in groups}
        for group in groups:
            own = [each for each, name in zip(interactions, names, strict=True) if name == group.name]
            assert group.succeeded.successes == sum(1 for each in own if each.success)
            assert group.input_tokens == sum(each.input_tokens or 0 for each in own)
            assert group.output_tokens == sum(each.output_tokens or 0 for each in own)
            assert group.cost_usd == pytest.approx(sum(each.cost_usd or 0 for each in own))
            times = [each.duration_ms for each in own if each.duration_ms is not None]
            assert group.mean_ms == pytest.approx(statistics.fmean(times))
            assert group.median_ms == pytest.approx(statistics.median(times))
    assert {group.name for group in sample.platforms} == {"support-chat", "workflow-builder", "research-agent"}


def test_days(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    interactions = of_type(sample_records, Interaction)
    thumbs = Counter((each.time.date(), each.kind) for each in of_type(sample_records, Feedback))
    days = {day.day: day for day in sample.days}
    assert Counter(each.time.date() for each in interactions) == {
        day.day: day.interactions for day in sample.days if day.interactions
    }
    for day, found in days.items():
        own = [each for each in interactions if each.time.date() == day]
        assert found.succeeded == sum(1 for each in own if each.success is True)
        assert found.failed == sum(1 for each in own if each.success is False)
        assert found.unknown == sum(1 for each in own if each.success is None)
        assert (found.thumbs_up, found.thumbs_down) == (thumbs[day, "thumbs_up"], thumbs[day, "thumbs_down"])


def test_response_times_and_contexts(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    interactions = of_type(sample_records, Interaction)
    same_distribution(sample.chats.response_ms, [each.duration_ms for each in interactions])
    same_distribution(
        sample.chats.messages, [len(each.messages) + (each.response is not None) for each in interactions]
    )
    assert {share.name: share.count for share in sample.chats.kinds} == Counter(each.kind for each in interactions)
    assert sample.chats.users == len({each.user.pseudonym for each in interactions})
    assert sample.chats.conversations == len({each.conversation_id for each in interactions})
    by_channel = {each.name: each for each in sample.contexts["channel type"]}
    for name in ("web", "app"):
        own = [each for each in interactions if each.channel is not None and each.channel.type == name]
        assert by_channel[name].interactions == len(own)
        assert by_channel[name].succeeded.successes == sum(1 for each in own if each.success)
    arms = {each.name: each.interactions for each in sample.contexts["experiment"]}
    assert arms == Counter(f"prompt: {each.experiment.arm}" for each in interactions if each.experiment is not None)


def test_failures_by_cause(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    failed = [each for each in of_type(sample_records, Interaction) if each.success is False or each.error is not None]
    counted = {each.cause: each.count for each in sample.failures}
    assert sum(counted.values()) == len(failed)
    stated = Counter(each.error.type for each in failed if each.error is not None)
    assert {cause: count for cause, count in counted.items() if not cause.startswith("(")} == stated
    assert stated["ToolTimeout"] == 2
    timeouts = next(each for each in sample.failures if each.cause == "ToolTimeout")
    assert "did not answer" in timeouts.example
    assert sum(each.share for each in sample.failures) == pytest.approx(1)


def test_tools(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    actions = [action for step in of_type(sample_records, Step) for action in step.actions if action.type != "finish"]
    tools = {tool.tool: tool for tool in sample.tools}
    for name in {action.tool for action in actions}:
        own = [action for action in actions if action.tool == name]
        assert tools[name].ran == len(own)
        assert tools[name].failed == sum(1 for action in own if action.success is False)
        assert tools[name].succeeded.total == len(own)
        times = [action.duration_ms for action in own if action.duration_ms is not None]
        assert tools[name].mean_ms == pytest.approx(statistics.fmean(times))
    # Regenerations repeat the question and later turns repeat everything: each call counts once all the same.
    seen = {
        call.id: call.name
        for each in of_type(sample_records, Interaction)
        for message in each.messages
        for call in tool_calls(message)
    }
    # An interaction whose messages hold no call may say which tools it used.
    told = Counter(
        tool
        for each in of_type(sample_records, Interaction)
        if not any(True for message in each.messages for _ in tool_calls(message))
        for tool in each.tools_used
    )
    assert {name: tool.called for name, tool in tools.items() if tool.called} == Counter(seen.values()) + told
    assert [failure.name for failure in tools["track_parcel"].failures] == ["ToolTimeout"]
    assert {each.name for each in tools["load_table"].parameters} == {"document", "table"}


def test_trajectories_of_steps(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    steps = of_type(sample_records, Step)
    assert sample.trajectories.from_steps == len({step.interaction_id for step in steps})
    assert sample.trajectories.count > sample.trajectories.from_steps
    both = sum(1 for step in steps if step.reasoning and step.actions)
    assert sample.trajectories.both >= both > 0
    assert sample.trajectories.reasoning >= sum(1 for step in steps if step.reasoning)


def test_feedback(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    said = of_type(sample_records, Feedback)
    found = sample.feedback
    assert found.records == len(said)
    assert {share.name: share.count for share in found.kinds} == Counter(each.kind for each in said)
    assert found.interactions == len({each.interaction_id for each in said if each.interaction_id is not None})
    ratings = [each.rating for each in said if each.rating is not None]
    assert found.mean_rating == pytest.approx(statistics.fmean(ratings))
    assert {share.name: share.count for share in found.ratings} == Counter(str(rating) for rating in ratings)
    assert found.corrections == sum(1 for each in said if each.correction is not None)
    assert found.unlinked == sum(1 for each in said if each.interaction_id is None) == 1
    thumbs: dict[str, set[str]] = {}
    for each in said:
        if each.interaction_id and each.kind.startswith("thumbs"):
            thumbs.setdefault(each.interaction_id, set()).add(each.kind)
    assert found.contradicted == sum(1 for kinds in thumbs.values() if len(kinds) == 2) == 2
    rewards = next(scores for scores in found.scores if scores.name == "reward")
    values = [each.score for each in said if each.name == "reward"]
    assert (rewards.count, rewards.minimum, rewards.maximum) == (len(values), min(values), max(values))
    assert rewards.mean == pytest.approx(statistics.fmean(values))


def test_validations_decisions_and_sessions(sample: Statistics, sample_records: list[AnyRecord]) -> None:
    checks, decisions = of_type(sample_records, Validation), of_type(sample_records, Decision)
    assert sample.validations.passed.successes == sum(1 for check in checks if check.passed)
    assert sample.validations.edited.successes == sum(1 for check in checks if check.user_edited) == 4
    same_distribution(sample.validations.score, [check.score for check in checks if check.score is not None])
    assert {share.name for share in sample.validations.errors} == {
        "unknown_variable",
        "unknown_step",
        "missing_trigger",
    }
    assert sample.decisions.records == len(decisions) == 6
    assert sample.decisions.succeeded.successes == sum(1 for each in decisions if each.outcome.success)
    assert sample.decisions.confidence.mean == pytest.approx(statistics.fmean(each.confidence for each in decisions))
    chosen = [
        (option.estimated_cost_usd, each.outcome.actual_cost_usd)
        for each in decisions
        for option in each.options
        if option.name == each.choice and option.estimated_cost_usd is not None
    ]
    assert sample.decisions.estimated_cost_usd == pytest.approx(sum(estimated for estimated, _ in chosen))
    assert sample.decisions.actual_cost_usd == pytest.approx(sum(actual for _, actual in chosen))
    assert sample.sessions.records == len(of_type(sample_records, SessionEnd))


def test_one_platform_alone(sample_store: HotStore, sample_records: list[AnyRecord]) -> None:
    found = collect_statistics(sample_store, platform="workflow-builder")
    own = [each for each in of_type(sample_records, Interaction) if each.platform == "workflow-builder"]
    assert found.outcomes.interactions == len(own) == 20
    assert [group.name for group in found.platforms] == ["workflow-builder"]
    assert found.validations.records == len(of_type(sample_records, Validation))
    assert found.decisions.records == 0
    assert any("platform" in note for note in found.notes)
    assert collect_statistics(sample_store, platform="nobody").outcomes.interactions == 0


def test_sums_alone_and_the_newest_alone(sample_store: HotStore, sample: Statistics) -> None:
    sums = collect_statistics(sample_store, bodies=False)
    assert sums.outcomes.succeeded == sample.outcomes.succeeded
    assert sums.days == sample.days
    assert (sums.chats.response_ms.count, sums.scope.bodies) == (0, 0)
    assert sums.notes
    newest = collect_statistics(sample_store, newest=100)
    assert newest.scope.bodies == 100
    assert newest.outcomes.succeeded == sample.outcomes.succeeded
    assert any("newest 100" in note for note in newest.notes)


def test_progress_is_told(sample_store: HotStore, sample_records: list[AnyRecord]) -> None:
    told: list[tuple[str, int, int | None]] = []
    collect_statistics(sample_store, progress=lambda *given: told.append(given))
    assert told[-1][1:] == (len(sample_records), len(sample_records))


def test_json_holds_all_of_it(sample: Statistics) -> None:
    document = json.loads(sample.to_json())
    assert document["outcomes"]["interactions"] == sample.outcomes.interactions
    assert set(document) == set(sample.__struct_fields__)


# -- the real trajectories


def test_real_trajectories(real_store: HotStore) -> None:
    found = collect_statistics(real_store)
    interactions = of_type(list(real_store.scan()), Interaction)
    assert found.outcomes.interactions == len(interactions) == 200
    messages = [message for each in interactions for message in each.messages]
    counted = Counter(call.name for message in messages for call in tool_calls(message))
    assert {tool.tool: tool.called for tool in found.tools} == counted
    for name, characters in (("user", found.chats.user_characters), ("assistant", found.chats.assistant_characters)):
        lengths = [len(text(message)) for message in messages if message["role"] == name and text(message)]
        same_distribution(characters, [float(length) for length in lengths])
    steps = [sum(1 for message in each.messages if message["role"] == "assistant") for each in interactions]
    same_distribution(found.trajectories.length, [float(count) for count in steps])
    acting = sum(1 for message in messages if message["role"] == "assistant" and list(tool_calls(message)))
    assert found.trajectories.acting == acting
    assert found.feedback.interactions == 200
    assert found.feedback.coverage == 1
    with_details = [
        each
        for each in interactions
        if "get_user_details" in {call.name for message in each.messages for call in tool_calls(message)}
    ]
    tool = next(tool for tool in found.tools if tool.tool == "get_user_details")
    assert tool.trajectories.total == sum(1 for each in with_details if each.success is not None)
    assert tool.trajectories.successes == sum(1 for each in with_details if each.success)


def test_logged_call_by_call_the_same_work_is_counted_once(shared_data: Path, tmp_path: Path) -> None:
    from tests.dataset.support import tau_bench

    path = shared_data / "tau_bench_airline_gpt4o.json"
    whole = open_store(tmp_path, list(tau_bench(path))[:60])
    first = {record.conversation_id for record in whole.scan() if isinstance(record, Interaction)}
    (tmp_path / "calls").mkdir()
    expanded = [
        record
        for record in tau_bench(path, expand=True)
        if isinstance(record, Interaction) and record.conversation_id in first
    ]
    by_call = open_store(tmp_path / "calls", expanded)
    one, many = collect_statistics(whole), collect_statistics(by_call)
    assert many.outcomes.interactions > 5 * one.outcomes.interactions
    assert many.trajectories.count == one.trajectories.count
    assert many.trajectories.length == one.trajectories.length
    assert many.chats.assistant_characters == one.chats.assistant_characters
    assert [(each.tools, each.support) for each in many.patterns] == [
        (each.tools, each.support) for each in one.patterns
    ]
    whole.close()
    by_call.close()


# -- odd records


def test_an_empty_store(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    found = collect_statistics(store)
    assert found.outcomes.succeeded.value is None
    assert found.scope.first_day is None
    assert (found.days, found.tools, found.patterns, found.notes) == ([], [], [], [])
    store.close()


def test_hostile_values_are_counted_and_never_raise(tmp_path: Path) -> None:
    bad = "\ud800<script>\x00" + "x" * 5000
    records: list[AnyRecord] = [
        interaction(
            "odd",
            [
                says("user", "hi"),
                calls(bad, "{not json", "1"),
                result("1", "no", bad),
                {"role": 5, "content": {"a": 1}},
            ],
            response={"content": ["x", 3]},
            model=Model(name=bad),
            channel=Channel(type=bad),
            error=Failure(type=bad, message=bad),
            success=False,
            duration_ms=float("nan"),
            cost_usd=float("inf"),
            scenario="",
            intent=bad,
            user=user("u"),
        ),
        Step(
            **base("odd step"),
            interaction_id=record_id("odd"),
            actions=[Action(tool=bad, parameters=[1], duration_ms=-5.0, success=False, error=Failure())],
        ),
        Step(**base("lonely step"), actions=[Action(tool="a")]),
        feedback("odd feedback", "odd", kind="score", name=bad, score=float("nan"), categories=[bad, ""]),
        Decision(**base("odd decision"), confidence=float("inf"), choice=bad),
        Validation(**base("odd validation"), errors=[{}, None, 5, {"code": bad}, bad]),
    ]
    store = open_store(tmp_path, records)
    found = collect_statistics(store)
    assert found.outcomes.interactions == 1
    assert found.chats.response_ms.ignored == 1
    assert found.decisions.confidence.ignored == 1
    assert all(len(name) <= 200 for name in (found.failures[0].cause, found.contexts["intent"][0].name))
    json.loads(found.to_json())
    store.close()


def test_steps_may_come_before_their_interaction_and_late(tmp_path: Path) -> None:
    def step(name: str, tool: str, index: int) -> Step:
        return Step(
            **base(name, index),
            interaction_id=record_id("work"),
            index=index,
            actions=[Action(tool=tool, success=True)],
        )

    work = interaction("work", [says("user", "go"), says("assistant", "done")], success=True)
    store = open_store(tmp_path, [step("second", "b", 1), work, step("first", "a", 0)])
    found = collect_statistics(store)
    assert found.trajectories.count == 1
    assert [share.tool for share in found.tools] == ["a", "b"]
    again = interaction("again", [says("user", "go")], minutes=5, success=False)
    more = [
        msg_step
        for index, tool in enumerate(("a", "b"))
        for msg_step in [
            Step(
                **{**base(f"again {index}", 5), "time": base("x", 5)["time"] + timedelta(seconds=index)},
                interaction_id=record_id("again"),
                index=index,
                actions=[Action(tool=tool, duration_ms=50.0)],
            )
        ]
    ]
    store.append([again, *more])
    pattern = collect_statistics(store).patterns[0]
    assert (pattern.tools, pattern.support, pattern.occurrences) == (["a", "b"], 2, 2)
    assert (pattern.succeeded.successes, pattern.succeeded.total) == (1, 2)
    assert pattern.mean_ms == 100
    store.close()
