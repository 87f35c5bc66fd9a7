"""The commands of the archive, of erasure and of the audit log, on a workspace that the demo filled."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, environment
from tests.cli.test_commands import answered, said
from tracemill.core.codec import decode_json
from tracemill.core.records import Interaction


@pytest.fixture
def at(filled: Path, tmp_path: Path) -> tuple[str, str]:
    """A copy of the demo's workspace: these commands change it."""
    shutil.copytree(filled, tmp_path / "workspace")
    return ("--workspace", str(tmp_path / "workspace"))


def somebody(at: tuple[str, str]) -> str:
    """The pseudonym of a person in the demo's sample."""
    for line in said(*at, "records", "--type", "interaction").splitlines():
        record = decode_json(line.encode())
        assert isinstance(record, Interaction)
        if record.user is not None:
            return record.user.pseudonym
    raise AssertionError("nobody has a name")


def test_a_dry_run_moves_nothing_and_a_run_moves_what_is_old(at: tuple[str, str]) -> None:
    before = said(*at, "records")
    dry = answered(*at, "archive", "run", "--days-old", "0", "--dry-run")
    assert (dry["archive"]["records"], dry["archive"]["dry_run"]) == (276, True)
    assert dry["statistics"]["overview"]["archived_records"] == 0
    text = said(*at, "archive", "run", "--days-old", "0", "--verbose")
    assert "Moved 276 records" in text
    assert "support-chat" in text
    assert "wrote platform=support-chat/day=" in text
    assert "USD a month" in text
    log = (Path(at[1]) / "archive.log").read_text(encoding="utf-8")
    assert "would archive 276 records" in log
    assert "archived 276 records" in log
    assert said(*at, "records") == before
    assert answered(*at, "archive", "run", "--days-old", "0")["archive"]["records"] == 0
    stats = answered(*at, "archive", "run", "--stats-only")
    assert stats["archive"] is None
    assert stats["statistics"]["overview"]["archived_records"] == 276


def test_looking_after_the_archive(at: tuple[str, str]) -> None:
    assert "Nothing is archived" in said(*at, "archive", "list")
    said(*at, "archive", "run", "--days-old", "0", "--platform", "support-chat")
    objects = answered(*at, "archive", "list")
    assert {entry["platform"] for entry in objects} == {"support-chat"}
    assert "sound" in said(*at, "archive", "verify")
    assert answered(*at, "archive", "compact") == {"merged": 0}
    victim = Path(at[1]) / "archive" / objects[0]["object_key"]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:100] + b"\xff" + whole[101:])
    assert "LOOK" in said(*at, "archive", "verify", code=1)
    victim.unlink()
    (problem,) = answered(*at, "archive", "verify", code=1)["problems"]
    assert objects[0]["object_key"] in problem
    victim.write_bytes(whole)
    assert answered(*at, "archive", "restore", "--platform", "support-chat") == {"restored": 97}
    assert answered(*at, "archive", "list") == []


def test_restoring_says_what_it_needs(tracemill: Run, filled: Path) -> None:
    found = tracemill("--workspace", filled, "archive", "restore")
    assert found.returncode == 1
    assert "--all" in found.stderr
    found = tracemill("--workspace", filled, "archive", "restore", "--since", "soon")
    assert "soon" in found.stderr


def test_storage_and_prices(at: tuple[str, str], tmp_path: Path) -> None:
    assert "A million turns as those here" in said(*at, "storage")
    assert answered(*at, "storage")["costs"]["prices"] == {
        "hot": "hosted PostgreSQL",
        "cold": "local disk",
        "dated": {"hot": "2025-01", "cold": "2025-01"},
    }
    config = tmp_path / "priced.yaml"
    config.write_text("price_hot: ours\nprices:\n  ours: {gb_month: 1000, dated: 2026-11}\n", encoding="utf-8")
    mine = answered("--config", config, *at, "storage")
    assert mine["costs"]["hot_usd_per_gb_month"] == 1000
    rows = {row["storage"]: row for row in answered("--config", config, "prices")}
    assert rows["ours"]["dated"] == "2026-11"
    assert rows["S3 STANDARD"]["gb_month"] == 0.023
    assert "USD" in said("prices")


def test_search_finds_words_in_both_tiers(at: tuple[str, str]) -> None:
    hot = said(*at, "search", "refund")
    assert hot
    said(*at, "archive", "run", "--days-old", "0")
    assert said(*at, "search", "refund") == hot
    assert said(*at, "search", "refund", "--type", "interaction", "--limit", "1").count("\n") == 1
    assert said(*at, "search", "no such words at all") == ""


def test_erasing_a_person_by_command(at: tuple[str, str]) -> None:
    person = somebody(at)
    said(*at, "dataset", "trained", "demo@v1", "my-model", "--path", "models/my-model")
    preview = answered(*at, "erase", "--user", person, "--dry-run")
    assert preview["records"]["interaction"] >= 1
    assert "Would remove" in said(*at, "erase", "--user", person, "--dry-run")
    assert answered(*at, "erase", "--user", "nobody", "--dry-run")["records"] == {}
    receipt = answered(*at, "erase", "--user", person, "--reason", "asked")
    assert receipt["complete"] is True
    assert receipt["records"] == preview["records"]
    assert receipt["tainted_models"] == ["my-model"]
    assert receipt["rebuilt"]["demo@v1"] == "demo@v2"
    path = Path(at[1]) / "receipts" / f"{receipt['id']}.json"
    assert answered(*at, "receipt", path)["holds"] is True
    path.write_text(path.read_text(encoding="utf-8").replace('"asked"', '"bored"'), encoding="utf-8")
    assert answered(*at, "receipt", path, code=1)["holds"] is False
    assert said(*at, "records", "--user", person) == ""
    assert "rows erased, see demo@v2" in said(*at, "dataset", "list").replace("\n", " ")
    assert "tainted" in said(*at, "dataset", "models")
    text = said(*at, "erase", "--user", person)
    assert "Erased 0 records" in text


