"""The locks pin everything pyproject.toml asks for, and say nothing of where it was fetched."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([0-9A-Za-z.!+]+)")


def pins(text: str) -> dict[str, Version]:
    """The version of each distribution a lock names. Raises ValueError for a line that is more or less than a pin."""
    found: dict[str, Version] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        pin = PIN.fullmatch(line)
        if pin is None:
            raise ValueError(f"not a plain name==version: {line!r}; run: make lock")
        found[canonicalize_name(pin[1])] = Version(pin[2])
    return found


def unmet(requirements: list[str], locked: dict[str, Version]) -> list[str]:
    """The requirements that a lock has no version for, or one they do not allow."""
    parsed = [Requirement(requirement) for requirement in requirements]
    return [
        str(wanted)
        for wanted in parsed
        if (version := locked.get(canonicalize_name(wanted.name))) is None or version not in wanted.specifier
    ]


def lock(name: str) -> dict[str, Version]:
    return pins((ROOT / name).read_text(encoding="utf-8"))


def test_the_lock_for_running_meets_every_dependency() -> None:
    assert unmet(PROJECT["dependencies"], lock("requirements.lock")) == []


UNLOCKED = {"gliner", "models", "names"}
"""Extras of several gigabytes (PyTorch, spaCy): tests that need them skip where they are not installed."""


def test_the_lock_for_tests_meets_every_dependency() -> None:
    groups = PROJECT["optional-dependencies"]
    assert groups.keys() >= UNLOCKED
    extras = [wanted for name, group in groups.items() if name not in UNLOCKED for wanted in group]
    assert unmet([*PROJECT["dependencies"], *extras], lock("requirements-dev.lock")) == []


def test_tests_run_with_the_versions_that_users_get() -> None:
    running, testing = lock("requirements.lock"), lock("requirements-dev.lock")
    assert {name: testing.get(name) for name in running} == running


@pytest.mark.parametrize("line", ["a @ file:///tmp/a.whl", "-e .", "a>=1", "a==1 --hash=sha256:00", "a", "", " a==1"])
def test_what_is_not_a_pin_is_caught(line: str) -> None:
    with pytest.raises(ValueError, match="make lock"):
        pins(f"# made\n{line}\n")


def test_an_unmet_dependency_is_caught() -> None:
    locked = pins("PyYAML==6.0.3\nrich==13.0\n")
    assert unmet(["pyyaml>=6", "rich>=14", "psycopg[binary]>=3"], locked) == ["rich>=14", "psycopg[binary]>=3"]
