"""Whatever a module declares as public is there, once, and in order."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.architecture_rules import module_of

ROOT = Path(__file__).resolve().parents[1]


def declares_names(source: str) -> bool:
    """Whether a module's source sets ``__all__``."""
    targets: list[ast.expr] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            targets.extend(node.targets)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets.append(node.target)
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def name_problems(names: list[str], present: set[str]) -> list[str]:
    """What is wrong with the public names of a module that has the names in ``present``."""
    problems = [f"{name} is declared and does not exist" for name in names if name not in present]
    if names != sorted(set(names)):
        problems.append(f"write __all__ sorted and each name once: {sorted(set(names))}")
    return problems


MODULES = [
    module_of(str(path.relative_to(ROOT)))
    for path in sorted((ROOT / "src" / "tracemill").rglob("*.py"))
    if declares_names(path.read_text(encoding="utf-8"))
]


def test_the_package_declares_its_names() -> None:
    assert "tracemill" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_public_names_exist_in_order(module: str) -> None:
    loaded = importlib.import_module(module)
    present = {name for name in loaded.__all__ if hasattr(loaded, name)}
    assert name_problems(loaded.__all__, present) == []


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a", "gone"], "gone is declared and does not exist"),
        (["b", "a"], "sorted"),
        (["a", "a"], "each name once"),
    ],
)
def test_a_wrong_name_is_caught(names: list[str], says: str) -> None:
    assert says in " ".join(name_problems(names, {"a", "b"}))


@pytest.mark.parametrize("source", ["__all__ = ['a']", "__all__: list[str] = []", "__all__ += ['a']"])
def test_every_way_to_declare_names_is_seen(source: str) -> None:
    assert declares_names(source)
    assert not declares_names("def f():\n    __all__ = []")
