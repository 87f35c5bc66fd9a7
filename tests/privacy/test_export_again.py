"""An export that erasure took away is written again as it was asked for: with its fold held out and its columns."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from tests.privacy.scanning import hits
from tests.privacy.world import fill, settings_of
from tracemill.core.examples import ExportManifest
from tracemill.dataset.recipe import parse_recipe
from tracemill.workspace import Workspace


def test_a_fold_with_columns_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "workspace"
    ann, _ = fill(path)
    recipe = parse_recipe({"name": "folded", "split": {"folds": 2, "group": "conversation"}, "features": ["turns"]})
    with Workspace.open(path, settings=settings_of(path)) as workspace:
        workspace.build_dataset(recipe)
        old = workspace.export("folded", "trl-sft", fold=1, columns=["turns"])
        assert old.path.name == "folded-v1-trl-sft-fold-1"
        workspace.erase("user", "ann", reason="she asked", actor="dpo")
    again = path / "exports" / "folded-v2-trl-sft-fold-1"
    made = msgspec.json.decode((again / "export.json").read_bytes(), type=ExportManifest)
    assert (made.fold, made.columns) == (1, ["turns"])
    rows = [json.loads(line) for split in made.rows for line in (again / f"{split}.jsonl").read_bytes().splitlines()]
    assert rows
    assert all(row["turns"] > 0 for row in rows)
    assert hits(path, ann.needles()) == []
