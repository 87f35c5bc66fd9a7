"""An application of LiteLLM that logs to a generic endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import os

import litellm
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger


async def main() -> None:
    """Two calls, one of which fails."""
    litellm.callbacks = [GenericAPILogger()]
    base = os.environ["MODEL_URL"] + "/v1"
    await litellm.acompletion(
        model="openai/fake-model", api_base=base, api_key="none", messages=[{"role": "user", "content": "Say hello"}],
        temperature=0.5, user="ada", metadata={"session_id": "session-7", "tags": ["blue"]},
    )  # fmt: skip
    with contextlib.suppress(litellm.exceptions.APIError, litellm.exceptions.InternalServerError):
        await litellm.acompletion(
            model="openai/fake-model", api_base=base, api_key="none", max_retries=0,
            messages=[{"role": "user", "content": "error 500"}],
        )  # fmt: skip
    await asyncio.sleep(4)  # it sends once in DEFAULT_FLUSH_INTERVAL_SECONDS


asyncio.run(main())
