"""schemathesis against the server's own description: whatever it sends, no error is unhandled, and all have one shape."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok

from tests.server.conftest import Serve

EXAMPLES = 25
SHAPE = {"type", "message", "hint", "param", "code", "request_id"}


@pytest.mark.timeout(600)
def test_nothing_the_description_allows_is_unhandled(serve: Serve) -> None:
    served = serve(request_timeout_seconds=5)
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json", timeout=30)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) >= 8
    for operation in operations:
        _try(operation)
    # It is still there, and took nothing that cannot be read again.
    assert served.client().get("/readyz").status_code == 200
    assert served.workspace.store.verify() == []


def _try(operation: Any) -> None:
    @given(case=operation.as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def send(case: Any) -> None:
        reply = case.call(timeout=30)
        where = f"{operation.method} {operation.path} answered {reply.status_code}: {reply.content[:500]!r}"
        assert reply.status_code != 500, where
        if reply.status_code >= 400 and reply.status_code != 404:
            assert _shape(reply) == SHAPE, where

    send()


def _shape(reply: Any) -> set[str]:
    body = reply.json()
    return set(body["error"]) if isinstance(body, dict) and isinstance(body.get("error"), dict) else set()
