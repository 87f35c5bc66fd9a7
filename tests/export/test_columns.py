"""Feature columns and folds in exports, read by programs that did not write them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.dataset.support import calls, interaction, list_store, result, reward, says, user
from tests.export import tfrecords
from tracemill.core.errors import ExportError
from tracemill.core.examples import ExportManifest
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import parse_recipe
from tracemill.dataset.version import Version
from tracemill.export.columns import STRICT, with_columns
from tracemill.export.containers import cell_text
from tracemill.export.formats import FORMATS
from tracemill.export.write import ExportReport, export_version

NAMES = ["turns", "cost_usd", "success", "platform"]


def records() -> list[AnyRecord]:
    made: list[AnyRecord] = []
    for number in range(30):
        talk = [says("user", f"q{number}"), calls("f", f'{{"n": {number}}}', "c"), result("c", "r", "f")]
        made.append(
            interaction(
                str(number),
                talk,
                response=says("assistant", f"a{number}"),
                success=True,
                user=user(f"u{number % 12}"),
                platform="=formula()" if number % 2 else "chat",
                cost_usd=None if number % 3 else number / 8,
            )
        )
        made.append(reward(str(number), 1.0))
    return made


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    recipe = parse_recipe({"name": "chats", "split": {"folds": 3}, "features": [*NAMES, "label"]})
    return build_version(list_store(records()), recipe, tmp_path_factory.mktemp("built") / "datasets")


def expected(version: Version, split: str, tag: str, names: list[str]) -> list[dict[str, Any]]:
    return [{name: example.features.get(name) for name in names} for example in version.examples(split, tag)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def header(report: ExportReport) -> dict[str, Any]:
    head: dict[str, Any] = yaml.safe_load((report.path / "README.md").read_text().split("---")[1])
    return head


# -- folds


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_one_fold_is_the_test_and_the_others_are_for_training(version: Version, fold: int, tmp_path: Path) -> None:
    report = export_version(version, "trl-sft", tmp_path, fold=fold)
    whole = export_version(version, "trl-sft", tmp_path / "whole")
    others = [number for number in (1, 2, 3) if number != fold]
    assert lines(tmp_path / "test.jsonl") == lines(whole.path / f"fold_{fold}.jsonl")
    assert lines(tmp_path / "train.jsonl") == [
        row for other in others for row in lines(whole.path / f"fold_{other}.jsonl")
    ]
    assert sum(report.manifest.rows.values()) == sum(whole.manifest.rows.values()) == 30
    assert report.manifest.fold == fold
    assert {entry["split"] for entry in header(report)["configs"][0]["data_files"]} == {"train", "test"}


def test_a_fold_has_a_folder_of_its_own_and_leaves_nothing_of_another_export(version: Version, tmp_path: Path) -> None:
    assert export_version(version, "trl-kto", fold=2).path.name == "chats-v1-trl-kto-fold-2"
    export_version(version, "trl-sft", tmp_path, container="csv", fold=2)
    export_version(version, "trl-sft", tmp_path, container="csv")
    assert {path.name for path in tmp_path.glob("*.csv")} == {"fold_1.csv", "fold_2.csv", "fold_3.csv"}
    export_version(version, "trl-sft", tmp_path, fold=1)
    assert {path.stem for path in tmp_path.glob("*.jsonl")} == {"train", "test", "losses"}


def test_a_fold_that_is_not_there_is_named(version: Version, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has no fold 4") as caught:
        export_version(version, "trl-sft", tmp_path, fold=4)
    assert caught.value.hint == "Folds: 1, 2, 3."
    plain = build_version(list_store(records()), parse_recipe({"name": "plain"}), tmp_path)
    with pytest.raises(ExportError, match="has no folds"):
        export_version(plain, "trl-sft", tmp_path, fold=1)


def test_a_fold_without_examples_leaves_the_rest(tmp_path: Path) -> None:
    few = [record for record in records() if record.id in {each.id for each in records()[:4]}]
    version = build_version(list_store(few), parse_recipe({"name": "few", "split": {"folds": 5}}), tmp_path / "d")
    empty = next(n for n in range(1, 6) if f"fold_{n}" not in version.splits())
    report = export_version(version, "trl-sft", tmp_path / "out", fold=empty)
    assert report.manifest.rows == {"train": 2}


# -- columns


def test_json_lines_have_features_and_nulls(version: Version, tmp_path: Path) -> None:
    report = export_version(version, "trl-sft", tmp_path / "with", columns=NAMES)
    plain = export_version(version, "trl-sft", tmp_path / "without")
    assert report.manifest.columns == NAMES
    assert plain.manifest.columns == []
    for split in version.splits():
        rows = lines(report.path / f"{split}.jsonl")
        assert [{name: row.pop(name) for name in NAMES} for row in rows] == expected(
            version, split, "supervised", NAMES
        )
        assert rows == lines(plain.path / f"{split}.jsonl")
    types = {entry["name"]: entry.get("dtype") for entry in header(report)["dataset_info"]["features"]}
    assert {name: types[name] for name in NAMES} == {
        "turns": "int64",
        "cost_usd": "float64",
        "success": "bool",
        "platform": "string",
    }


def test_parquet_has_columns_with_types(version: Version, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    export_version(version, "openai-chat", tmp_path, container="parquet", columns=["all"])
    for split in version.splits():
        read = parquet.read_table(tmp_path / f"{split}.parquet")
        assert [str(read.schema.field(name).type) for name in NAMES] == ["int64", "double", "bool", "string"]
        names = [*NAMES, "label"]
        assert read.select(names).to_pylist() == expected(version, split, "supervised", names)


def test_csv_cells_are_safe_and_empty_where_nothing_is_known(version: Version, tmp_path: Path) -> None:
    export_version(version, "gemini", tmp_path, container="csv", columns=NAMES)
    for split in version.splits():
        with (tmp_path / f"{split}.csv").open(newline="") as file:
            read = list(csv.DictReader(file))
        assert {row["platform"] for row in read} <= {"chat", "'=formula()"}
        found = [
            {
                **{name: json.loads(row[name]) if row[name] else None for name in NAMES[:3]},
                "platform": cell_text(row["platform"]),
            }
            for row in read
        ]
        assert found == expected(version, split, "supervised", NAMES)


def test_tfrecord_has_features_of_them(version: Version, tmp_path: Path) -> None:
    pytest.importorskip("google_crc32c")
    export_version(version, "gemini", tmp_path, container="tfrecord", columns=NAMES)
    for split in version.splits():
        read = [tfrecords.features(record) for record in tfrecords.records(tmp_path / f"{split}.tfrecord")]
        found = []
        for row in read:
            words = {name: row[name][0] for name in ("cost_usd", "platform") if name in row}
            texts = {name: value.decode() for name, value in words.items() if isinstance(value, bytes)}
            cost = json.loads(texts["cost_usd"]) if "cost_usd" in texts else None
            found.append(
                dict(zip(NAMES, [row["turns"][0], cost, bool(row["success"][0]), texts["platform"]], strict=True))
            )
        assert found == expected(version, split, "supervised", NAMES)


def test_hugging_face_loads_them(version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    for container in ("jsonl", "parquet"):
        to = tmp_path / container
        export_version(version, "trl-sft", to, container=container, columns=NAMES, fold=2)
        loaded = datasets.load_dataset(str(to), split="test", cache_dir=str(tmp_path / f"cache-{container}"))
        found = [{name: row[name] for name in NAMES} for row in loaded]
        assert found == expected(version, "fold_2", "supervised", NAMES)


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_service_reads_has_no_other_fields(version: Version, tmp_path: Path, name: str) -> None:
    tag = str(FORMATS[name].example.__struct_config__.tag)
    if not version.count(type=tag) or name == "alpaca":
        pytest.skip("this version has no row of the format")
    if name.startswith(STRICT):
        with pytest.raises(ExportError, match="take no other fields"):
            export_version(version, name, tmp_path, columns=["turns"])
        report = export_version(version, name, tmp_path, columns=["turns"], container="csv")
    else:
        report = export_version(version, name, tmp_path, columns=["turns"])
        assert all("turns" in row for row in lines(tmp_path / "fold_1.jsonl"))
    assert report.rows == 30


@pytest.mark.parametrize(
    ("format_name", "columns", "message", "hint"),
    [
        ("trl-sft", ["trns"], "no feature 'trns'", "Did you mean turns? Features: turns, cost_usd"),
        ("trl-sft", ["zzz"], "no feature 'zzz'", "Features: turns, "),
        ("trl-kto", ["label"], "trl-kto has a field label of its own", "Leave"),
        ("openai-chat", ["turns"], "openai-chat rows take no other fields", "parquet"),
    ],
)
def test_what_is_wrong_is_named(
    version: Version, tmp_path: Path, format_name: str, columns: list[str], message: str, hint: str
) -> None:
    with pytest.raises(ExportError) as caught:
        export_version(version, format_name, tmp_path, columns=columns)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_version_without_features_says_so(tmp_path: Path) -> None:
    plain = build_version(list_store(records()), parse_recipe({"name": "plain"}), tmp_path)
    with pytest.raises(ExportError, match="has no features"):
        export_version(plain, "trl-sft", tmp_path, columns=["turns"])


def test_an_export_of_before_can_be_read(version: Version, tmp_path: Path) -> None:
    plain = json.loads(msgspec.json.encode(export_version(version, "trl-sft", tmp_path).manifest))
    assert (plain.pop("fold"), plain.pop("columns")) == (None, [])
    assert msgspec.convert(plain, ExportManifest).format == "trl-sft"


def test_columns_stand_behind_the_row(version: Version) -> None:
    example = next(version.examples())
    assert with_columns(b'{"a":1}', example, []) == b'{"a":1}'
    assert json.loads(with_columns(b'{"a":1}', example, ["turns", "absent"])) == {
        "a": 1,
        "turns": example.features["turns"],
        "absent": None,
    }
    assert json.loads(with_columns(b"{}", example, ["turns"])) == {"turns": example.features["turns"]}
