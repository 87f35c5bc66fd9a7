"""An export that takes the place of an erased one is counted with the same tokenizer, where that is still there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.dataset.support import interaction, says, user
from tests.export.tokenizers_made import CHATML, MARKED, save_tokenizer
from tracemill.core.examples import ExportManifest
from tracemill.core.settings import load_settings
from tracemill.dataset.recipe import Recipe
from tracemill.export.source import SOURCE, tokenizer_of
from tracemill.export.write import ExportReport
from tracemill.workspace import Workspace

pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
GONE = interaction("0", [says("user", "question 0"), says("assistant", "answer 0")], user=user("u0"), success=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "empty.yaml").touch()
    settings = load_settings({"workspace": str(tmp_path / "w")}, environment={}, config=tmp_path / "empty.yaml")
    with Workspace.open(settings=settings) as opened:
        opened.store.append(
            [
                GONE,
                *(
                    interaction(
                        *(str(at), [says("user", f"question {at}"), says("assistant", f"answer {at}")]),
                        user=user(f"u{at}"),
                        success=True,
                    )
                    for at in range(1, 8)
                ),
            ]
        )
        opened.build_dataset(Recipe(name="d", split={"train": 1.0}, signals=("supervised",)))
        yield opened


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return save_tokenizer(tmp_path / "tokenizer", ["question answer"], CHATML)


def erased(workspace: Workspace, report: ExportReport) -> tuple[ExportManifest, list[str]]:
    """The export that takes the place of one, and what the audit log says of its tokens."""
    workspace.erase("interaction", GONE.id)
    again = report.path.with_name("d-v2-trl-sft")
    made = msgspec.json.decode((again / "export.json").read_bytes(), type=ExportManifest)
    assert made.rows == {"train": 7}
    said = [entry.detail["why"] for entry in workspace.audit_log.entries() if entry.action == "export.tokens"]
    return made, said


def test_it_is_counted_with_the_same_tokenizer(workspace: Workspace, tokenizer: Path) -> None:
    report = workspace.export("d", "trl-sft", tokenizer=tokenizer, max_tokens=10)
    made, said = erased(workspace, report)
    assert made.tokens is not None
    assert report.manifest.tokens is not None
    assert (made.tokens.tokenizer_sha256, made.tokens.max_tokens) == (report.manifest.tokens.tokenizer_sha256, 10)
    assert made.tokens.splits["train"].sequences == 7
    assert said == []


@pytest.mark.parametrize("how", ["removed", "damaged", "without a template"])
def test_a_tokenizer_that_is_gone_is_said(workspace: Workspace, tokenizer: Path, how: str) -> None:
    report = workspace.export("d", "trl-sft", tokenizer=tokenizer)
    if how == "removed":
        shutil.rmtree(tokenizer)
    elif how == "damaged":
        (tokenizer / "tokenizer.json").write_text("{")
    else:
        config = json.loads((tokenizer / "tokenizer_config.json").read_bytes())
        config.pop("chat_template", None)
        (tokenizer / "tokenizer_config.json").write_text(json.dumps(config))
        (tokenizer / "chat_template.jinja").unlink(missing_ok=True)
    made, said = erased(workspace, report)
    assert made.tokens is None
    assert said == ["not counted: the tokenizer is gone or cannot be read any more"]


def test_another_tokenizer_in_its_folder_is_said(workspace: Workspace, tokenizer: Path) -> None:
    report = workspace.export("d", "trl-sft", tokenizer=tokenizer)
    shutil.rmtree(tokenizer)
    save_tokenizer(tokenizer, ["other words"], MARKED)
    made, said = erased(workspace, report)
    assert made.tokens is not None
    assert said == ["counted with a tokenizer that is not as it was"]


def test_an_export_of_before_says_that_nobody_noted_it(workspace: Workspace, tokenizer: Path) -> None:
    report = workspace.export("d", "trl-sft", tokenizer=tokenizer)
    (report.path / SOURCE).unlink()
    made, said = erased(workspace, report)
    assert made.tokens is None
    assert said == ["not counted: it was not noted where the tokenizer lies"]


def test_without_a_tokenizer_nothing_is_noted_nor_said(workspace: Workspace, tokenizer: Path) -> None:
    workspace.export("d", "trl-sft", tokenizer=tokenizer)
    report = workspace.export("d", "trl-sft")
    assert tokenizer_of(report.path) is None
    made, said = erased(workspace, report)
    assert (made.tokens, said) == (None, [])


def test_where_the_tokenizer_lies_is_in_no_manifest(
    workspace: Workspace, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = workspace.export("d", "trl-sft", tokenizer=Path("tokenizer"))
    assert tokenizer_of(report.path) == tokenizer.resolve()
    before = (report.path / "export.json").read_bytes()
    shutil.copytree(tokenizer, tmp_path / "elsewhere")
    workspace.export("d", "trl-sft", tokenizer=tmp_path / "elsewhere")
    assert (report.path / "export.json").read_bytes() == before
    for path in report.path.iterdir():
        assert path.name == SOURCE or str(tmp_path).encode() not in path.read_bytes()
