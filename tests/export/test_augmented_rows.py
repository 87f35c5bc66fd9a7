"""Rows that were made of others say so in every format and container that can, and are listed where they cannot."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dataset.support import interaction, list_store, says, user
from tests.export import tfrecords
from tracemill.capture.importers.atif import read_atif
from tracemill.capture.importers.base import ImportContext
from tracemill.core.errors import ExportError
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.records import AnyRecord
from tracemill.dataset.augmented import Augmentation
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.export.columns import AUGMENTED
from tracemill.export.formats import FORMATS
from tracemill.export.write import export_version

SUPERVISED = [name for name, made in FORMATS.items() if made.example.__struct_config__.tag == "supervised"]
UNMARKED = ["openai-chat", "gemini", "mistral", "together", "embedding-pairs"]
IN_DOCUMENTS = ["atif", "conversation-example"]


def records() -> list[AnyRecord]:
    return [
        interaction(
            f"i{at}",
            [says("user", f"please show me the quickest way to change the address of number {at}, today"),
             says("assistant", f"I will see to it, as number {at}.")],
            success=True,
            user=user(f"u{at}"),
            minutes=at,
        )
        for at in range(8)
    ]  # fmt: skip


def built(folder: Path, augment: Augmentation | None) -> Version:
    recipe = Recipe(signals=("supervised",), augment=augment, split={"train": 0.7, "test": 0.3}, features=("turns",))
    return build_version(list_store(records()), recipe, folder)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    made = built(tmp_path_factory.mktemp("made") / "datasets", Augmentation(operations=("deletion", "swap"), seed=7))
    assert sum(row.augmented is not None for row in made.examples("train")) > 3
    assert sum(row.augmented is None for row in made.examples("train")) >= 2
    return made


def marks(version: Version, split: str) -> list[Any]:
    """The marks of a split's rows, in their order; None for what was recorded."""
    found = []
    for row in version.examples(split, "supervised"):
        mark = row.augmented
        found.append(None if mark is None else {"operation": mark.operation, "source": mark.source, "seed": mark.seed})
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def read(text: str) -> Any:
    return json.loads(text) if text else None


def test_no_supervised_format_was_forgotten() -> None:
    columns = {"trl-sft", "trl-prompt-completion", "sharegpt", "alpaca", "axolotl"}
    assert {*UNMARKED, *IN_DOCUMENTS} | columns == set(SUPERVISED)


@pytest.mark.parametrize("name", SUPERVISED)
def test_every_format_says_it_or_lists_it(version: Version, tmp_path: Path, name: str) -> None:
    report = export_version(version, name, tmp_path)
    listed = [loss for loss in lines(tmp_path / "losses.jsonl") if loss["reason"] == "augmented_not_marked"]
    assert report.manifest.refused == {}
    for split in version.splits():
        rows, expected = lines(tmp_path / f"{split}.jsonl"), marks(version, split)
        numbers = [loss["row"] for loss in listed if loss["split"] == split]
        if name in UNMARKED:
            assert not any(AUGMENTED in row for row in rows)
            assert numbers == [at for at, mark in enumerate(expected, 1) if mark is not None]
            continue
        assert numbers == []
        if name == "atif":
            found = [row.get("extra", {}).get(AUGMENTED) for row in rows]
        elif name == "conversation-example":
            found = [row["conversation_example"]["metadata"].get(AUGMENTED) for row in rows]
        else:
            found = [read(row[AUGMENTED]) for row in rows]
        assert found == expected


@pytest.mark.parametrize("name", ["openai-chat", "alpaca", "trl-sft"])
def test_containers_have_it_as_a_column(version: Version, tmp_path: Path, name: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("google_crc32c")
    for container in ("parquet", "csv", "tfrecord"):
        report = export_version(version, name, tmp_path / container, container=container)
        assert "augmented_not_marked" not in report.manifest.losses
    for split in version.splits():
        expected = marks(version, split)
        table = parquet.read_table(tmp_path / "parquet" / f"{split}.parquet")
        assert str(table.schema.field(AUGMENTED).type) == "string"
        assert [read(value) for value in table[AUGMENTED].to_pylist()] == expected
        with (tmp_path / "csv" / f"{split}.csv").open(newline="") as file:
            assert [read(row[AUGMENTED]) for row in csv.DictReader(file)] == expected
        features = [tfrecords.features(one) for one in tfrecords.records(tmp_path / "tfrecord" / f"{split}.tfrecord")]
        texts = [row[AUGMENTED][0] for row in features]
        assert [read(text.decode()) for text in texts if isinstance(text, bytes)] == expected


@pytest.mark.parametrize("container", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["trl-sft", "sharegpt", "atif"])
def test_hugging_face_loads_it(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, container: str
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    export_version(version, name, tmp_path / "to", container=container)
    loaded = datasets.load_dataset(str(tmp_path / "to"), cache_dir=str(tmp_path / "cache"))
    for split in version.splits():
        if name == "atif":
            found = [(row["extra"] or {}).get(AUGMENTED) for row in loaded[split]]
        else:
            found = [read(row[AUGMENTED]) for row in loaded[split]]
        assert found == marks(version, split)


def test_a_loader_that_guesses_types_reads_it_too(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainers that take the files alone get one text column whatever the first rows hold."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    export_version(version, "sharegpt", tmp_path / "to")
    files = {split: str(tmp_path / "to" / f"{split}.jsonl") for split in version.splits()}
    loaded = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    for split in version.splits():
        assert [read(text) for text in loaded[split][AUGMENTED]] == marks(version, split)


def test_atif_documents_keep_the_mark_when_they_come_back(version: Version, tmp_path: Path) -> None:
    export_version(version, "atif", tmp_path)
    context = ImportContext(pseudonymize=Pseudonymizer(b"k" * 32).user)
    found = [getattr(one, "extra", {}) for one in read_atif(tmp_path / "train.jsonl", context)]
    assert [one["atif"].get("extra", {}).get(AUGMENTED) for one in found] == marks(version, "train")


def test_it_stands_behind_the_features(version: Version, tmp_path: Path) -> None:
    export_version(version, "trl-sft", tmp_path, columns=["turns"])
    assert all(list(row)[-2:] == ["turns", AUGMENTED] for row in lines(tmp_path / "train.jsonl"))
    with pytest.raises(ExportError, match="no feature"):
        export_version(version, "trl-sft", tmp_path, columns=[AUGMENTED])


def test_a_version_without_augmentation_is_exported_as_before(tmp_path: Path) -> None:
    version = built(tmp_path / "datasets", None)
    for name in SUPERVISED:
        report = export_version(version, name, tmp_path / name)
        assert "augmented_not_marked" not in report.manifest.losses
        assert not any(AUGMENTED in json.dumps(row) for row in lines(report.path / "train.jsonl"))
        head = yaml.safe_load((report.path / "README.md").read_text().split("---")[1])
        assert not {AUGMENTED, "extra"} & {entry["name"] for entry in head["dataset_info"]["features"]}
