"""Calls, steps and tools inside one another; what the wrapped application sees of them (nothing)."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.test_collector import Harness
from tracemill.core.ids import new_id
from tracemill.core.records import Interaction, Step


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.close()


def split(records: list[Any]) -> tuple[list[Interaction], list[Step]]:
    return [r for r in records if isinstance(r, Interaction)], [r for r in records if isinstance(r, Step)]


def test_steps_and_tools_nest(collector: Harness) -> None:
    with collector.interaction() as call:
        with call.step("plan", agent="planner", budget=3) as plan:
            plan.set(reasoning="first the depot")
            with call.tool("search", {"q": 1}, call_id="c1") as tool:
                assert tool.give("found") == "found"
            with call.step("refine") as refine, refine.tool("rank") as rank:
                rank.fail("nothing to rank")
        with call.tool("send", mapping={"tool": "smtp"}):
            pass
    (interaction,), steps = split(collector.records())
    by_name = {step.name: step for step in steps}
    assert [by_name[name].index for name in ("plan", "refine", "send")] == [0, 1, 2]
    assert by_name["refine"].parent_id == by_name["plan"].id
    assert by_name["send"].parent_id is None
    search = by_name["plan"].actions[0]
    assert (search.tool, search.parameters, search.result, search.call_id, search.success) == (
        "search",
        {"q": 1},
        "found",
        "c1",
        True,
    )
    assert by_name["plan"].extra == {"budget": 3}
    ranked = by_name["refine"].actions[0]
    assert (ranked.success, ranked.error.message if ranked.error else None) == (False, "nothing to rank")
    assert by_name["refine"].success is True, "the tool failed, and the step went on"
    assert by_name["send"].actions[0].mapping == {"tool": "smtp"}
    assert (interaction.tools_used, interaction.tool_call_count) == (["search", "rank", "send"], 3)


def test_steps_are_captured_when_they_end_and_not_with_their_call(collector: Harness) -> None:
    with collector.interaction() as call:
        with call.step("first"):
            pass
        (step,) = collector.records()
        assert (step.name, step.interaction_id) == ("first", call.interaction_id)


def test_a_nested_call_belongs_to_the_same_session(collector: Harness) -> None:
    with (
        collector.interaction(platform="support", session_id="s", user_id="ada", trace_id="t") as outer,
        outer.step("ask"),
        collector.interaction(kind="query", session_id="own") as inner,
    ):
        pass
    found = {record.id: record for record in split(collector.records())[0]}
    nested, around = found[inner.interaction_id], found[outer.interaction_id]
    assert (nested.parent_id, nested.platform, nested.trace_id) == (around.id, "support", "t")
    assert (nested.user, nested.session_id) == (around.user, "own")


def test_an_id_of_the_application_is_used_or_kept(collector: Harness) -> None:
    own = new_id()
    with collector.interaction(id=own), collector.interaction(id="request-7") as call, call.step("a"):
        pass
    (inner, outer), (step,) = split(collector.records())
    assert (outer.id, inner.id) == (own, call.interaction_id)
    assert (inner.extra["id"], step.interaction_id) == ("request-7", inner.id)


def test_a_failure_that_is_not_raised(collector: Harness) -> None:
    with collector.interaction() as call:
        call.fail({"code": "refused", "message": "no"})
    with collector.interaction(success=False):
        pass
    refused, false = collector.records()
    assert (refused.success, refused.completion_status, refused.error.type) == (False, "failed", "refused")
    assert (false.success, false.completion_status) == (False, "failed")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2), GeneratorExit(), asyncio.CancelledError()])
def test_an_interruption_is_neither_a_success_nor_a_failure(collector: Harness, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, collector.interaction() as call, call.tool("search"):
        raise error
    assert caught.value is error
    (interaction,), (step,) = split(collector.records())
    assert (interaction.completion_status, interaction.success) == ("interrupted", None)
    assert (step.success, step.actions[0].success) == (None, None)


def test_what_is_said_of_a_call(collector: Harness) -> None:
    class Usage:
        def model_dump(self) -> dict[str, Any]:
            return {"prompt_tokens": 3, "completion_tokens": 2, "cached": 1}

    with collector.interaction(messages=["hi"], tags="a", mood="calm") as call:
        call.messages([{"user_id": "ada@example.com", "text": "and"}])
        assert call.response({"choices": [{"message": {"role": "assistant", "content": "yes"}}]})
        call.usage(Usage(), cost_usd=0.5)
        call.set(intent="ask", extra={"deep": True})
    (interaction,) = collector.records()
    assert [message["content"] for message in interaction.messages] == ["hi", "and"]
    assert "ada@example.com" not in str(interaction)
    assert interaction.response == {"role": "assistant", "content": "yes"}
    assert (interaction.input_tokens, interaction.output_tokens, interaction.cost_usd) == (3, 2, 0.5)
    assert (interaction.usage["cached"], interaction.intent, interaction.tags) == (1, "ask", ["a"])
    assert (interaction.extra["mood"], interaction.extra["deep"], interaction.extra["events"][0]["index"]) == (
        "calm",
        True,
        1,
    )


def test_threads_do_not_see_each_others_calls(collector: Harness) -> None:
    def work(name: str) -> None:
        with collector.interaction(intent=name) as call, call.step(name):
            barrier.wait()
            assert collector.current_call() is call

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work, args=(f"call {number}",)) for number in range(4)]
    with collector.interaction():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    interactions, steps = split(collector.records())
    assert all(record.parent_id is None for record in interactions)
    names = {record.id: record.intent for record in interactions}
    assert all(names[step.interaction_id or ""] == step.name for step in steps)


def test_a_generator_is_current_only_while_it_runs(collector: Harness) -> None:
    @collector.trace(intent="stream")
    def stream() -> Generator[str, None, None]:
        assert collector.current_call() is not None
        yield "a"
        with collector.interaction(intent="inside"):
            yield "b"

    running = stream()
    next(running)
    assert collector.current_call() is None
    with collector.interaction(intent="outside"):
        pass
    assert list(running) == ["b"]
    found = {record.intent: record for record in collector.records()}
    assert found["outside"].parent_id is None
    assert found["inside"].parent_id == found["stream"].id


def test_an_async_generator_is_closed_in_another_context(collector: Harness) -> None:
    @collector.trace
    async def stream() -> AsyncGenerator[int, None]:
        with collector.interaction(intent="inside"):
            yield 1
            yield 2

    async def main() -> None:
        running = stream()
        await running.__anext__()
        await asyncio.create_task(running.aclose(), context=contextvars.copy_context())
        assert collector.current_call() is None

    asyncio.run(main())
    assert {record.completion_status for record in collector.records()} == {"interrupted"}


def test_methods_of_every_kind(collector: Harness) -> None:
    class Agent:
        @collector.trace
        def answer(self, question: str) -> str:
            return question

        @collector.trace
        @classmethod
        def make(cls, prompt: str) -> str:
            return cls.__name__ + prompt

        @collector.trace
        @staticmethod
        async def later(query: str) -> str:
            return query

        @collector.trace
        async def __call__(self, text: str) -> str:
            return text

    agent = Agent()
    assert agent.answer("a") == "a"
    assert Agent.make("b") == "Agentb"
    assert asyncio.run(agent.later("c")) == "c"
    assert asyncio.run(agent("d")) == "d"
    wrapped = collector.trace(Agent())
    assert inspect.iscoroutinefunction(wrapped)
    asked = [record.messages[0]["content"] for record in collector.records()]
    assert asked == ["a", "b", "c", "d"]


def test_arguments_are_kept_only_when_asked_for(collector: Harness) -> None:
    def login(password: str, question: str, **options: Any) -> dict[str, int]:
        return {"made": 1}

    collector.trace(login)("secret", "who?", depth=2)
    collector.trace(capture_arguments=True)(login)("open", "who?", depth=2)
    first, second = collector.records()
    assert "secret" not in str(first)
    assert first.messages == [{"role": "user", "content": "who?"}]
    assert first.artifact == {"made": 1}
    assert first.extra["function"].endswith("login")
    assert second.extra["arguments"] == {"password": "open", "question": "who?", "depth": 2}


def test_what_cannot_be_decorated_says_so(collector: Harness) -> None:
    for wrong in (int, 5):
        with pytest.raises(TypeError, match="decorates functions"):
            collector.trace(wrong)  # type: ignore[type-var]


def test_a_wrong_call_is_the_functions_own_error(collector: Harness) -> None:
    @collector.trace
    def answer(question: str) -> str:
        return question

    with pytest.raises(TypeError, match="answer"):
        answer()  # type: ignore[call-arg]
    assert collector.one().error.type == "TypeError"


def test_with_capture_off_everything_still_works(tmp_path: Path) -> None:
    collector = Harness(tmp_path / "off", enabled=False)

    @collector.trace
    def stream() -> Generator[str, None, None]:
        yield "a"

    with collector.interaction() as call, call.step("x") as step, step.tool("y") as tool:
        tool.result = 1
        assert call.response("r") == "r"
        call.usage(1)
    assert list(stream()) == ["a"]
    assert collector.log_conversation("a", "b") == ""
    collector.close()
    assert not (tmp_path / "off").exists()


def test_the_application_never_sees_an_error_of_ours(tmp_path: Path) -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("do not touch me")

        def __len__(self) -> int:
            raise RuntimeError("do not count me")

    collector = Harness(tmp_path, raise_errors="never")
    odd: Any = Hostile()

    @collector.trace
    def answer(messages: Any) -> Any:
        return odd

    @collector.trace
    def stream(question: Any) -> Iterator[Any]:
        yield odd

    with collector.interaction(messages=odd, user=odd, error=odd, extra=odd) as call:
        call.message(odd)
        call.response(odd)
        call.usage(odd, odd, odd, odd=odd)
        call.set(messages=odd, response=odd, extra=odd)
        call.fail(odd)
        with call.step(odd, time=odd, actions=odd, parent_id=odd) as step:
            step.action(tool=odd, type=odd)
            step.fail(odd)
            with step.tool(odd, odd) as tool:
                tool.fail(odd)
    assert answer(odd) is odd
    assert next(iter(stream(odd))) is odd
    logs: tuple[Callable[[], str], ...] = (
        lambda: collector.collect_interaction_data(chat_context_data=odd, prediction_result=odd, error=odd),
        lambda: collector.collect_interaction_data(chat_context_data={"events": odd, "chat_id": odd, "user_id": odd}),
        lambda: collector.log_conversation(odd, odd, messages=odd, workflow_json=odd, model_name=odd),
        lambda: collector.log_workflow_validation(odd, odd, odd, odd, odd, odd, odd, odd),
        lambda: collector.log_user_feedback(odd, odd, rating=odd, sentiment=odd, categories=odd),
        lambda: collector.log_decision(decision_trace=odd, options=[odd], outcome=odd),
        lambda: collector.log_execution_trace(odd),
        lambda: collector.log_step(actions=[odd], start_time=odd),
        lambda: collector.log_session_end(odd),
        lambda: collector.log_consent(odd, odd, odd),
    )
    for log in logs:
        assert isinstance(log(), str)
    assert collector.deliver(20)
    assert collector.counts().unaccounted == 0
    collector.close()
