"""A store and what an import needs beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracemill.capture.importers import ImportContext, ImportReport, import_paths
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.records import User
from tracemill.core.settings import load_settings
from tracemill.store.hot import HotStore
from tracemill.store.tiered import open_store

RunImport = Callable[..., ImportReport]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    opened = open_store(load_settings({"workspace": str(tmp_path / "workspace")}, environment={}))
    yield opened
    opened.close()


@pytest.fixture
def pseudonymize() -> Callable[[str | int], User]:
    return Pseudonymizer(b"1" * 32).user


@pytest.fixture
def run(store: HotStore, tmp_path: Path, pseudonymize: Callable[[str | int], User]) -> RunImport:
    """Imports paths of a format into the store."""

    def run_import(format: str, *paths: Path, **context: Any) -> ImportReport:  # noqa: A002
        given = ImportContext(pseudonymize=pseudonymize, **context)
        return import_paths(store, format, paths, context=given, rejects=tmp_path / "rejects.jsonl")

    return run_import
