"""`tracemill quality …`, as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run
from tests.fake_model import FakeModel
from tracemill.quality.judge import RUBRIC


def test_the_table_goes_to_a_file_or_to_standard_output(tracemill: Run, filled: Path, tmp_path: Path) -> None:
    shown = tracemill("quality", "table", "--workspace", filled, "--out", "table.csv")
    assert shown.returncode == 0, shown.stderr
    assert "rows to table.csv" in shown.stdout
    lines = [json.loads(line) for line in tracemill("quality", "table", "--workspace", filled).stdout.splitlines()]
    assert len(lines) == (tmp_path / "table.csv").read_text().count("\n") - 1
    assert all(line["cluster"] and line["text_reason"] for line in lines)
    answer = json.loads(
        tracemill("quality", "table", "--workspace", filled, "--out", "t.parquet", "--json").stdout,
    )
    assert (answer["path"], answer["records"]) == ("t.parquet", len(lines))
    refused = tracemill("quality", "table", "--workspace", filled, "--format", "csv")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--out" in refused.stderr


def test_the_summary_names_measures_defects_and_coverage(tracemill: Run, filled: Path) -> None:
    shown = tracemill("quality", "summary", "--workspace", filled)
    assert shown.returncode == 0, shown.stderr
    assert "appropriateness" in shown.stdout
    assert "Good-Turing" in shown.stdout
    answer = json.loads(tracemill("quality", "summary", "--workspace", filled, "--json").stdout)
    assert answer["records"] == answer["measures"]["text"]["count"] == answer["coverage"]["texts"]


def test_validate_reports_what_is_wrong_and_fails(tracemill: Run, tmp_path: Path) -> None:
    texts = ["Where is my parcel?", "Change my flight, please.", "Two charges stand there.", "It prints blank pages."]
    good = [json.dumps({"text": text, "embedding": [at, 1.0, 0.5]}) for at, text in enumerate(texts)]
    (tmp_path / "good.jsonl").write_text("\n".join(good))
    (tmp_path / "bad.jsonl").write_text("\n".join([*good, "{broken", '{"text": "Is it?", "embedding": [NaN, 1, 2]}']))
    limits = ("--limit", "min_embedding_dim=3", "--limit", "min_examples=4")
    fine = tracemill("quality", "validate", "good.jsonl", "--kind", "embedding", *limits)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "Data validation successful" in fine.stdout
    wrong = tracemill("quality", "validate", "bad.jsonl", "--kind", "embedding", "--json", *limits)
    answer = json.loads(wrong.stdout)
    assert (wrong.returncode, answer["is_valid"]) == (1, False)
    assert {(one["index"], one["reason"]) for one in answer["problems"]} == {
        (-1, "low_quality"),
        (4, "wrong_type"),
        (5, "not_finite"),
    }
    for arguments, says in (
        (("none.jsonl",), "cannot be read"),
        (("good.jsonl", "--kind", "audio"), "embedding or llm"),
        (("good.jsonl", "--limit", "min_examples"), "a number"),
        (("good.jsonl", "--limit", "nothing=1"), "nothing"),
    ):
        refused = tracemill("quality", "validate", *arguments)
        assert refused.returncode == 1
        assert says in refused.stderr
        assert "Traceback" not in refused.stderr


def test_judge_and_agreement(tracemill: Run, tmp_path: Path, fake_model: FakeModel) -> None:
    entry = {"score": 4, "because": "plain"}
    fake_model.reply = lambda _: json.dumps(dict.fromkeys(RUBRIC, entry))
    asked = {"role": "user", "content": "Is it far?"}
    chats = [{"messages": [asked, {"role": "assistant", "content": f"{at} hours."}]} for at in range(3)]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    assert tracemill("import", "openai-chat", "chats.jsonl").returncode == 0
    refused = tracemill("quality", "judge")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "judge_url" in refused.stderr
    judge = {"TRACEMILL_JUDGE_URL": f"{fake_model.url}/v1", "TRACEMILL_JUDGE_MODEL": "judge-1"}
    first = tracemill("quality", "judge", "--max-calls", "2", env=judge)
    assert first.returncode == 0, first.stderr
    assert "2 records judged with 2 calls" in first.stdout
    assert "the next run goes on here" in first.stdout
    second = json.loads(tracemill("quality", "judge", "--json", env=judge).stdout)
    assert (second["known"], second["judged"], second["written"], second["spent"]) == (2, 1, 8, False)
    assert "no record that both" in tracemill("quality", "agreement").stdout
    assert json.loads(tracemill("quality", "agreement", "--json").stdout) == []
    assert json.loads(tracemill("quality", "judge", "--pairs", "--json", env=judge).stdout)["calls"] == 0
    (tmp_path / "policies.yaml").write_text("purposes: {evaluate: mask}\n")
    redacted = {**judge, "TRACEMILL_POLICIES": str(tmp_path / "policies.yaml")}
    assert "What was sent was redacted by mask@1." in tracemill("quality", "judge", env=redacted).stdout
    assert json.loads(tracemill("quality", "judge", "--json", env=redacted).stdout)["redaction"].startswith("mask@1#")
