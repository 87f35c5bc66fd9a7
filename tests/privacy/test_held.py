"""Legal holds on a conversation that lies in the store under its own id and, redacted, under another."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tracemill.core.ids import new_id, now
from tracemill.core.records import Interaction, Step
from tracemill.core.settings import load_settings
from tracemill.workspace import Workspace

CONVERSATION = "jane.roe@example.com"


def opened(path: Path, **more: Any) -> Workspace:
    return Workspace.open(path, settings=load_settings({"workspace": str(path), **more}, environment={}))


def fields(days: int) -> dict[str, Any]:
    moment = now() - timedelta(days=days)
    return {"id": new_id(), "time": moment, "sequence": 0, "schema_version": 1, "producer": "p", "platform": "shop"}


def turn(days: int = 1) -> Interaction:
    return Interaction(
        **fields(days), conversation_id=CONVERSATION, messages=[{"role": "user", "content": "is it held?"}]
    )


@pytest.mark.parametrize("held_before", [False, True])
def test_a_hold_keeps_what_was_stored_before_redaction_and_after(tmp_path: Path, held_before: bool) -> None:
    before, after = turn(), turn()
    with opened(tmp_path) as workspace:
        workspace.store.append([before])
        if held_before:
            workspace.place_hold("conversation", CONVERSATION, reason="case 7")
    with opened(tmp_path, redaction="standard") as workspace:
        workspace.store.append([after])
        if not held_before:
            workspace.place_hold("conversation", CONVERSATION, reason="case 7")
        assert workspace.erase("conversation", CONVERSATION).status == "deferred"
        for identity in (before.id, after.id):
            assert workspace.erase("interaction", identity).status == "deferred"
        assert {record.id for record in workspace.records()} == {before.id, after.id}
        (hold,) = workspace.holds()
        workspace.release_hold(hold.id)
        workspace.maintain()
        assert list(workspace.records()) == []
        (hold,) = workspace.holds()
        assert hold.value.startswith("sha256:")


def test_retention_keeps_it_too(tmp_path: Path) -> None:
    old = turn(days=90)
    step = Step(**fields(days=90), interaction_id=old.id)
    with opened(tmp_path) as workspace:
        workspace.store.append([old, step])
    with opened(tmp_path, redaction="standard", retention={"*": {"store_days": 30}}) as workspace:
        workspace.place_hold("conversation", CONVERSATION, reason="case 7")
        assert workspace.maintain().held == 2
        assert {record.id for record in workspace.records()} == {old.id, step.id}
