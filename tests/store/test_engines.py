"""Any engine reads the archive's files by their plain layout: the queries of docs/archive.md, run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pytest

from tests.store.test_archive import archive, interaction
from tracemill.core.records import Feedback, Interaction
from tracemill.core.settings import load_settings
from tracemill.store.tiered import open_store

DOCS = Path(__file__).resolve().parents[2] / "docs" / "archive.md"


@pytest.fixture
def archived(tmp_path: Path) -> tuple[Path, list[Interaction]]:
    store = open_store(load_settings({"workspace": str(tmp_path)}, environment={}))
    records = [interaction(number) for number in range(40)]
    base = {"time": records[0].time, "schema_version": 1, "producer": "p", "sequence": 0, "platform": "shop"}
    said = Feedback(id=records[0].id[:-12] + "0123456789ab", interaction_id=records[1].id, kind="thumbs_up", **base)  # type: ignore[arg-type]
    store.append([*records, said])
    archive(store)
    store.close()
    return tmp_path / "archive", records


def rows(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def test_duckdb_runs_the_queries_of_the_documentation(archived: tuple[Path, list[Interaction]]) -> None:
    folder, records = archived
    (block,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    queries = [query.strip() for query in block.split(";") if query.strip()]
    assert len(queries) == 3
    found = [rows(query.replace("tracemill-data/archive", str(folder))) for query in queries]
    by_platform = {row[0]: row[1] for row in found[0]}
    assert by_platform == {
        name: sum(record.platform == name for record in records) for name in {record.platform for record in records}
    }
    assert {row[0] for row in found[1]} == {"question 7"}
    assert len(found[2]) == 1
    assert found[2][0][1] == records[1].response["content"]  # type: ignore[index]


def test_arrow_prunes_by_partition_and_column(archived: tuple[Path, list[Interaction]]) -> None:
    folder, records = archived
    dataset = ds.dataset(folder, partitioning="hive", exclude_invalid_files=True)
    shop = dataset.to_table(columns=["id", "success"], filter=ds.field("platform") == "shop")
    assert shop.num_rows == sum(record.platform == "shop" for record in records) + 1
    assert shop.column_names == ["id", "success"]


def test_json_lines_are_read_too(tmp_path: Path) -> None:
    store = open_store(load_settings({"workspace": str(tmp_path), "archive_format": "jsonl.gz"}, environment={}))
    records = [interaction(number) for number in range(9)]
    store.append(records)
    archive(store)
    assert list(store.scan()) == records
    store.close()
    (names,) = rows(f"SELECT list(DISTINCT conversation_id) FROM read_json('{tmp_path}/archive/**/*.jsonl.gz')")[0]
    assert set(names) == {record.conversation_id for record in records}
    assert json.dumps(sorted(names))
