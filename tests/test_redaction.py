"""Planted values are nowhere in a workspace that redacts, whichever way they came in, whatever was made of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tracemill
from tests.privacy.scanning import hits
from tracemill.core.errors import SettingError
from tracemill.core.records import Interaction, Step
from tracemill.core.settings import load_settings
from tracemill.dataset.recipe import Recipe
from tracemill.workspace import Workspace

CANARIES = {
    "mail": b"zephyrine.oakum@canary.example",
    "name": b"Zephyrine",
    "family name": b"Oakum",
    "card": b"5105105105105100",
    "telephone": b"202-555-0143",
    "key": b"sk-ant-api03-QWERTYqwerty0123456789QWERTYqwerty0123456789QWERTYqwerty0123456789QWERTYqwerty0123456789-AA",
    "number": b"536-90-4399",
}
TEXT = (
    "My name is Zephyrine Oakum, mail zephyrine.oakum@canary.example, call 202-555-0143, card 5105105105105100, "
    "SSN 536-90-4399, key " + CANARIES["key"].decode()
)
ARGUMENTS = json.dumps({"first_name": "Zephyrine", "last_name": "Oakum", "note": TEXT})


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TRACEMILL_")]:
        monkeypatch.delenv(name, raising=False)


def capture(collector: tracemill.DataCollector) -> str:
    """One of everything the SDK captures, each with the canaries."""
    call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": ARGUMENTS}}
    identity = collector.collect_interaction_data(
        messages=[
            {"role": "system", "content": f"The customer: {TEXT}"},
            {"role": "user", "content": TEXT},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": ARGUMENTS},
        ],
        response={"role": "assistant", "content": f"Hello Zephyrine. {TEXT}"},
        conversation_id="c1",
        success=True,
        artifact={"for": ARGUMENTS, "big": [TEXT] * 200},
        user_id="zephyrine.oakum@canary.example",
    )
    collector.log_user_feedback("thumbs_up", identity, comment=TEXT)
    collector.client.capture(Step, {"interaction_id": identity, "reasoning": TEXT, "inputs": {"email": TEXT}})
    return identity


def made_of(workspace: Workspace) -> None:
    """An archive, a dataset version and exports of what is stored."""
    built = workspace.build_dataset(Recipe(name="canaries", signals=("supervised",)))
    assert sum(sum(types.values()) for types in built.version.manifest.examples.values()) > 0
    for form in ("openai-chat", "sharegpt", "atif"):
        workspace.export(built.version.reference, form)
    assert workspace.archive(days_old=0).records > 0


@pytest.mark.parametrize("in_process", [False, True], ids=["before the store", "before the spool"])
@pytest.mark.parametrize("archive_format", ["parquet", "jsonl.gz"])
def test_what_the_sdk_captures(tmp_path: Path, in_process: bool, archive_format: str) -> None:
    folder = tmp_path / "data"
    settings: dict[str, Any] = {
        "redaction": "standard",
        "redact_in_process": in_process,
        "gepeto_path": str(folder / "gepeto"),
        "archive_format": archive_format,
    }
    with tracemill.DataCollector(folder, **settings) as collector:
        capture(collector)
        assert collector.deliver(timeout=30)
        if in_process:  # otherwise the current segment of the spool holds what came, until it is closed
            assert hits(folder, CANARIES) == []
    assert (folder / "gepeto").is_dir()
    with Workspace.open(settings=load_settings({"workspace": str(folder), **settings}, environment={})) as workspace:
        records = list(workspace.records())
        assert len(records) == 3
        (interaction,) = [record for record in records if isinstance(record, Interaction)]
        assert interaction.messages[2]["tool_calls"][0]["function"]["name"] == "find"
        json.loads(interaction.messages[2]["tool_calls"][0]["function"]["arguments"])
        made_of(workspace)
    assert hits(folder, CANARIES) == []


def test_without_redaction_they_are_all_found(tmp_path: Path) -> None:
    """The scan can fail."""
    folder = tmp_path / "data"
    with tracemill.DataCollector(folder) as collector:
        capture(collector)
        assert collector.deliver(timeout=30)
    with Workspace.open(folder) as workspace:
        workspace.build_dataset(Recipe(name="canaries", signals=("supervised",)))
    found = {hit.partition(" in ")[0] for hit in hits(folder, CANARIES)}
    assert found == set(CANARIES)


def test_exported_tool_calls_are_json_still(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with tracemill.DataCollector(folder, redaction="standard") as collector:
        capture(collector)
        assert collector.deliver(timeout=30)
    with Workspace.open(folder) as workspace:
        built = workspace.build_dataset(Recipe(name="canaries", signals=("supervised",)))
        report = workspace.export(built.version.reference, "openai-chat", tmp_path / "out")
    rows = [
        json.loads(line)
        for path in sorted((tmp_path / "out").glob("*.jsonl"))
        if path.name != "losses.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    calls = [call for row in rows for message in row["messages"] for call in message.get("tool_calls") or ()]
    assert report.rows
    assert calls
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        assert set(arguments) == {"first_name", "last_name", "note"}
        assert f"{arguments['first_name']} {arguments['last_name']}" in arguments["note"]


def test_what_files_bring(tmp_path: Path) -> None:
    source, folder = tmp_path / "chat.jsonl", tmp_path / "data"
    row = {"messages": [{"role": "user", "content": TEXT}, {"role": "assistant", "content": TEXT}]}
    lines = [json.dumps(row), json.dumps({"messages": TEXT}), f'{{"messages": [{TEXT}']
    source.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe" + TEXT.encode() + b"\n")
    settings = load_settings({"workspace": str(folder), "redaction": "standard"}, environment={})
    with Workspace.open(settings=settings) as workspace:
        report = workspace.import_files("openai-chat", [source])
        assert (report.stored, report.rejected) == (1, 3)
        again = workspace.import_files("openai-chat", [source])
        assert (again.stored, again.duplicates) == (0, 1)
        assert report.rejects is not None
        assert len(report.rejects.read_bytes().splitlines()) == 3
        made_of_imported = workspace.archive(days_old=0)
        assert made_of_imported.records == 1
    assert hits(folder, CANARIES) == []


def test_what_others_left_in_the_spool(tmp_path: Path) -> None:
    """A process that was killed spooled raw records; they are redacted on their way into the store."""
    folder = tmp_path / "data"
    program = (
        "import os, tracemill\n"
        f"collector = tracemill.DataCollector({str(folder)!r}, endpoint='http://127.0.0.1:9')\n"
        f"collector.log_conversation({TEXT!r}, 'hello')\n"
        "collector.flush()\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert hits(folder, CANARIES) != []
    settings = load_settings({"workspace": str(folder), "redaction": "standard"}, environment={})
    with Workspace.open(settings=settings) as workspace:
        assert workspace.drain().stored == 1
    assert hits(folder, CANARIES) == []


def test_a_collector_whose_redaction_cannot_be_had_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no redaction policy 'standart'"):
        tracemill.DataCollector(tmp_path, redaction="standart")
    with pytest.raises(SettingError, match="redact_in_process is set, and redaction is not"):
        tracemill.DataCollector(tmp_path, redact_in_process=True)


def test_what_cannot_be_redacted_in_the_process_is_lost_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    (folder / "keys").mkdir(parents=True)
    (folder / "keys" / "redaction.key").write_text("no key")
    with tracemill.DataCollector(folder, redaction="mask", redact_in_process=True) as collector:
        collector.log_conversation(TEXT, "hello")
        assert collector.flush(timeout=10)
        assert collector.counts().dropped == {"redaction_failed": 1}
        assert collector.counts().unaccounted == 0
    assert hits(folder, CANARIES) == []


def test_capture_itself_loads_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys, tracemill\n"
        f"tracemill.DataCollector({str(tmp_path)!r}, redaction='standard', redact_in_process=True)\n"
        "print(*[name for name in ('re2', 'phonenumbers', 'stdnum', 'sqlalchemy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
