"""Policies of one's own: read from a file, found by name, version and digest, and refused with a message that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracemill.core.errors import SettingError
from tracemill.core.settings import Settings
from tracemill.privacy.policies import POLICIES, STANDARD, Policies, exactly, load_policies

FILE = """
policies:
  - name: research
    version: 1
    actions: {contact: mask}
  - name: research
    version: 2
    extends: standard
    actions: {city: keep, date: pseudonym}
    scope: workspace
  - name: strict
    version: 1
    extends: research@2
    otherwise: remove
    threshold: 0.2
purposes: {train: research, share: strict@1}
"""


def load(folder: Path, text: str) -> Policies:
    """The policies of a file with this text."""
    path = folder / "policies.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policies(Settings(policies=str(path)))


def test_without_a_file_there_are_the_built_in_ones() -> None:
    found = load_policies(Settings())
    assert found.listed() == list(POLICIES.values())
    assert found.find("standard") is STANDARD
    assert found.purposes == {}


def test_a_file_adds_policies_and_says_what_purposes_want(tmp_path: Path) -> None:
    found = load(tmp_path, FILE)
    assert [f"{policy.name}@{policy.version}" for policy in found.listed()] == [
        *("standard@1", "safe-harbor@1", "mask@1", "research@1", "research@2", "strict@1")
    ]
    research = found.find("research")
    assert research.version == 2
    assert research.actions == {**STANDARD.actions, "city": "keep", "date": "pseudonym"}
    assert (research.scope, research.otherwise, research.threshold) == ("workspace", "mask", 0.5)
    first = found.find("research@1")
    assert first.actions == {"contact": "mask"}
    strict = found.find("strict")
    assert (strict.actions, strict.scope) == (research.actions, "workspace")
    assert (strict.otherwise, strict.threshold) == ("remove", 0.2)
    assert found.purposes == {"train": "research", "share": "strict@1"}


def test_an_exact_reference_holds_a_policy_to_what_it_was(tmp_path: Path) -> None:
    pinned = exactly(load(tmp_path, FILE).find("research@2"))
    assert load(tmp_path, FILE).find(pinned).version == 2
    changed = load(tmp_path, FILE.replace("city: keep", "city: mask"))
    with pytest.raises(SettingError, match="policy research@2 is not what it was"):
        changed.find(pinned)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("policies: [", "cannot be read"),
        ("policies: 3", "policies: Expected `array`"),
        ("policies: [{name: a}]", "policy a: Object missing required field `version`"),
        ("policies: [{name: a, version: 1, actions: {email: burn}}]", "policy a.actions"),
        ("policies: [{name: a, version: 1, acts: {}}]", "policy a: Object contains unknown field `acts`"),
        ("policies: [{name: a, version: 1, actions: {emial: mask}}]", "policy a version 1 names 'emial'"),
        ("policies: [{name: a, version: 1}, {name: a, version: 1}]", "policy a version 1 stands there twice"),
        ("policies: [{name: standard, version: 2}]", "standard is built in"),
        ("policies: [{name: a, version: 1, extends: b}, {name: b, version: 1}]", "policy a extends what is not there"),
        ("purposes: {train: gone}", "there is no redaction policy 'gone'"),
        ("purposes: {store: mask}", "goes by the setting redaction"),
        ("purposes: {selling: mask}", "purposes"),
        ("[1, 2]", "Expected `object`"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingError) as raised:
        load(tmp_path, text)
    assert says in raised.value.message
    assert "policies.yaml" in raised.value.message or "gone" in text


def test_a_kind_that_was_misspelt_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as raised:
        load(tmp_path, "policies: [{name: a, version: 1, actions: {emial: mask}}]")
    assert "email" in raised.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        load_policies(Settings(policies=str(tmp_path / "none.yaml")))


def test_an_empty_file_adds_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "").listed() == list(POLICIES.values())


@pytest.mark.parametrize(
    ("reference", "says"),
    [("", "no redaction policy"), ("standard@9", "no version 9"), ("standard@0", "no redaction"), ("x#1", "no redact")],
)
def test_references_that_mean_nothing(reference: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        Policies().find(reference)
