"""Every format in every container, read by programs that did not write it, row for row."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import calls, feedback, interaction, list_store, open_store, result, reward, says, tau_bench
from tests.export import tfrecords
from tests.export.test_consumers import TOOLS
from tracemill.core.errors import ExportError
from tracemill.core.examples import ExportManifest
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.export.containers import CONTAINERS, SplitFiles, cell_text
from tracemill.export.formats import FORMATS
from tracemill.export.write import ExportReport, export_version

REAL = [
    *("openai-chat", "trl-sft", "trl-prompt-completion", "trl-kto", "sharegpt", "axolotl"),
    *("gemini", "mistral", "together", "embedding-pairs", "atif", "trajectory-preference"),
]
MADE = ["alpaca", "sharegpt-kto"]
PREFERENCES = [name for name, made in FORMATS.items() if made.example.__struct_config__.tag == "preference"]


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder = tmp_path_factory.mktemp("real")
    store = open_store(folder, list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json")))
    built = build_version(store, Recipe(name="airline", split={"train": 0.8, "test": 0.2}), folder / "datasets")
    store.close()
    return built


def preferences() -> list[AnyRecord]:
    """Pairs that part at an assistant's message, talk without tools, and texts a spreadsheet would take for formulas."""
    made: list[AnyRecord] = []
    for number in range(12):
        shared = [
            says("system", "s"),
            says("user", f"=SUM(A{number}) 'quoted', \"twice\"\r\nand é"),
            calls("f", '{"a": 1.5}', "c1"),
        ]
        shared.append(result("c1", '{"ok": true}', "f"))
        for trial, answer in enumerate(("-better", "@worse")):
            made.append(
                interaction(
                    f"{number} {trial}",
                    shared,
                    response=says("assistant", answer),
                    success=trial == 0,
                    task_id=f"t{number}",
                    trial=trial,
                    tools=TOOLS if number % 2 else [],
                )
            )
            made.append(reward(f"{number} {trial}", 1.0 - trial))
        made.append(feedback(f"thumb {number}", f"talk {number}", kind="thumbs_down" if number % 3 else "thumbs_up"))
        talk = [says("user", f"+{number}"), says("assistant", "hello"), says("user", "more\tplease\x00")]
        made.append(interaction(f"talk {number}", talk, response=says("assistant", f"'{number}"), success=True))
    return made


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Version:
    recipe = Recipe(name="paired", split={"train": 0.7, "test": 0.3})
    return build_version(list_store(preferences()), recipe, tmp_path_factory.mktemp("paired") / "datasets")


def files(report: ExportReport, split: str) -> list[Path]:
    ending = CONTAINERS[report.manifest.container]
    return sorted(
        report.path / f.path for f in report.manifest.files if f.path.startswith(split) and f.path.endswith(ending)
    )


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data) if path.suffix == ".zst" else data


def lines(report: ExportReport, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in files(report, split) for line in unpacked(path).splitlines()]


def from_text(value: Any, kind: str) -> Any:
    """A column's value with its JSON text parsed."""
    if value is None:
        return None
    if kind == "list: json":
        return [json.loads(element) for element in value] if isinstance(value, list) else json.loads(value)
    if kind == "dtype: string" or not isinstance(value, str):
        return value
    return json.loads(value)


