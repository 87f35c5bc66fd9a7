"""The sample holds what the demo is to show, and nothing that could belong to a real person."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC
from importlib.resources import files

from tracemill.core.messages import problems, trajectory
from tracemill.core.records import AnyRecord, Decision, Feedback, Interaction, Step, Validation
from tracemill.demo.sample import FILES, Attempt, Ending, read_sample


def attempts() -> list[Attempt]:
    return [event for event in read_sample() if isinstance(event, Attempt)]


def test_it_is_varied() -> None:
    found = attempts()
    assert len(found) >= 60
    assert Counter(each.platform for each in found).keys() == {"support-chat", "workflow-builder", "research-agent"}
    assert min(Counter(each.platform for each in found).values()) >= 15
    assert len({each.conversation["user"] for each in found}) >= 25
    assert len({each.model for each in found}) >= 4
    lengths = [len(json.dumps(each.messages)) for each in found]
    assert max(lengths) > 8 * min(lengths)
    answers = [each.response["content"] for each in found if each.response and each.response["content"]]
    assert len(answers) == len(set(answers))
    assert any(isinstance(event, Ending) for event in read_sample())


def test_conversations_are_well_formed() -> None:
    for each in attempts():
        messages = [*each.messages, *([each.response] if each.response else [])]
        assert problems(messages) == [], each.name
        assert each.time.tzinfo is not None
        assert each.time.astimezone(UTC).year == 2026


def test_addresses_are_of_example_domains_and_nobody_has_a_phone() -> None:
    for name in FILES:
        text = (files("tracemill.demo") / "sample" / name).read_text(encoding="utf-8")
        assert set(re.findall(r"@([\w.-]+\.\w+)", text)) <= {"example.com"}
        hosts = set(re.findall(r"https?://([\w.-]+)", text))
        assert all(host.endswith(("example.com", "example.org")) for host in hosts)
        assert not re.search(r"\+\d{6,}", text)


def test_everything_it_was_written_for_arrives(sample_records: list[AnyRecord]) -> None:
    interactions = [record for record in sample_records if isinstance(record, Interaction)]
    feedback = [record for record in sample_records if isinstance(record, Feedback)]
    by_id = {record.id: record for record in interactions}
    kinds = {record.kind for record in feedback}
    assert kinds == {"thumbs_up", "thumbs_down", "rating", "edit", "report", "comment", "score"}
    assert {record.annotator_kind for record in feedback} == {"HUMAN", "CODE", "LLM"}
    assert any(record.time < by_id[record.interaction_id].time for record in feedback if record.interaction_id) or any(
        sample_records.index(record) < sample_records.index(by_id[record.interaction_id])
        for record in feedback
        if record.interaction_id
    )
    assert any(record.interaction_id is None and record.user_question for record in feedback)
    assert any(record.truncated for record in interactions)
    assert any((record.response or {}).get("refusal") for record in interactions)
    assert any(record.query_is_valid is False for record in interactions)
    assert {record.completion_status for record in interactions} >= {"successful", "failed", "partial", "interrupted"}
    assert {record.execution_mode for record in interactions} >= {"simulation", "optimisation"}
    assert any(record.experiment for record in interactions)
    assert any(record.retrieved_chunks for record in interactions)
    assert any(record.attachments for record in interactions)
    assert all(record.user and record.user.raw_id is None for record in interactions)
    assert not any(record.extra for record in interactions if record.kind == "chat")
    validations = [record for record in sample_records if isinstance(record, Validation)]
    assert any(record.difference and record.difference.added for record in validations)
    decisions = [record for record in sample_records if isinstance(record, Decision)]
    assert any(option.estimated_cost_usd for record in decisions for option in record.options)
    steps = [record for record in sample_records if isinstance(record, Step)]
    assert {step.agent for step in steps} >= {"planner", "researcher", "writer"}
    assert any(step.kind == "react" for step in steps)
    assert any(step.success is False for step in steps)
    trials = Counter(record.task_id for record in interactions if record.task_id)
    assert max(trials.values()) >= 3
    assert all(len(trajectory(record)) > 1 for record in interactions)
