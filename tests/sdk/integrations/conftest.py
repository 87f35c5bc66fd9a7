"""A collector whose records a test can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracemill import DataCollector
from tracemill.core.records import AnyRecord, Interaction, Step
from tracemill.workspace import Workspace


class Kept:
    """A collector, and what it kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.collector = DataCollector(path, delivery_interval_ms=10, platform="support")

    def records(self) -> list[AnyRecord]:
        """Everything captured so far, in the order of storing."""
        assert self.collector.deliver(20)
        with Workspace.open(self.path) as workspace:
            return list(workspace.records())

    def interactions(self) -> list[Interaction]:
        """The interactions, by time."""
        found = [record for record in self.records() if isinstance(record, Interaction)]
        return sorted(found, key=lambda record: (record.time, record.id))

    def one(self) -> Interaction:
        """The only interaction."""
        (found,) = self.interactions()
        return found

    def steps(self) -> list[Step]:
        """The steps, by time."""
        found = [record for record in self.records() if isinstance(record, Step)]
        return sorted(found, key=lambda record: (record.time, record.id))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path / "workspace")
    yield made
    made.collector.close(5)


def tool_names(found: Any) -> list[str]:
    """The names of the tool calls of a message."""
    return [call["function"]["name"] for call in found["tool_calls"]]
