"""The examples of the capture page run, and it names every method of the collector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tracemill.collector import DataCollector, get_data_collector

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "capture.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TRACEMILL_WORKSPACE", str(tmp_path / "workspace"))
    made = get_data_collector()
    yield made
    made.close()


def test_every_public_method_is_named() -> None:
    methods = {
        name for name in dir(DataCollector) if not name.startswith("_") and callable(getattr(DataCollector, name))
    }
    ours = {"attempt", "disabled", "identify", "user"}  # for the parts of the collector itself
    assert {name for name in methods - ours if f"`{name}" not in PAGE and f"{name}(" not in PAGE} == set()


@pytest.mark.parametrize("example", [example for example in EXAMPLES if "dspy" not in example])
def test_the_examples_run(example: str, collector: DataCollector) -> None:
    exec(compile(example, "docs/capture.md", "exec"), {})
    (interaction,) = collector.get_training_data()
    assert interaction.success is True
    assert interaction.response is not None


def test_the_dspy_example_runs(collector: DataCollector) -> None:
    dspy = pytest.importorskip("dspy")

    def search(query: str) -> str:
        """Find something."""
        return "in transit"

    (example,) = [example for example in EXAMPLES if "dspy" in example]
    answers = [
        {"next_thought": "look", "next_tool_name": "search", "next_tool_args": {"query": "parcel"}},
        {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": {}},
        {"reasoning": "it is on its way", "answer": "Tomorrow."},
    ]
    with dspy.context(lm=dspy.utils.DummyLM(answers)):
        exec(compile(example, "docs/capture.md", "exec"), {"search": search})
    (interaction,) = collector.get_training_data()
    assert interaction.response == {"role": "assistant", "content": "Tomorrow."}
    assert interaction.tools_used == ["search"]
    assert collector.counts().captured == 3
