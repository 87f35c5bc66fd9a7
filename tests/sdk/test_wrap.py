"""The decorator leaves functions of every kind as they were, and keeps what went through them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.test_collector import PREDICTION, Harness


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.close()


def test_a_function_keeps_its_face_and_its_result(collector: Harness) -> None:
    @collector.trace(platform="support")
    def answer(question: str, *, loud: bool = False) -> str:
        """Answer a question."""
        return question.upper() if loud else question

    assert answer("hi", loud=True) == "HI"
    assert answer.__name__ == "answer"
    assert answer.__doc__ == "Answer a question."
    assert list(inspect.signature(answer).parameters) == ["question", "loud"]
    interaction = collector.one()
    assert interaction.messages == [{"role": "user", "content": "hi"}]
    assert interaction.response == {"role": "assistant", "content": "HI"}


def test_without_arguments_and_with_a_history(collector: Harness) -> None:
    history = [{"role": "user", "content": "hi"}]

    @collector.trace
    def answer(messages: list[Any]) -> dict[str, Any]:
        return {"role": "assistant", "content": "hello"}

    answer(history)
    interaction = collector.one()
    assert (interaction.messages, interaction.response) == (history, {"role": "assistant", "content": "hello"})


def test_a_react_result_becomes_steps(collector: Harness) -> None:
    @collector.trace
    def answer(question: str) -> dict[str, Any]:
        return PREDICTION

    assert answer("where?") is PREDICTION
    *steps, interaction = collector.records()
    assert len(steps) == 3
    assert interaction.response["content"] == "It arrives tomorrow."


def test_exceptions_pass_unchanged(collector: Harness) -> None:
    @collector.trace
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert collector.one().error.type == "KeyError"


def test_a_coroutine_and_its_cancellation(collector: Harness) -> None:
    @collector.trace
    async def answer(question: str) -> str:
        await asyncio.sleep(0 if question == "quick" else 30)
        return "done"

    async def main() -> None:
        assert inspect.iscoroutinefunction(answer)
        assert await answer("quick") == "done"
        task = asyncio.create_task(answer("slow"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    quick, slow = collector.records()
    assert (quick.completion_status, slow.completion_status) == ("successful", "interrupted")


def test_concurrent_calls_do_not_mix(collector: Harness) -> None:
    @collector.trace
    async def inner(name: str) -> str:
        await asyncio.sleep(0.001)
        return name

    async def outer(name: str) -> None:
        async with collector.interaction(intent=name):
            await inner(name)

    async def main() -> None:
        await asyncio.gather(*(outer(f"call {number}") for number in range(10)))

    asyncio.run(main())
    found = collector.records()
    outers = {record.id: record.intent for record in found if record.intent}
    inners = [record for record in found if not record.intent]
    assert len(outers) == len(inners) == 10
    assert all(outers[record.parent_id] == record.response["content"] for record in inners)


def test_a_generator_keeps_its_protocol(collector: Harness) -> None:
    closed: list[str] = []

    @collector.trace
    def stream(question: str) -> Generator[str, str | None, str]:
        try:
            got = yield "a"
            try:
                yield f"b{got}"
            except ValueError:
                yield "caught"
            return "end"
        finally:
            closed.append(question)

    running = stream("x")
    assert next(running) == "a"
    assert running.send("!") == "b!"
    assert running.throw(ValueError()) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == "end"
    early = stream("y")
    next(early)
    early.close()
    assert closed == ["x", "y"]
    whole, cut = collector.records()
    assert whole.response["content"] == "ab!caught"
    assert (whole.completion_status, cut.completion_status) == ("successful", "interrupted")


def test_an_async_generator_keeps_its_protocol(collector: Harness) -> None:
    closed: list[str] = []

    @collector.trace
    async def stream(question: str) -> AsyncGenerator[str, str | None]:
        try:
            got = yield "a"
            try:
                yield f"b{got}"
            except ValueError:
                yield "caught"
        finally:
            closed.append(question)

    async def main() -> None:
        running = stream("x")
        assert await running.__anext__() == "a"
        assert await running.asend("!") == "b!"
        assert await running.athrow(ValueError()) == "caught"
        assert [item async for item in running] == []
        early = stream("y")
        await early.__anext__()
        await early.aclose()

    asyncio.run(main())
    assert closed == ["x", "y"]
    whole, cut = collector.records()
    assert whole.response["content"] == "ab!caught"
    assert (whole.completion_status, cut.completion_status) == ("successful", "interrupted")
