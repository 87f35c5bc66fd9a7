"""`tracemill privacy policies`, and commands over a workspace that redacts."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run
from tracemill.privacy.policies import STANDARD

CONFIG = "redaction: standard\npolicies: policies.yaml\n"
FILE = """
policies: [{name: people, version: 3, actions: {person: mask}, otherwise: keep, scope: workspace}]
purposes: {share: people}
"""


def set_up(folder: Path) -> None:
    """A configuration with a policy of its own."""
    (folder / "tracemill.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "policies.yaml").write_text(FILE, encoding="utf-8")


def test_policies_are_listed_with_what_uses_them(tracemill: Run, tmp_path: Path) -> None:
    plain = tracemill("privacy", "policies", "list")
    assert (plain.returncode, plain.stderr) == (0, "")
    assert "stored as they come" in plain.stdout
    set_up(tmp_path)
    found = {one["name"]: one for one in json.loads(tracemill("privacy", "policies", "list", "--json").stdout)}
    assert list(found) == ["standard", "safe-harbor", "mask", "people"]
    assert found["standard"] | {"used_for": ["store"]} == found["standard"]
    assert found["standard"]["digest"] == STANDARD.digest()
    assert (found["people"]["version"], found["people"]["built_in"], found["people"]["used_for"]) == (
        3,
        False,
        ["share"],
    )
    assert "people" in tracemill("privacy", "policies", "list").stdout


def test_a_policy_is_shown_kind_by_kind(tracemill: Run, tmp_path: Path) -> None:
    set_up(tmp_path)
    document = json.loads(tracemill("privacy", "policies", "show", "people", "--json").stdout)
    assert (document["kinds"]["person_name"], document["kinds"]["email"], document["scope"]) == (
        "mask",
        "keep",
        "workspace",
    )
    shown = tracemill("privacy", "policies", "show", "people@3")
    assert shown.returncode == 0, shown.stderr
    assert "person_name" in shown.stdout
    assert "Within a workspace" in shown.stdout
    missing = tracemill("privacy", "policies", "show", "peple")
    assert missing.returncode == 1
    assert "there is no redaction policy 'peple'" in missing.stderr


def test_commands_redact_as_the_configuration_asks(tracemill: Run, tmp_path: Path) -> None:
    set_up(tmp_path)
    row = {"messages": [{"role": "user", "content": "mail ada@canary.example"}, {"role": "assistant", "content": "ok"}]}
    (tmp_path / "chat.jsonl").write_text(json.dumps(row), encoding="utf-8")
    done = tracemill("import", "openai-chat", "chat.jsonl")
    assert done.returncode == 0, done.stderr
    shown = tracemill("records").stdout
    assert "canary" not in shown
    assert '"policy":"standard"' in shown.replace(" ", "")
    checks = json.loads(tracemill("doctor", "--json").stdout)["checks"]
    assert [one["detail"] for one in checks if one["name"] == "redaction"] == [
        f"records are redacted by standard@1 (digest {STANDARD.digest()}) before they are stored"
    ]
    (tmp_path / "tracemill.yaml").write_text("redaction: nobody\n", encoding="utf-8")
    refused = tracemill("import", "openai-chat", "chat.jsonl")
    assert refused.returncode == 1
    assert "there is no redaction policy 'nobody'" in refused.stderr
