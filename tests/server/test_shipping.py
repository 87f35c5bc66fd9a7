"""The sidecar and the receiving side together: what one ships, the other has, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.privacy.world import settings_of
from tests.server.conftest import Serve, Served
from tests.server.test_feedback import conversation
from tracemill.capture.lightspeed.files import write_feedback, write_transcript
from tracemill.core.ids import new_id, now
from tracemill.core.pseudonym import load_pseudonymizer
from tracemill.core.records import Feedback, Interaction
from tracemill.sdk.client import Client


def ship(served: Served, *source: str) -> dict[str, Any]:
    """One cycle of the command in a process of its own, as a person runs it; its report."""
    command = [
        *(sys.executable, "-m", "tracemill", "ship", "--json", *source, "--collection-interval", "0"),
        *("--service-id", "lightspeed", "--quiet-seconds", "0"),
        *("--ingress-server-url", f"{served.url}/api/ingress/v1/upload"),
    ]
    environment = os.environ | {"INGRESS_SERVER_AUTH_TOKEN": served.key("ingest")}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    return report


def test_lightspeeds_files_are_shipped_and_stored_once(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    data = tmp_path / "data"
    user = load_pseudonymizer(tmp_path / "keys").user("ann")
    turns = [
        conversation(user=user, conversation_id=new_id(), messages=[{"role": "user", "content": f"question {number}"}])
        for number in range(5)
    ]
    for turn in turns:
        write_transcript(data / "transcripts", turn)
    said = Feedback(
        id=new_id(), time=now(), schema_version=1, producer="t", sequence=0, kind="thumbs_up", user=user,
        conversation_id=turns[0].conversation_id, user_question="question 0", llm_response="a",
    )  # fmt: skip
    write_feedback(data / "feedback", said)
    report = ship(served, "--data-dir", str(data))
    assert (report["packed"], report["uploaded"]) == (6, 1), report  # six files in one package
    stored = served.records("interaction")
    assert {record.messages[-1]["content"] for record in stored if isinstance(record, Interaction)} == {
        f"question {number}" for number in range(5)
    }
    assert len(served.records("feedback")) == 1
    assert list((data / "transcripts").rglob("*.json")) == []
    assert ship(served, "--data-dir", str(data))["uploaded"] == 0
    assert len(served.records()) == 6
    assert served.workspace.quarantined() == []


def test_a_spool_is_shipped_where_the_store_is_elsewhere(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    path = tmp_path / "application"
    client = Client(path, settings_of(path))
    sent = {client.capture(Interaction, {"platform": "support", "messages": [], "turn": turn}) for turn in range(20)}
    client.flush()
    client.close(0)
    ship(served, "--spool", "--workspace", str(path))
    assert {record.id for record in served.records("interaction")} == sent
    ship(served, "--spool", "--workspace", str(path))
    assert len(served.records()) == 20
