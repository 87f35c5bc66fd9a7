"""`tracemill privacy scan` and `eval`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_scan_names_kinds_and_places_and_no_content(tracemill: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mail ada@example.com\npassword: hunter2!\n")
    shown = tracemill("privacy", "scan", "notes.txt")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split() for line in shown.stdout.splitlines()[1:]] == [
        ["email", "1", "1:6"],
        ["password", "1", "2:11"],
    ]
    assert "hunter2" not in shown.stdout
    answer = json.loads(tracemill("privacy", "scan", "notes.txt", "--json", "--only", "email").stdout)
    assert answer == {"records": 0, "counts": {"email": 1}, "places": {"email": ["1:6"]}}
    assert tracemill("privacy", "scan", "notes.txt", "--check").returncode == 1
    (tmp_path / "clean.txt").write_text("nothing to see")
    clean = tracemill("privacy", "scan", "clean.txt", "--check")
    assert (clean.returncode, clean.stdout) == (0, "Nothing found.\n")


def test_eval_prints_intervals(tracemill: Run, tmp_path: Path) -> None:
    spans = [{"kind": "email", "start": 0, "end": 13}]
    lines = [{"text": "a@example.com", "spans": spans}] * 3 + [
        {"text": "a at example", "spans": [spans[0] | {"end": 12}]}
    ]
    (tmp_path / "labelled.jsonl").write_text("\n".join(map(json.dumps, lines)))
    shown = tracemill("privacy", "eval", "labelled.jsonl")
    assert shown.returncode == 0, shown.stderr
    assert "75.0 (30–95)" in shown.stdout
    answer = json.loads(tracemill("privacy", "eval", "labelled.jsonl", "--json").stdout)
    assert (answer["email"]["recall"]["successes"], answer["all"]["recall"]["total"]) == (3, 4)
    assert answer["email"]["precision"]["value"] == 1.0


def test_what_is_wrong_is_said_in_a_sentence(tracemill: Run, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("nothing")
    for arguments, says in (
        (("scan", "none.txt"), "cannot be read"),
        (("scan", "x.jsonl", "--only", "e-mail"), "there is no kind 'e-mail'"),
        (("eval", "x.jsonl"), "line 1"),
    ):
        answer = tracemill("privacy", *arguments)
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: ")
        assert says in answer.stderr
        assert "Traceback" not in answer.stderr
