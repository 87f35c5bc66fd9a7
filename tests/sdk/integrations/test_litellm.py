"""LiteLLM's own package with our logger, against a local model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake_model import FakeModel
from tests.sdk.integrations.conftest import Kept

pytestmark = pytest.mark.filterwarnings("ignore")  # the package's own


@pytest.fixture
def litellm(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    from tracemill.sdk.integrations.litellm import TracemillLogger

    litellm.callbacks = [TracemillLogger(kept.collector)]
    yield litellm
    litellm.callbacks = []


def wait_for(kept: Kept, number: int) -> list[Any]:
    """LiteLLM reports in threads and tasks of its own."""
    ends = time.monotonic() + 10
    while kept.collector.counts().captured < number and time.monotonic() < ends:
        time.sleep(0.05)
    time.sleep(0.3)  # a second report of the same call would come now
    return kept.interactions()


def test_a_call_and_an_error(litellm: Any, fake_model: FakeModel, kept: Kept) -> None:
    common = {"model": "openai/fake-model", "api_base": f"{fake_model.url}/v1", "api_key": "none", "max_retries": 0}
    answer = litellm.completion(
        **common, messages=[{"role": "user", "content": "Say hello"}], temperature=0.5, user="ada",
        metadata={"session_id": "s7", "tags": ["blue"]},
    )  # fmt: skip
    assert answer.choices[0].message.content == "You said: Say hello"
    with pytest.raises(litellm.InternalServerError):
        litellm.completion(**common, messages=[{"role": "user", "content": "error 500"}])
    good, bad = wait_for(kept, 2)
    assert good.messages == [{"role": "user", "content": "Say hello"}]
    assert good.response["content"] == "You said: Say hello"
    assert (good.input_tokens, good.output_tokens, good.session_id, good.tags) == (11, 5, "s7", ["blue"])
    assert good.model_requested.configuration["temperature"] == 0.5
    assert good.user is not None
    assert (bad.success, bad.error.type) == (False, "InternalServerError")


def test_async_calls_and_streams_are_recorded_once(litellm: Any, fake_model: FakeModel, kept: Kept) -> None:
    common = {"model": "openai/fake-model", "api_base": f"{fake_model.url}/v1", "api_key": "none"}

    async def converse() -> None:
        await litellm.acompletion(**common, messages=[{"role": "user", "content": "one"}])
        stream = await litellm.acompletion(**common, messages=[{"role": "user", "content": "two"}], stream=True)
        assert len([chunk async for chunk in stream]) > 3
        await asyncio.sleep(1)

    asyncio.run(converse())
    found = wait_for(kept, 2)
    assert sorted(record.response["content"] for record in found) == ["You said: one", "You said: two"]
