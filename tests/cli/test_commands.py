"""Every command does its work on a real workspace, in words and as JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.export.tokenizers_made import CHATML, save_tokenizer
from tracemill.cli.app import app
from tracemill.core.codec import decode_json
from tracemill.core.records import Interaction
from tracemill.core.settings import setting_table
from tracemill.export import write
from tracemill.workspace import Workspace


def said(*arguments: str | Path, code: int = 0) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert found.exit_code == code, found.output
    return found.stdout


def answered(*arguments: str | Path, code: int = 0) -> Any:
    return json.loads(said(*arguments, "--json", code=code))


@pytest.fixture
def at(filled: Path) -> tuple[str, str]:
    return ("--workspace", str(filled))


def test_init_makes_a_workspace_and_again_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    first = answered("init", "--workspace", folder)
    assert (folder / "store.db").exists()
    assert (folder / "keys" / "pseudonym.key").stat().st_mode & 0o077 == 0
    assert answered("--workspace", folder, "init") == first
    assert "is ready (0 records)" in said("init", "--workspace", folder)


def test_doctor_of_a_sound_workspace(at: tuple[str, str]) -> None:
    found = answered(*at, "doctor")
    assert found["ok"] is True
    assert found["success_rate"] == 1.0
    assert found["collection"]["captured"] == found["collection"]["stored"] == 276
    assert {check["name"] for check in found["checks"]} >= {
        "identity",
        "write permission",
        "free space",
        "spool",
        "store",
    }
    text = said(*at, "doctor", "--quick")
    assert "write permission" in text
    assert "LOOK" not in text


def test_doctor_of_a_damaged_one(tmp_path: Path) -> None:
    said("init", "--workspace", tmp_path)
    with (tmp_path / "store.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    found = answered("--workspace", tmp_path, "doctor", code=1)
    assert found["ok"] is False


def test_import_says_what_came_of_it_and_a_rerun_stores_nothing(tmp_path: Path) -> None:
    source = tmp_path / "chats.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]} for n in range(5)
    ]
    source.write_text("\n".join([*map(json.dumps, rows), "{broken"]) + "\n", encoding="utf-8")
    workspace = tmp_path / "workspace"
    first = answered("--workspace", workspace, "import", "openai-chat", source, "--platform", "old")
    assert (first["stored"], first["rejected"]) == (5, 1)
    assert "broken" in Path(first["rejects"]).read_text(encoding="utf-8")
    again = said("--workspace", workspace, "import", "openai-chat", source, "--platform", "old")
    assert "5 were there already, 1 were rejected" in again
    assert said("--workspace", workspace, "records", "--count", "--platform", "old").strip() == "5"


def test_deliver_with_nothing_to_do(at: tuple[str, str]) -> None:
    assert answered(*at, "deliver")["stored"] == 0
    assert "Delivered 0 records" in said(*at, "deliver")


def test_stats_in_words_and_numbers(at: tuple[str, str]) -> None:
    text = said(*at, "stats")
    assert "Frequent sequences of tools" in text
    assert "\x1b" not in text
    found = answered(*at, "stats")
    assert found["outcomes"]["interactions"] == 68
    assert answered(*at, "stats", "--platform", "research-agent")["outcomes"]["interactions"] == 17
    assert answered(*at, "stats", "--newest", "10")["scope"]["bodies"] == 10
    assert answered(*at, "stats", "--sums")["scope"]["bodies"] == 0
    assert answered(*at, "report") == found


def test_report_as_a_page(at: tuple[str, str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert "Wrote" in said(*at, "report", "--html", page)
    assert "<!doctype html>" in page.read_text(encoding="utf-8")
    assert answered(*at, "report", "--html", page)["html"] == str(page)


def test_records_are_json_lines_that_can_be_read_back(at: tuple[str, str]) -> None:
    lines = said(*at, "records", "--type", "interaction").splitlines()
    records = [decode_json(line.encode()) for line in lines]
    assert len(records) == 68
    assert all(isinstance(record, Interaction) for record in records)
    assert len(said(*at, "records", "--limit", "3").splitlines()) == 3
    assert said(*at, "records", "--type", "step", "--type", "decision", "--count").strip() == "97"
    assert said(*at, "records", "--failure", "--platform", "workflow-builder", "--count").strip() == "8"
    day = said(
        *at, "records", "--type", "interaction", "--since", "2026-03-12", "--until", "2026-03-13T05:00:00Z", "--count"
    )
    assert day.strip() == "2"


def test_records_of_a_user_or_a_model(at: tuple[str, str]) -> None:
    lines = said(*at, "records", "--type", "interaction", "--user", "visitor-01@example.com").splitlines()
    assert len(lines) == 3
    pseudonym = json.loads(lines[0])["user"]["pseudonym"]
    assert said(*at, "records", "--type", "interaction", "--user", pseudonym).splitlines() == lines
    assert said(*at, "records", "--user", "nobody@example.com", "--count").strip() == "0"
    assert said(*at, "records", "--model", "birch-code", "--count").strip() == "14"


def test_records_as_a_gepeto_tree(at: tuple[str, str], tmp_path: Path) -> None:
    assert "Wrote" in said(*at, "records", "--gepeto", tmp_path / "tree", "--platform", "support-chat")
    assert list((tmp_path / "tree").glob("chat_contexts/1.0/context_*.json"))


def test_show_gives_a_record_with_what_belongs_to_it(at: tuple[str, str]) -> None:
    line = said(*at, "records", "--type", "interaction", "--limit", "1")
    record_id = json.loads(line)["id"]
    found = json.loads(said(*at, "show", record_id))
    assert found["id"] == record_id
    assert {related["record"] for related in found["related"]} == {"step", "feedback"}
    assert len(said(*at, "records", "--of", record_id).splitlines()) == len(found["related"])


def test_quarantine(at: tuple[str, str]) -> None:
    assert answered(*at, "quarantine") == []
    assert "Nothing was refused." in said(*at, "quarantine")


def test_settings_say_where_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "tracemill.yaml"
    config.write_text("platform: shop\n", encoding="utf-8")
    monkeypatch.setenv("TRACEMILL_DURABILITY", "power")
    rows = {row["name"]: row for row in answered("--config", config, "--workspace", tmp_path, "settings")}
    assert list(rows) == [row.name for row in setting_table()]
    assert (rows["platform"]["value"], rows["platform"]["origin"]) == ("shop", "the configuration file")
    assert rows["durability"]["origin"] == "the environment variable TRACEMILL_DURABILITY"
    assert (rows["workspace"]["value"], rows["workspace"]["origin"]) == (str(tmp_path), "an argument")
    assert rows["queue_max_records"]["origin"] == "the default"
    assert "the configuration file" in said("--config", config, "settings")


def test_datasets_from_recipe_to_export(tmp_path: Path, at: tuple[str, str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: chats\nsource: {platforms: [support-chat]}\nsignals: [supervised]\n", encoding="utf-8")
    built = answered(*at, "dataset", "build", recipe)
    assert (built["new"], built["reference"]) == (True, "chats@v1")
    assert "chats@v1 was there already" in said(*at, "dataset", "build", recipe)
    assert {version["reference"] for version in answered(*at, "dataset", "list")} >= {"demo@v1", "chats@v1"}
    assert "supervised" in said(*at, "dataset", "show", "chats")
    assert answered(*at, "dataset", "verify", "chats@v1") == {"version": "chats@v1", "ok": True, "problems": []}
    exported = answered(*at, "export", "chats", "--format", "openai-chat", "--to", tmp_path / "out")
    rows = [
        json.loads(line)
        for path in (tmp_path / "out").glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert sum("messages" in row for row in rows) == sum(exported["rows"].values()) > 10
    tokenizer = save_tokenizer(tmp_path / "tokenizer", ["hello"], CHATML)
    counted = ("export", "chats", "--format", "trl-sft", "--tokenizer", tokenizer, "--max-tokens", "20")
    tokens = answered(*at, *counted)["tokens"]
    assert (tokens["mask"], tokens["max_tokens"]) == ("prefix", 20)
    assert sum(split["sequences"] for split in tokens["splits"].values()) == sum(exported["rows"].values())
    shown = said(*at, *counted)
    assert "longer_than_limit" in shown
    assert "of the loss" in shown
    assert all(f"{split['tokens']:,}" in shown for split in tokens["splits"].values())
    zipped = answered(*at, "export", "chats", "--format", "atif", "--container", "jsonl.gz", "--shard-mb", "0.01")
    assert zipped["path"].endswith("chats-v1-atif-jsonl.gz")
    shards = sorted(Path(zipped["path"]).glob("*.jsonl.gz"))
    assert len(shards) > 1
    documents = [json.loads(line) for shard in shards for line in gzip.decompress(shard.read_bytes()).splitlines()]
    assert len(documents) == sum(zipped["rows"].values()) == sum(exported["rows"].values())


def test_an_export_that_is_interrupted_goes_on(
    tmp_path: Path, at: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*at, "export", "demo@v1", "--format", "trl-sft", "--shard-mb", "0.003", "--to")
    whole = answered(*asked, tmp_path / "whole")
    assert whole["resumed"] == 0
    made, left = write.make_row, [sum(whole["rows"].values()) - 1]

    def interrupted(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return made(*given)

    monkeypatch.setattr(write, "make_row", interrupted)
    said(*asked, tmp_path / "out", code=130)
    monkeypatch.setattr(write, "make_row", made)
    assert "of the files were there already: an export that was interrupted" in said(*asked, tmp_path / "out")
    for file in whole["files"]:
        assert (tmp_path / "out" / file["path"]).read_bytes() == (tmp_path / "whole" / file["path"]).read_bytes()


def test_a_damaged_version_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "chats.jsonl"
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    source.write_text(json.dumps(row) + "\n", encoding="utf-8")
    at = ("--workspace", str(tmp_path / "workspace"))
    said(*at, "import", "openai-chat", source)
    path = Path(answered(*at, "dataset", "build")["path"])
    (path / "fates.jsonl").write_bytes(b"{}\n")
    found = answered(*at, "dataset", "verify", "default", code=1)
    assert found["ok"] is False
    assert found["problems"]


def test_records_cannot_steer_the_terminal(tmp_path: Path) -> None:
    at = ("--workspace", str(tmp_path))
    said(*at, "init")
    with Workspace.open(tmp_path) as workspace:
        workspace.store.quarantine(b"\x1b[2J", "invalid", "\x1b]0;owned\x07\u202e", "\x1b[31mred")
    text = said(*at, "quarantine")
    assert "owned" in text
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert answered(*at, "quarantine")[0]["source"] == "\x1b[31mred"


def test_quiet_says_nothing(at: tuple[str, str]) -> None:
    for command in (["stats"], ["doctor"], ["deliver"], ["quarantine"], ["settings"], ["dataset", "list"]):
        assert said(*at, "--quiet", *command) == ""
