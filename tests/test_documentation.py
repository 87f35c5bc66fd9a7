"""Every command, setting, record field and public name is documented, and the pages are those the code would write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tracemill
from scripts.cli_page import page as cli_page
from scripts.http_page import page as http_page
from tracemill.core.records import RECORD_TYPES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def test_the_command_line_page_is_what_the_commands_say() -> None:
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == cli_page(), "run: python scripts/cli_page.py"


def test_every_record_field_is_documented() -> None:
    text = (DOCS / "records.md").read_text(encoding="utf-8")
    for tag, record_type in RECORD_TYPES.items():
        assert f"## `{record_type.__name__}`" in text, tag
        for name in record_type.__struct_fields__:
            assert f"`{name}`" in text, f"{tag}.{name}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if f"docs/{page.name}" not in readme] == []


def test_the_readme_example_runs(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    code = example + "\nassert collector.deliver(30)\nprint(len(collector.get_training_data()))\n"
    environment = {"TRACEMILL_WORKSPACE": str(tmp_path / "workspace"), "PATH": "/usr/bin:/bin"}
    environment |= {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert found.stderr == ""
    assert found.stdout.strip() == "2"


def test_public_names_are_sorted_and_exist() -> None:
    assert tracemill.__all__ == sorted(tracemill.__all__)
    for name in tracemill.__all__:
        assert getattr(tracemill, name) is not None
    assert set(tracemill.__all__) <= set(dir(tracemill))
    with pytest.raises(AttributeError):
        _ = tracemill.nothing_of_this_name


def test_the_changelog_begins_with_what_is_coming() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_page_of_routes_is_what_the_server_has() -> None:
    assert (DOCS / "http.md").read_text(encoding="utf-8") == http_page(), "run: python -m scripts.http_page"
