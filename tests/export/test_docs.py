"""docs/datasets.md and docs/exports.md name what there is, and their examples are real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracemill.cli import datasets
from tracemill.dataset.recipe import Recipe, Source, load_recipe
from tracemill.dataset.steps import STEPS
from tracemill.export.containers import CONTAINERS
from tracemill.export.formats import FORMATS

ROOT = Path(__file__).resolve().parents[2]
DATASETS = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
EXPORTS = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")


def words_in_code(folder: str, pattern: str) -> set[str]:
    """Every word that a pattern finds in the sources of a folder."""
    sources = (ROOT / "src" / "tracemill" / folder).rglob("*.py")
    return {word for path in sources for word in re.findall(pattern, path.read_text(encoding="utf-8"))}


def test_the_recipe_of_the_documentation_is_one_with_every_field(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", DATASETS, re.DOTALL)
    path = tmp_path / "recipe.yaml"
    path.write_text(example)
    recipe = load_recipe(path)
    assert recipe.scales == Recipe().scales
    assert recipe.split == Recipe().split
    for name in (*Recipe.__struct_fields__, *Source.__struct_fields__):
        assert re.search(rf"\b{name}\b", DATASETS), name


@pytest.mark.parametrize("name", sorted(STEPS))
def test_every_step_is_documented_with_its_arguments(name: str) -> None:
    (row,) = [line for line in DATASETS.splitlines() if line.startswith(f"| `{name}` |")]
    assert all(f"`{argument}`" in row for argument in STEPS[name].__struct_fields__)


def test_every_reason_for_leaving_out_is_documented() -> None:
    reasons = words_in_code("dataset", r'Drop\("([a-z_]+)"\)') | words_in_code("dataset", r'return "([a-z_]+)"\n')
    reasons |= words_in_code("dataset", r'left_out\["trials"\] = "([a-z_]+)"') | words_in_code(
        "dataset", r'\["(examples\.[a-z_]+)"\]'
    )
    assert len(reasons) > 25
    assert {reason for reason in reasons if f"`{reason}`" not in DATASETS} == set()
    unmatched = words_in_code("feedback", r'"(no_[a-z_]+)"')
    assert {reason for reason in unmatched if f"`feedback.{reason}`" not in DATASETS} == set()


def test_every_format_loss_and_refusal_is_documented() -> None:
    words = words_in_code("export", r'(?:Lost|Fault|RefusedError)\([^")]*"([a-z_]+)"')
    words |= words_in_code("export", r'Lost\(.*?, "([a-z_]+)"') | set(FORMATS)
    assert len(words) > 25
    assert {word for word in words if f"`{word}`" not in EXPORTS} == set()


def test_the_step_of_the_documentation_works() -> None:
    (_, example) = re.findall(r"```python\n(.*?)```", DATASETS, re.DOTALL)
    namespace: dict[str, object] = {"__name__": "documentation"}
    source = compile(example, "documentation", "exec")
    exec(source, namespace)
    recipe = namespace["recipe"]
    assert isinstance(recipe, Recipe)
    assert recipe.name == "english"


def test_the_help_of_the_command_names_every_format() -> None:
    assert datasets._FORMATS.split(", ") == list(FORMATS)


def test_every_container_is_documented() -> None:
    assert all(f"`{name}`" in EXPORTS for name in CONTAINERS)
