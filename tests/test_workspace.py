"""The whole way through the composition root: capture, import, store, dataset, export, files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tracemill import DataCollector, Workspace
from tracemill.capture.gepeto import read_tree
from tracemill.core.errors import DatasetError, SettingError
from tracemill.core.records import Interaction
from tracemill.store.base import Filter


def captured(path: Path, **settings: object) -> list[str]:
    """Capture a few interactions with feedback through the embedded collector; give the ids of the interactions."""
    with DataCollector(path, **settings) as collector:
        ids = [
            collector.log_conversation(f"question {n}", f"answer {n}", platform="a" if n % 2 else "b", success=n != 3)
            for n in range(6)
        ]
        collector.log_user_feedback("thumbs_up", ids[0])
        collector.log_user_feedback("thumbs_down", ids[1])
        assert collector.deliver(30)
        assert collector.counts().unaccounted == 0
    return ids


def test_what_is_captured_can_be_read_built_and_exported(tmp_path: Path) -> None:
    ids = captured(tmp_path / "w")
    with Workspace.open(tmp_path / "w") as workspace:
        assert [record.id for record in workspace.training_data()] == ids
        assert [record.id for record in workspace.training_data(platform="a", success=True)] == [ids[1], ids[5]]
        assert [record.id for record in workspace.training_data(with_feedback=True)] == ids[:2]
        assert [record.id for record in workspace.training_data(with_feedback=False, limit=2)] == ids[2:4]
        built = workspace.build_dataset()
        assert built.new
        assert not workspace.build_dataset().new
        assert [version.reference for version in workspace.datasets()] == ["default@v1"]
        report = workspace.export("default", "trl-kto")
        assert report.rows == 2
        with pytest.raises(DatasetError):
            workspace.dataset("nothing")
        health = workspace.doctor()
        assert health.ok, [check for check in health.checks if not check.ok]
        assert (health.collection.stored, health.success_rate) == (8, 1.0)


def test_statistics_and_training_data_through_the_collector(tmp_path: Path) -> None:
    with DataCollector(tmp_path / "w") as collector:
        collector.log_conversation("question", "answer", success=True)
        assert [record.messages for record in collector.get_training_data()] == [
            [{"role": "user", "content": "question"}]
        ]
        assert collector.get_statistics() is not None


def test_delivered_records_are_also_written_as_a_gepeto_tree(tmp_path: Path) -> None:
    ids = captured(tmp_path / "w", gepeto_path=str(tmp_path / "tree"))
    found = {record.id for record in read_tree(tmp_path / "tree") if isinstance(record, Interaction)}
    assert found == set(ids)
    with Workspace.open(tmp_path / "w") as workspace:
        assert workspace.write_gepeto(tmp_path / "again", platform="a") == 3


def test_what_a_killed_process_left_is_drained(tmp_path: Path) -> None:
    with DataCollector(tmp_path / "w", exit_timeout_seconds=0, delivery_interval_ms=60_000) as collector:
        collector._open_delivery = lambda: (_ for _ in ()).throw(RuntimeError("no store"))  # type: ignore[method-assign]
        collector.client._open_delivery = None
        identity = collector.log_conversation("question", "answer")
    with Workspace.open(tmp_path / "w") as workspace:
        workspace.drain()
        assert [record.id for record in workspace.records(Filter(types=("interaction",)))] == [identity]


def test_a_folder_that_cannot_be_made_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingError, match="cannot be made") as caught:
        Workspace.open(tmp_path / "file" / "w")
    assert "--workspace" in caught.value.hint


OPTIONAL = ("boto3", "numpy", "obstore", "phonenumbers", "pyarrow", "ray", "re2", "sklearn", "stdnum", "tokenizers")


def test_it_needs_nothing_that_is_optional() -> None:
    """Proposals, certificates and builds are put together here: none of their imports may pull in an extra."""
    code = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r})); import tracemill.workspace"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