def test_an_erasure_names_one_subject(tracemill: Run, filled: Path) -> None:
    for arguments in ([], ["--user", "a", "--conversation", "b"]):
        found = tracemill("--workspace", filled, "erase", *arguments)
        assert found.returncode == 1
        assert "exactly one" in found.stderr


def test_a_hold_by_command(at: tuple[str, str]) -> None:
    person = somebody(at)
    hold = answered(*at, "hold", "place", "--user", person, "--reason", "case 7")
    deferred = answered(*at, "erase", "--user", person, code=1)
    assert (deferred["status"], deferred["hold"]) == ("deferred", hold["id"])
    assert hold["id"] in said(*at, "erase", "--user", person, code=1)
    assert answered(*at, "hold", "list")["waiting"]
    assert "deferred by" in said(*at, "hold", "list")
    assert answered(*at, "hold", "release", hold["id"])["waiting"] == 2
    assert answered(*at, "maintain")["erasures"] == {"done": 2}
    assert said(*at, "records", "--user", person) == ""


def test_a_person_gets_their_data(at: tuple[str, str], tmp_path: Path) -> None:
    person = somebody(at)
    to = tmp_path / "person.jsonl"
    said(*at, "export-user", person, "--to", to)
    lines = to.read_text(encoding="utf-8").splitlines()
    assert lines
    assert to.stat().st_mode & 0o077 == 0
    assert said(*at, "export-user", person).splitlines() == lines
    times = [decode_json(line.encode()).time for line in lines]
    assert times == sorted(times)
    imported = answered("--workspace", tmp_path / "other", "import", "records", to)
    assert imported["stored"] == len(lines)


def test_the_audit_log_by_command(at: tuple[str, str]) -> None:
    said(*at, "keys", "create", "app", "--scope", "ingest")
    said(*at, "archive", "run", "--days-old", "0")
    entries: list[Any] = answered(*at, "audit", "list")
    assert [entry["action"] for entry in entries][-2:] == ["keys.create", "archive.run"]
    assert answered(*at, "audit", "list", "--action", "archive")[0]["detail"]["records"] == 276
    assert "sound" in said(*at, "audit", "verify")
    head = json.loads(said(*at, "audit", "head"))
    assert head["number"] == entries[-1]["number"]
    heads = Path(at[1]) / "audit-heads.jsonl"
    heads.write_text("{}\n", encoding="utf-8")
    assert answered(*at, "audit", "verify", code=1)["problems"]


def test_maintenance_on_a_workspace_with_nothing_to_do(tmp_path: Path) -> None:
    said("init", "--workspace", tmp_path / "new")
    assert answered("--workspace", tmp_path / "new", "maintain") == {
        "archived": 0, "merged": 0, "cleaned": 0, "erasures": {}, "expired": {}, "held": 0,
    }  # fmt: skip


def test_without_the_archives_packages_it_says_what_to_install(tracemill: Run, filled: Path, tmp_path: Path) -> None:
    """As on a machine with the plain package: everything else goes on working."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "for name in ('obstore', 'pyarrow'):\n    sys.modules[name] = None\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name in ('obstore', 'pyarrow') else find(name, *more)\n",
        encoding="utf-8",
    )
    workspace = tmp_path / "workspace"
    shutil.copytree(filled, workspace)
    plain = {"env": {"PYTHONPATH": str(blocked)}}
    found = tracemill("--workspace", workspace, "archive", "run", "--days-old", "0", **plain)
    assert found.returncode == 1
    assert "pip install 'tracemill[archive]'" in found.stderr
    assert (
        tracemill("--workspace", workspace, "archive", "run", "--days-old", "0", "--dry-run", **plain).returncode == 0
    )
    assert tracemill("--workspace", workspace, "storage", **plain).returncode == 0
    assert tracemill("--workspace", workspace, "erase", "--user", "nobody", **plain).returncode == 0
    assert tracemill("--workspace", workspace, "maintain", **plain).returncode in (0, 1)


def test_ctrl_c_stops_the_archive_at_a_step_and_loses_nothing(at: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "tracemill", *at, "archive", "run", "--days-old", "0"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as running:
        while len(list(Path(at[1]).glob("archive/*/*"))) < 3:
            assert running.poll() is None, "it was done before it could be stopped"
            time.sleep(0.002)
        running.send_signal(signal.SIGINT)
        _, complaint = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Nothing is lost" in complaint
    assert "Traceback" not in complaint
    moved = answered(*at, "archive", "run", "--stats-only")["statistics"]["overview"]["archived_records"]
    assert 0 < moved < 276
    assert said(*at, "records").count("\n") == 276
    assert answered(*at, "archive", "run", "--days-old", "0")["archive"]["records"] == 276 - moved
    assert "sound" in said(*at, "archive", "verify")