def present(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A row of columns without those that this row does not have."""
    made = FORMATS[name]
    columns = {**made.columns, **made.optional}
    optional = {*made.optional, "rejected_tools", "chosen_score", "rejected_score"}
    plain = {key: from_text(value, columns[key]) for key, value in row.items()}
    return {key: value for key, value in plain.items() if value is not None or key not in optional}


def in_parquet(report: ExportReport, split: str) -> list[dict[str, Any]]:
    duckdb = pytest.importorskip("duckdb")
    found = []
    for path in files(report, split):
        table = duckdb.sql(f"select * from read_parquet('{path}')")
        found += [
            present(dict(zip(table.columns, row, strict=True)), report.manifest.format) for row in table.fetchall()
        ]
    return found


def in_csv(report: ExportReport, split: str) -> list[dict[str, Any]]:
    made = FORMATS[report.manifest.format]
    columns = {**made.columns, **made.optional}
    found = []
    for path in files(report, split):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for cell in row.values():
                    assert cell[:1] not in tuple("=+@\t\r") or not cell
                whole = {
                    key: cell_text(cell) if columns[key] == "dtype: string" else cell or None
                    for key, cell in row.items()
                }
                found.append(present(whole, report.manifest.format))
    return found


def in_tfrecord(report: ExportReport, split: str) -> list[dict[str, Any]]:
    made = FORMATS[report.manifest.format]
    columns = {**made.columns, **made.optional}
    found = []
    for path in files(report, split):
        for record in tfrecords.records(path, check=False):
            row = {name: from_feature(values, columns[name]) for name, values in tfrecords.features(record).items()}
            found.append(row)
    return found


def from_feature(values: list[bytes] | list[int], kind: str) -> Any:
    """What a feature stands for, by docs/exports.md."""
    if kind.startswith("list"):
        return [json.loads(value) for value in values if isinstance(value, bytes)]
    (value,) = values
    if isinstance(value, int):
        return bool(value) if kind == "dtype: bool" else value
    return value.decode() if kind == "dtype: string" else json.loads(value)


READERS = {"parquet": in_parquet, "csv": in_csv, "tfrecord": in_tfrecord}


@pytest.mark.parametrize("name", [*PREFERENCES, *MADE])
def test_the_same_rows_are_in_every_container(name: str, paired: Version, tmp_path: Path) -> None:
    """Rows with texts that containers could stumble over; test_all_real.py has those of real trajectories."""
    plain = export_version(paired, name, tmp_path / "plain")
    assert set(plain.manifest.rows) == {"train", "test"}
    for container in CONTAINERS:
        report = export_version(paired, name, tmp_path / container, container=container, shard_bytes=2_000)
        assert (report.manifest.rows, report.manifest.losses) == (plain.manifest.rows, plain.manifest.losses)
        read = READERS.get(container, lines)
        for split in plain.manifest.rows:
            assert read(report, split) == lines(plain, split), container


@pytest.mark.parametrize("container", sorted(CONTAINERS))
def test_a_container_is_the_same_bytes_again_and_nothing_stale_stays(
    container: str, real: Version, tmp_path: Path
) -> None:
    export_version(real, "sharegpt", tmp_path, container="parquet", shard_bytes=50_000)
    first = export_version(real, "sharegpt", tmp_path, container=container, shard_bytes=150_000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = export_version(real, "sharegpt", tmp_path, container=container, shard_bytes=150_000)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert again == first
    assert set(before) == {file.path for file in first.manifest.files} | {"export.json", ".lock"}
    assert sum(f.rows for f in first.manifest.files if f.path.startswith("train")) == first.manifest.rows["train"]
    assert all(f.bytes == len(before[f.path]) for f in first.manifest.files)
    if container == "jsonl":
        sizes = [f.bytes for f in first.manifest.files if f.path.startswith("train")]
        assert len(sizes) > 3
        assert max(sizes) <= 150_000


def test_a_row_larger_than_a_shard_has_a_file_of_its_own(tmp_path: Path) -> None:
    with SplitFiles(tmp_path, "train", "jsonl", {"a": "dtype: string"}, 30) as written:
        for text in ("x", "y" * 100, "z", "z"):
            written.write_row(json.dumps({"a": text}).encode())
    assert [file.rows for file in written.files] == [1, 1, 2]


def test_an_older_manifest_says_no_container() -> None:
    older = b'{"format":"f","dataset":"d","version":"v1","manifest_sha256":"","rows":{},"refused":{},"losses":{},"files":[]}'
    assert msgspec.json.decode(older, type=ExportManifest).container == "jsonl"


def test_what_is_no_container_is_said(paired: Version) -> None:
    with pytest.raises(ExportError, match="no container 'xml'"):
        export_version(paired, "trl-sft", container="xml")
    with pytest.raises(ExportError, match="holds no row"):
        export_version(paired, "trl-sft", shard_bytes=0)


def test_a_container_has_a_folder_of_its_own(paired: Version) -> None:
    assert export_version(paired, "alpaca", container="csv").path.name == "paired-v1-alpaca-csv"


DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
letters = st.sampled_from([*DANGEROUS, ";", "|", ",", "'", '"', "a", " "]) | st.characters(exclude_categories=["Cs"])


@given(st.lists(st.text(letters, max_size=8), min_size=1, max_size=5))
def test_any_text_survives_a_cell(texts: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        with SplitFiles(Path(folder), "train", "csv", {"a": "dtype: string"}, None) as written:
            for text in texts:
                written.write_row(json.dumps({"a": text}).encode())
        with (Path(folder) / "train.csv").open(newline="", encoding="utf-8") as file:
            cells = [row["a"] for row in csv.DictReader(file)]
    assert [cell_text(cell) for cell in cells] == texts
    for cell in cells:
        for part in re.split(r"[;|\t\r\n]", cell):  # as a program of another separator parts it
            assert not part.lstrip('"').startswith(DANGEROUS)


def test_texts_a_spreadsheet_would_run_are_marked(tmp_path: Path) -> None:
    texts = ["=1+1", "a;=1+1", "a\n-2+cmd|' /C calc'!A0", "a,=b", '";"@x', "a - b = c"]
    cells = ["'=1+1", "a;'=1+1", "a\n'-2+cmd|'' /C calc'!A0", "a,=b", '";\'"@x', "a - b = c"]
    with SplitFiles(tmp_path, "train", "csv", {"a": "dtype: string", "b": "list: json"}, None) as written:
        for text in texts:
            written.write_row(json.dumps({"a": text, "b": [text]}).encode())
    with (tmp_path / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["a"] for row in rows] == cells
    assert [json.loads(row["b"]) for row in rows] == [[text] for text in texts]
    assert not any(re.search(r"[;|][=+@-]", row["b"]) for row in rows)


def test_llama_factory_finds_its_files(real: Version) -> None:
    report = export_version(real, "sharegpt", shard_bytes=100_000)
    info = json.loads((report.path / "dataset_info.json").read_bytes())
    assert {entry["file_name"] for entry in info.values()} == {
        path.name for split in ("train", "test") for path in files(report, split)
    }
    first = lines(report, "train")[0]
    for entry in info.values():
        assert set(entry["columns"].values()) == first.keys()
        assert entry["formatting"] == "sharegpt"


def test_a_split_of_which_no_row_is_left_is_not_loaded(real: Version, tmp_path: Path) -> None:
    """LLaMA-Factory's KTO judges one message, and these labels are on whole attempts."""
    report = export_version(real, "sharegpt-kto", tmp_path)
    assert report.manifest.refused == {"answer_not_one_message": 200}
    assert json.loads((tmp_path / "dataset_info.json").read_bytes()) == {}
    assert "path:" not in (tmp_path / "README.md").read_text(encoding="utf-8")


# -- Hugging Face


@pytest.mark.parametrize("name", [*REAL, *PREFERENCES, *MADE])
@pytest.mark.parametrize("container", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_load_dataset_reads_the_folder(
    container: str, name: str, real: Version, paired: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", minversion="4.7", reason="Hugging Face `datasets` is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()
    version = real if name in REAL else paired
    plain = export_version(version, name, tmp_path / "plain")
    report = export_version(version, name, tmp_path / "folder", container=container, shard_bytes=1_000_000)
    loaded = datasets.load_dataset(str(report.path), cache_dir=str(tmp_path / "cache"))
    changed = {loss["row"] for loss in lines_of(report) if loss["reason"] == "changed_when_loaded"}
    for split in plain.manifest.rows:
        written = lines(plain, split)
        read = [dict(row) for row in loaded[split]]
        assert len(read) == len(written) > 0
        for number, (mine, theirs) in enumerate(zip(written, read, strict=True), 1):
            if number not in changed:
                kept = {key: value for key, value in theirs.items() if value is not None or key in mine}
                assert kept == mine


@pytest.mark.parametrize("name", ["openai-chat", "trl-kto", "sharegpt", "embedding-pairs"])
def test_load_dataset_reads_cells(name: str, real: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", minversion="4.7", reason="Hugging Face `datasets` is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()
    plain = export_version(real, name, tmp_path / "plain")
    report = export_version(real, name, tmp_path / "folder", container="csv", shard_bytes=1_000_000)
    loaded = datasets.load_dataset(str(report.path), cache_dir=str(tmp_path / "cache"))
    columns = {**FORMATS[name].columns, **FORMATS[name].optional}
    for split in plain.manifest.rows:
        read = []
        for row in loaded[split]:
            texts = {key: cell_text(row[key] or "") for key in row if columns[key] == "dtype: string"}
            read.append(present({**row, **texts}, name))
        assert read == lines(plain, split)


def lines_of(report: ExportReport) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (report.path / "losses.jsonl").read_bytes().splitlines()]


def test_the_card_has_what_the_hub_reads(paired: Version) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    report = export_version(paired, "embedding-triplets", container="parquet")
    text = (report.path / "README.md").read_text(encoding="utf-8")
    card = hub.DatasetCard(text)
    assert card.data.pretty_name == "paired@v1 as embedding-triplets"
    assert card.data.task_categories == ["sentence-similarity"]
    assert card.data.size_categories == ["n<1K"]
    header = yaml.safe_load(text.split("---")[1])
    assert [entry["split"] for entry in header["configs"][0]["data_files"]] == list(report.manifest.rows)
