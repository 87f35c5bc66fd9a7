"""The commands about packages, on the demo's workspace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.dataset.support import base, calls, interaction, result, says, user
from tracemill.cli.app import app
from tracemill.core.errors import RecipeError
from tracemill.core.records import Consent
from tracemill.dataset.packages import PACKAGES, package_recipe
from tracemill.workspace import Workspace


def said(*arguments: str | Path, code: int = 0) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert found.exit_code == code, found.output
    return found.stdout


def answered(*arguments: str | Path) -> Any:
    return json.loads(said(*arguments, "--json"))


@pytest.fixture
def at(filled: Path, tmp_path: Path) -> tuple[str, str]:
    shutil.copytree(filled, tmp_path / "copy")
    return ("--workspace", str(tmp_path / "copy"))


def test_what_is_counted_is_what_a_build_gives(at: tuple[str, str]) -> None:
    listed = answered(*at, "dataset", "packages", "--newest", "0")
    assert listed.keys() == PACKAGES.keys()
    here = listed["tool_selection"]["here"]
    assert here["looked_at"] > 0
    assert here["examples"]["action"] > 0
    built = answered(*at, "dataset", "build", "--package", "tool_selection")
    examples = built["manifest"]["examples"]
    assert 0 < sum(types.get("action", 0) for types in examples.values()) <= here["examples"]["action"]
    assert built["manifest"]["recipe"]["package"] == "tool_selection"
    mined = json.loads((Path(built["path"]) / "patterns.json").read_bytes())
    assert mined["trajectories"] > 0
    assert answered(*at, "dataset", "verify", "tool_selection")["ok"] is True
    text = said(*at, "dataset", "packages", "--newest", "50")
    assert "Counted over" in text


def test_a_package_under_another_name_and_in_one_domain(at: tuple[str, str]) -> None:
    built = answered(*at, "dataset", "build", "--package", "quality_improvement", "--name", "better")
    assert built["reference"] == "better@v1"
    none = answered(*at, "dataset", "build", "--package", "domain_specific", "--domain", "astrology")
    assert none["manifest"]["examples"] == {}
    assert set(none["manifest"]["drops"]) >= {"steps.other_domain"}


def test_what_cannot_be_meant(at: tuple[str, str], tmp_path: Path) -> None:
    for arguments, message in (
        (["--package", "nonsense"], "no package"),
        (["--domain", "legal"], "--domain"),
        ([str(tmp_path / "r.yaml"), "--package", "quality"], "--package"),
    ):
        found = CliRunner().invoke(app, [*at, "dataset", "build", *arguments])
        assert found.exit_code != 0
        assert isinstance(found.exception, RecipeError)
        assert message in str(found.exception)


def test_patterns_in_words_as_numbers_and_as_documents(at: tuple[str, str]) -> None:
    found = answered(*at, "patterns", "--limit", "3")
    assert len(found["patterns"]) == 3
    assert found["tools"][0]["calls"] > 0
    documents = json.loads(said(*at, "patterns", "--llmunix", "--limit", "2"))
    assert [document["tool_execution_pattern"]["support"] for document in documents] == [
        pattern["support"] for pattern in found["patterns"][:2]
    ]
    text = said(*at, "patterns")
    assert " → " in text
    assert "trajectories call tools" in text
    assert answered(*at, "patterns", "--platform", "nowhere")["patterns"] == []


def test_an_erasure_takes_the_patterns_along(at: tuple[str, str]) -> None:
    path = Path(answered(*at, "dataset", "build", "--package", "tool_selection")["path"])
    fates = [json.loads(line) for line in (path / "fates.jsonl").read_text().splitlines()]
    record = next(fate["id"] for fate in fates if "overrides" in fate.get("left_out", {}))  # an interaction
    assert (path / "patterns.json").exists()
    said(*at, "erase", "--interaction", record)
    assert not (path / "patterns.json").exists()
    assert (path.parent / "v2" / "patterns.json").exists()  # of what is left


def test_a_proposal_has_patterns_and_nothing_of_those_who_do_not_allow_it(tmp_path: Path) -> None:
    with Workspace.open(tmp_path) as workspace:
        for number in range(6):
            name = f"r{number}"
            messages = [
                says("user", "Look it up."),
                *(calls("search", "{}", "c1"), result("c1", "found"), calls("open", "{}", "c2"), result("c2", "Oslo")),
            ]
            answer, whose = says("assistant", "Oslo."), user(f"u{number % 2}")
            record = interaction(name, messages, response=answer, success=True, user=whose)
            assert not workspace.store.append([record]).refused
        recipe = package_recipe("tool_selection")
        workspace.store.append([Consent(**base("no"), user=user("u1"), purpose=recipe.purpose, granted=False)])
        version = workspace.propose_dataset(recipe, actor="ann").version
        assert json.loads((version.path / "patterns.json").read_bytes())["trajectories"] == 3
        assert version.verify() == []
