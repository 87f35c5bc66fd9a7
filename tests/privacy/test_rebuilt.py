"""What is built in the place of a version that lost its rows obeys what holds at that moment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec
import pytest

from tests.dataset.support import says
from tests.privacy.scanning import hits
from tracemill.core.ids import new_id, now
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.dataset.recipe import Recipe, Source, parse_recipe
from tracemill.dataset.version import CERTIFICATE, PATTERNS
from tracemill.insight.mining import mine
from tracemill.workspace import Workspace, mining


def opened(path: Path, **more: Any) -> Workspace:
    return Workspace.open(path, settings=load_settings({"workspace": str(path), **more}, environment={}))


def turn(workspace: Workspace, name: str, days: int = 1) -> Interaction:
    return Interaction(
        id=new_id(), time=now() - timedelta(days=days), sequence=0, schema_version=1, producer="p",
        conversation_id=f"talk of {name}", user=workspace.person(name), success=True,
        messages=[says("user", f"{name} asks")], response=says("assistant", f"{name} is told"),
    )  # fmt: skip


STRICTER: list[dict[str, Any]] = [{"consent_defaults": {"train": "denied"}}, {"retention": {"*": {"train_days": 30}}}]


@pytest.mark.parametrize("stricter", STRICTER, ids=["consent", "retention"])
@pytest.mark.parametrize("killed", [False, True])
def test_settings_that_became_stricter_hold(tmp_path: Path, stricter: dict[str, Any], killed: bool) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn(workspace, "ann"), turn(workspace, "bob", days=50)])
        assert workspace.build_dataset(Recipe(name="d", signals=("supervised",))).version.count() == 2
    with opened(tmp_path, **stricter) as workspace:
        receipt = workspace.erase("user", "ann")
        version = workspace.dataset("d")
        assert (version.reference, version.count()) == ("d@v2", 0)
        if killed:  # before the old version named the new one
            stone = tmp_path / "datasets" / "d" / "v1" / "tombstone.json"
            plain = msgspec.json.decode(stone.read_bytes())
            del plain["replaced_by"]
            stone.write_bytes(msgspec.json.encode(plain))
            workspace.maintain()
        assert workspace.rebuilt(receipt) == {"d@v1": "d@v2"}


def test_a_package_has_its_tool_patterns_again(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn(workspace, "ann"), turn(workspace, "bob")])
        built = workspace.build_dataset(parse_recipe({"name": "tools", "package": "tool_selection"}))
        assert (built.version.path / PATTERNS).exists()
        workspace.erase("user", "ann")
        version = workspace.dataset("tools")
        assert version.reference == "tools@v2"
        assert (version.path / PATTERNS).exists()


def test_an_export_of_a_dataset_whose_name_begins_alike_is_left_to_it(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn(workspace, "ann"), turn(workspace, "bob")])
        for name in ("d", "d-v1-trl"):
            workspace.build_dataset(Recipe(name=name, signals=("supervised",)))
        workspace.export("d-v1-trl", "trl-sft")
        workspace.erase("user", "ann")
    made = sorted(path.name for path in (tmp_path / "exports").iterdir())
    assert made == ["d-v1-trl-v1-trl-sft", "d-v1-trl-v2-trl-sft"]


def test_what_was_said_of_rows_goes_with_them_whatever_a_kill_left(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn(workspace, "ann"), turn(workspace, "bob")])
        path = workspace.build_dataset(parse_recipe({"name": "tools", "package": "tool_selection"})).version.path
        said = (path / PATTERNS).read_bytes()
        workspace.erase("user", "ann")
        for name in (PATTERNS, CERTIFICATE):  # as if the erasure had been killed before it came to these
            (path / name).write_bytes(said)
        workspace.erase("user", "bob")
    assert not (path / PATTERNS).exists()
    assert not (path / CERTIFICATE).exists()


def test_a_kill_while_it_is_certified_damages_no_version(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn(workspace, "ann")])
        version = workspace.build_dataset(Recipe(name="d", signals=("supervised",))).version
        draft = version.path / f".{CERTIFICATE}.draft"
        draft.write_bytes(b"{")
        assert version.verify() == []
        workspace.certifying.certify("d", actor="test")
        assert not draft.exists()
        draft.write_bytes(b"{")
        workspace.erase("user", "ann")
        assert not draft.exists()


def test_patterns_are_not_added_to_what_was_erased_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe({"name": "tools", "package": "tool_selection"})
    with opened(tmp_path) as workspace:
        workspace.store.append([turn(workspace, "ann")])

        def mined_slowly(*arguments: Any, **named: Any) -> Any:
            found = mine(*arguments, **named)
            monkeypatch.undo()
            workspace.erase("user", "ann")
            return found

        monkeypatch.setattr(mining, "mine", mined_slowly)
        built = workspace.build_dataset(recipe)
    assert (built.version.path / "tombstone.json").exists()
    assert not (built.version.path / PATTERNS).exists()


@pytest.mark.parametrize("anew", [False, True])
def test_an_export_whose_version_was_removed_goes(tmp_path: Path, anew: bool) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn(workspace, "ann"), turn(workspace, "bob")])
        recipe = Recipe(name="d", signals=("supervised",))
        workspace.build_dataset(recipe)
        workspace.export("d", "trl-sft")
        rmtree(tmp_path / "datasets" / "d")
        if anew:  # under the same number, without her
            workspace.build_dataset(msgspec.structs.replace(recipe, source=Source(conversation_id="talk of bob")))
        workspace.erase("user", "ann")
    assert hits(tmp_path / "exports", {"hers": b"ann asks"}) == []
