"""The collector an application imports, over the embedded store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracemill
from tracemill import collector as module
from tracemill.capture.gepeto import read_tree
from tracemill.core.errors import SettingError
from tracemill.core.records import Interaction, Step
from tracemill.workspace import Workspace


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A process without a collector, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TRACEMILL_")] + ["GEPETO_DATA_PATH"]:
        monkeypatch.delenv(name, raising=False)
    yield
    if module._shared is not None:
        module._shared.close()


def test_what_is_captured_is_read_back(tmp_path: Path) -> None:
    with tracemill.DataCollector(tmp_path / "data", platform="support") as collector:
        identity = collector.log_conversation("hi", "hello", success=True, user_id="ada")
        collector.log_conversation("hm", "what?", platform="other", success=False)
        collector.log_user_feedback("thumbs_up", identity)
        (found,) = collector.get_training_data(platform="support", success=True)
        assert (found.id, found.platform) == (identity, "support")
        assert len(collector.get_training_data()) == 2
        assert len(collector.get_training_data(limit=1)) == 1
        assert collector.get_statistics().outcomes.interactions == 2
        health = collector.health()
        assert health.ok, health.checks
        assert health.success_rate == 1
        assert collector.counts().unaccounted == 0


def test_training_data_is_exported_as_openai_lines_and_its_readiness_said(tmp_path: Path) -> None:
    with tracemill.DataCollector(tmp_path / "data", platform="support") as collector:
        identity = collector.log_conversation("hi", "hello", success=True)
        collector.log_conversation("hm", "what?", success=False)
        collector.log_conversation("elsewhere", "yes", platform="other", success=True)
        collector.log_user_feedback("thumbs_up", identity)

        def asked(**options: bool) -> list[str]:
            rows = map(json.loads, collector.export_training_data("support", **options))
            return [row["messages"][0]["content"] for row in rows]

        assert asked() == asked(with_feedback_only=True) == ["hi"]
        assert asked(success_only=False) == ["hi", "hm"]
        found = collector.get_training_readiness("support")
        values = {gate.name: gate.value for gate in found.gates}
        assert (values["examples"], values["with_feedback"], found.is_ready) == (2, 1, False)
    with Workspace.open(tmp_path / "data") as workspace:
        downloads = [entry for entry in workspace.audit_log.entries() if entry.action == "training_data.download"]
    assert [entry.target for entry in downloads] == ["support"] * 3


def test_training_data_of_a_server_is_not_exported_here(tmp_path: Path) -> None:
    with (
        tracemill.DataCollector(tmp_path, endpoint="http://127.0.0.1:9", exit_timeout_seconds=0) as collector,
        pytest.raises(SettingError, match="records go to a server"),
    ):
        collector.export_training_data("support")


def test_one_collector_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEMILL_WORKSPACE", str(tmp_path / "shared"))
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(tracemill.get_data_collector())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in found}) == 1
    identity = tracemill.collect_interaction_data(
        chat_context_data={"events": ["hi"]}, prediction_result="hello", success=True
    )
    assert [record.id for record in tracemill.get_data_collector().get_training_data()] == [identity]
    tracemill.get_data_collector().close()
    assert tracemill.get_data_collector() is not found[0], "a closed one is not handed out"


def test_a_forked_child_captures_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEMILL_WORKSPACE", str(tmp_path / "forked"))
    collector = tracemill.get_data_collector()
    collector.log_conversation("parent", "x")
    child = os.fork()
    if child == 0:
        tracemill.get_data_collector().log_conversation("child", "x")
        os._exit(0 if tracemill.get_data_collector().deliver(20) else 1)
    assert os.waitpid(child, 0)[1] == 0
    asked = {record.messages[0]["content"] for record in collector.get_training_data()}
    assert asked == {"parent", "child"}


def test_a_setting_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingError, match="durability"):
        tracemill.DataCollector(durability="eternal")
    monkeypatch.setenv("TRACEMILL_QUEUE_MAX_RECORDS", "many")
    with pytest.raises(SettingError, match="QUEUE_MAX_RECORDS"):
        tracemill.get_data_collector()
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    collector = tracemill.get_data_collector()
    assert collector.log_conversation("hi", "hello") == ""
    assert tracemill.collect_interaction_data(prediction_result="x") == ""
    assert "QUEUE_MAX_RECORDS" in caplog.text


def test_the_gepeto_tree_is_written_beside_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEPETO_DATA_PATH", str(tmp_path / "gepeto"))
    trajectory = {"thought_0": "look", "tool_name_0": "search", "tool_args_0": {"q": 1}, "observation_0": "found"}
    with tracemill.DataCollector(tmp_path / "data") as collector:
        collector.collect_interaction_data(
            chat_context_data={"events": ["hi"], "session_id": "../s"},
            prediction_result={"trajectory": trajectory, "answer": "yes"},
        )
        with collector.interaction(session_id="t") as call, call.tool("send"):
            pass
        stored = {record.id: record for record in collector.get_training_data()}
    found = list(read_tree(tmp_path / "gepeto"))
    assert {record.id: record for record in found if isinstance(record, Interaction)} == stored
    assert sorted(step.name or "" for step in found if isinstance(step, Step)) == ["search", "send"]


def test_a_tree_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with tracemill.DataCollector(tmp_path / "data", gepeto_path=str(tmp_path / "file")) as collector:
        collector.log_conversation("hi", "hello")
        assert len(collector.get_training_data()) == 1


def test_public_names_are_sorted_and_there() -> None:
    assert tracemill.__all__ == sorted(tracemill.__all__)
    assert dir(tracemill) == tracemill.__all__
    for name in tracemill.__all__:
        assert getattr(tracemill, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tracemill.nothing


def test_an_import_loads_next_to_nothing() -> None:
    heavy = "asyncio sqlite3 sqlalchemy alembic yaml zstandard numpy pyarrow jinja2 rich typer tracemill.store"
    code = f"""
import sys
import tracemill
light = len([name for name in sys.modules if name.startswith("tracemill")])
tracemill.DataCollector
print(light, [name for name in {heavy.split()!r} if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "1 []"


def test_the_archive_is_at_hand_in_the_application(tmp_path: Path) -> None:
    with tracemill.DataCollector(tmp_path) as collector:
        first = collector.log_conversation("where?", "there", platform="support", success=True)
        second = collector.log_conversation("when?", "then", platform="support", success=False)
        collector.log_user_feedback("thumbs_up", first)
        assert collector.archive_old_data(0, dry_run=True).records == 3
        assert collector.archive_old_data(0).records == 3
        assert [record.id for record in collector.get_training_dataset("support")] == [first, second]
        assert [record.id for record in collector.get_training_dataset("support", True)] == [first]
        assert [record.id for record in collector.get_training_dataset(with_feedback=True)] == [first]
        assert collector.get_training_dataset(include_archived=False) == []
        assert len(collector.get_training_dataset(limit=1)) == 1
        found = collector.get_storage_stats()
        assert found["overview"]["archived_records"] == 3
        assert found["training_readiness"]["support"]["is_ready"] is False
