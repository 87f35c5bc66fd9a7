"""The tree keeps its rules; and each rule is shown to catch what it is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import architecture_rules as rules

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "src" / "tracemill").rglob("*.py"))
}
HEAVY = (
    *("sqlalchemy", "alembic", "sqlite3", "zstandard", "yaml", "typer", "click", "rich", "jinja2", "numpy", "pandas"),
    *("pyarrow", "daft", "torch", "transformers", "fastapi", "httpx", "requests"),
    *("tracemill.store", "tracemill.workspace", "tracemill.cli"),
)


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", SOURCES)
def test_imports_go_downwards(path: str) -> None:
    assert rules.rank_problems(path, SOURCES[path]) == []


@pytest.mark.parametrize("path", SOURCES)
def test_rooms_are_small(path: str) -> None:
    assert rules.size_problems(path, SOURCES[path]) == []


@pytest.mark.parametrize("path", SOURCES)
def test_habits(path: str) -> None:
    assert rules.habit_problems(path, SOURCES[path]) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert rules.cycles(rules.import_graph(SOURCES)) == []


@pytest.mark.parametrize("path", rules.DYNAMIC_IMPORT_ALLOWED)
def test_what_may_import_by_name_does(path: str) -> None:
    assert any(rules.DYNAMIC_IMPORT.fullmatch(name) for _, name in rules.qualified_names(SOURCES[path]))


@pytest.mark.parametrize("path", [path for path in SOURCES if rules.room_of(path) in ("core", "sdk")])
def test_the_part_that_lives_in_other_peoples_processes_needs_almost_nothing(path: str) -> None:
    allowed = rules.THIRD_PARTY_OF_CORE_AND_SDK
    if "/sdk/integrations/" in path:
        allowed = allowed | rules.INTEGRATIONS.get(Path(path).stem, set())
    assert rules.third_party(SOURCES[path], frozenset(sys.stdlib_module_names)) <= allowed


def heavy_modules_after(code: str) -> list[str]:
    """Which of HEAVY a fresh process has loaded after running some code."""
    program = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return found.stdout.split()


def test_importing_tracemill_loads_nothing_heavy() -> None:
    assert heavy_modules_after("import tracemill; tracemill.DataCollector") == []


# -- every rule can fail


@pytest.mark.parametrize(
    ("path", "source", "says"),
    [
        ("src/tracemill/core/x.py", "from tracemill.store.hot import HotStore", "imports tracemill.store"),
        ("src/tracemill/store/x.py", "import tracemill.sdk.client", "imports tracemill.sdk"),
        ("src/tracemill/sdk/x.py", "def f():\n    from tracemill.core import ids", "hides an import"),
        ("src/tracemill/sdk/x.py", "def f():\n    from tracemill.sdk import client", "hides an import"),
        ("src/tracemill/core/x.py", "from ..store.hot import HotStore", "imports tracemill.store"),
        ("src/tracemill/core/x.py", "from ..store import hot", "imports tracemill.store"),
        ("src/tracemill/core/x.py", "from .. import workspace", "imports tracemill.workspace"),
        ("src/tracemill/capture/importers/__init__.py", "from ...dataset import build", "imports tracemill.dataset"),
        (
            "src/tracemill/sdk/x.py",
            "def f():\n    from tracemill import workspace",
            "imports tracemill.workspace",
        ),
        ("src/tracemill/insight/x.py", "from tracemill.cli import main", "imports tracemill.cli"),
        ("src/tracemill/demo/x.py", "from tracemill.server import app", "imports tracemill.server"),
        ("src/tracemill/newroom/x.py", "", "has no rank"),
    ],
)
def test_a_wrong_import_is_caught(path: str, source: str, says: str) -> None:
    assert says in " ".join(rules.rank_problems(path, source))


def test_right_imports_pass() -> None:
    assert rules.rank_problems("src/tracemill/store/x.py", "from tracemill.core.ids import now") == []
    assert (
        rules.rank_problems("src/tracemill/cli/x.py", "def f():\n    from tracemill.workspace import Workspace") == []
    )


@pytest.mark.parametrize(
    "line",
    [
        "x = 1  # TO" + "DO later",
        "raise NotImplemented" + "Error",
        "try:\n    pass\nexcept Exception:\n    pass",
        "import time\nx = time.time()",
        "import importlib\nimportlib.import_module('x')",
        "from importlib import import_module\nimport_module('x')",
        "__import__('x')",
        "from time import time as seconds\nx = seconds()",
        "from datetime import datetime as moment\nx = moment.now()",
        "import datetime as dt\nx = dt.date.today()",
        "from uuid import uuid4\nmake = uuid4",
        "try:\n    pass\nexcept (ValueError, Exception):\n    pass",
        "try:\n    pass\nexcept:\n    pass",
        "class A(metaclass=type):\n    pass",
    ],
)
def test_a_bad_habit_is_caught(line: str) -> None:
    assert rules.habit_problems("src/tracemill/sdk/x.py", line)


def test_a_drawer_is_caught() -> None:
    assert rules.habit_problems("src/tracemill/sdk/utils.py", "")


def test_an_explained_catch_all_passes() -> None:
    source = "try:\n    pass\nexcept Exception:  # the host must not see our errors\n    pass"
    assert rules.habit_problems("src/tracemill/sdk/x.py", source) == []


def test_what_is_too_long_is_caught() -> None:
    long = "def f():\n" + "    x = 1\n" * 61
    assert rules.size_problems("src/tracemill/sdk/x.py", long)
    assert rules.size_problems("src/tracemill/sdk/x.py", "x = 1\n" * 601)


def test_a_cycle_is_caught() -> None:
    assert rules.cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_a_cycle_of_modules_is_caught_however_they_are_imported() -> None:
    sources = {
        "src/tracemill/store/__init__.py": "",
        "src/tracemill/store/a.py": "from tracemill.store import b",
        "src/tracemill/store/b.py": "from .c import x",
        "src/tracemill/store/c.py": "import tracemill.store.a",
    }
    assert rules.cycles(rules.import_graph(sources)) == [[f"tracemill.store.{name}" for name in "abc"]]


def test_a_third_party_package_is_caught() -> None:
    standard = frozenset(sys.stdlib_module_names)
    assert rules.third_party("import json\ndef f():\n    from yaml import load", standard) == {"yaml"}
    assert rules.third_party("import msgspec.json, os.path\nfrom . import x", standard) == {"msgspec"}


def test_a_heavy_import_is_caught() -> None:
    assert "sqlalchemy" in heavy_modules_after("import tracemill; tracemill.Workspace")
