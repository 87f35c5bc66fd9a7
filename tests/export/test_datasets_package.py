"""What Hugging Face `datasets` reads back from an export is what was written: no null keys, no changed values."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import calls, feedback, interaction, list_store, result, says
from tests.export.test_formats import TOOLS
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.export.loader import as_loaded
from tracemill.export.write import export_version

datasets = pytest.importorskip("datasets", minversion="4.7", reason="Hugging Face `datasets` is not installed")


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()


def load(folder: Path, split: str, cache: Path) -> list[dict[str, Any]]:
    loaded = datasets.load_dataset(str(folder), split=split, cache_dir=str(cache))
    return [dict(row) for row in loaded]


def odd_arguments() -> list[str]:
    """Arguments whose objects have nothing in common: what a unified schema would fill with nulls."""
    return [
        '{"city": "Oslo"}',
        '{"count": 3, "nested": {"deep": [1, "two", null, {"x": true}]}}',
        "{}",
        '{"city": 7}',
        '{"list": [], "empty": {}, "null": null, "text": "null", "digits": "123"}',
        '{"price": 12.5, "big": 18446744073709551615, "small": -9223372036854775808}',
        '{"unicode": "\\u0000 \\u2028 é 世 <b>/"}',
    ]


def records() -> list[AnyRecord]:
    made: list[AnyRecord] = []
    for number, arguments in enumerate(odd_arguments() * 3):
        messages = [
            *([says("system", "s")] if number % 2 else []),
            says("user", str(number), **({"name": "ann"} if number % 3 else {})),
            calls("f", arguments, f"c{number}"),
            result(f"c{number}", '{"ok": true}', "f"),
        ]
        fields: dict[str, Any] = {"tools": TOOLS} if number % 2 else {}
        answer = says("assistant", f"a{number}", **({"reasoning_content": "r"} if number % 4 else {}))
        made.append(interaction(str(number), messages, response=answer, success=True, **fields))
        made.append(feedback(f"up {number}", str(number), kind="thumbs_up" if number % 2 else "thumbs_down"))
        made.append(interaction(f"edited {number}", messages, response=answer))
        made.append(feedback(f"edit {number}", f"edited {number}", kind="edit", correction="better"))
    return made


@pytest.mark.parametrize("name", ["openai-chat", "trl-sft", "trl-dpo", "trl-kto"])
def test_rows_come_back_as_they_were_written(name: str, tmp_path: Path) -> None:
    recipe = Recipe(name="odd", split={"train": 0.6, "test": 0.4})
    version = build_version(list_store(records()), recipe, tmp_path / "datasets")
    report = export_version(version, name)
    assert report.manifest.refused == {}
    assert set(report.manifest.rows) == {"train", "test"}
    for split in report.manifest.rows:
        written = [json.loads(line) for line in (report.path / f"{split}.jsonl").read_bytes().splitlines()]
        read = load(report.path, split, tmp_path / "cache")
        for row in read:
            for column in ("tools", "parallel_tool_calls"):
                if row.get(column) is None:  # a column that this row does not have
                    row.pop(column, None)
        assert read == written


def test_without_the_card_the_loader_adds_null_keys_where_it_sees_no_difference(tmp_path: Path) -> None:
    """The danger the card is for: a second batch of rows whose objects differ from those of the first."""
    (tmp_path / "plain").mkdir()
    path = tmp_path / "plain" / "train.jsonl"
    path.write_text('{"a": {"x": 1}}\n{"a": {"x": 2}}\n')
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features == datasets.Features({"a": {"x": datasets.Value("int64")}})


def random_floats(count: int) -> list[float]:
    draw = random.Random(5)
    found = [draw.uniform(0, 10 ** draw.randint(0, 17)) for _ in range(count)]
    found += [round(value, draw.randint(0, 14)) for value in found]
    found += [-value for value in found[:100]]
    found += [struct.unpack("<d", draw.randbytes(8))[0] for _ in range(count)]
    return [value for value in found if math.isfinite(value)]


def test_numbers_are_read_as_the_list_of_losses_says(tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    folder.mkdir()
    values = [0.94922, 12.99, 0.1, 100.0, -0.0, 1e16, 5e-324, *random_floats(1500)]
    lines = [msgspec.json.encode({"messages": [{"role": "user", "value": value}]}) for value in values]
    (folder / "train.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    features = datasets.Features({"messages": datasets.List(datasets.Json())})
    loaded = datasets.load_dataset(
        "json", data_files=str(folder / "train.jsonl"), split="train", features=features, cache_dir=str(tmp_path / "c")
    )
    read = [row["messages"][0]["value"] for row in loaded]
    unchanged = [value for value in values if as_loaded(value) == value]
    assert 1000 < len(unchanged) < len(values) - 1000
    wrong = [
        (value, found)
        for value, found in zip(values, read, strict=True)
        if (as_loaded(value) == value) != (found == value)
    ]
    assert wrong == []
