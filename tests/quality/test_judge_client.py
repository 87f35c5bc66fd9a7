"""Calls of the judge over real HTTP: retries, pace, budget, keys, and servers that know no JSON schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake_model import FakeModel
from tracemill.core.errors import SettingError, TargetError
from tracemill.core.settings import Settings
from tracemill.quality.judge import answer_text
from tracemill.quality.judge_client import ATTEMPTS, BudgetSpentError, JudgeClient, Pace

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}}


def client(model: FakeModel, **pace: Any) -> tuple[JudgeClient, list[float]]:
    waits: list[float] = []
    settings = Settings(judge_url=f"{model.url}/v1", judge_model="judge-1", judge_key="k-1", judge_timeout_seconds=5)
    return JudgeClient(settings, Pace(sleep=waits.append, **pace)), waits


def replies(*given: str | int) -> Iterator[str | int]:
    yield from given


def test_a_question_and_its_answer(fake_model: FakeModel) -> None:
    fake_model.reply = lambda _: '{"better": "A"}'
    judge, _ = client(fake_model)
    reply, unknown = judge.ask(BODY)
    assert (answer_text(reply), unknown) == (('{"better": "A"}', ""), "")
    (seen,) = fake_model.requests
    assert seen["path"] == "/v1/chat/completions"
    assert seen["headers"]["authorization"] == "Bearer k-1"
    assert seen["headers"]["host"] == fake_model.url.removeprefix("http://")
    assert seen["body"] == {"model": "judge-1", **BODY}


def test_what_may_pass_is_tried_again(fake_model: FakeModel) -> None:
    given = replies(500, 429, "fine")
    fake_model.reply = lambda _: next(given)
    judge, waits = client(fake_model)
    reply, unknown = judge.ask(BODY)
    assert (answer_text(reply)[0], unknown, judge.pace.calls) == ("fine", "", 3)
    assert waits == [1.0, 7.0]  # our own pause, then the server's Retry-After
    fake_model.reply = lambda _: 503
    assert judge.ask(BODY) == (None, "http_503")
    assert judge.pace.calls == 3 + ATTEMPTS


def test_a_server_without_schemas_is_asked_without(fake_model: FakeModel) -> None:
    fake_model.reply = lambda body: 400 if "response_format" in body else "fine"
    judge, _ = client(fake_model)
    assert answer_text(judge.ask(BODY)[0])[0] == "fine"
    judge.ask(BODY)
    assert ["response_format" in seen["body"] for seen in fake_model.requests] == [True, False, False]
    fake_model.reply = lambda _: 400
    assert judge.ask(BODY) == (None, "http_400")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_ends_it(fake_model: FakeModel, status: int) -> None:
    fake_model.reply = lambda _: status
    with pytest.raises(SettingError, match=str(status)) as raised:
        client(fake_model)[0].ask(BODY)
    assert "k-1" not in str(raised.value)


def test_nobody_there() -> None:
    with FakeModel() as model:
        judge, _ = client(model)
    assert judge.ask(BODY) == (None, "unreachable")


def test_the_budget_counts_every_call(fake_model: FakeModel) -> None:
    fake_model.reply = lambda _: 500
    judge, _ = client(fake_model, most=2)
    with pytest.raises(BudgetSpentError):
        judge.ask(BODY)
    assert len(fake_model.requests) == judge.pace.calls == 2


def test_the_pace_spaces_calls(fake_model: FakeModel) -> None:
    fake_model.reply = lambda _: "fine"
    judge, waits = client(fake_model, per_minute=60)
    for _ in range(3):
        judge.ask(BODY)
    assert len(waits) == 2
    assert 0.5 < waits[0] <= 1.0
    assert 1.0 < waits[1] <= 2.0


@pytest.mark.parametrize(
    "url", ["http://judge.example/v1", "https://169.254.169.254/v1", "https://a:b@example.com/v1", "ftp://x", "nothing"]
)
def test_addresses_nothing_is_sent_to(url: str) -> None:
    with pytest.raises(TargetError):
        JudgeClient(Settings(judge_url=url, judge_model="m"), Pace())


def test_no_judge_is_set_up() -> None:
    with pytest.raises(SettingError, match="judge_url"):
        JudgeClient(Settings(), Pace())
