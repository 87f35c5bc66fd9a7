"""The policy of a dataset: applied before steps and signals, to what was said of a record too, recorded and counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.privacy.scanning import hits
from tracemill.core.codec import encode_json
from tracemill.core.errors import DatasetError, RecipeError, RecordError, SettingError
from tracemill.core.examples import PreferenceExample, RedactionUsed, SupervisedExample, TrajectoryPreference
from tracemill.core.ids import derived_id, now
from tracemill.core.policy import MARK, Policy
from tracemill.core.records import AnyRecord, Decision, Feedback, Interaction, Message, Step
from tracemill.core.settings import load_settings
from tracemill.core.steps import KEEP, Drop
from tracemill.dataset.build import build_version
from tracemill.dataset.privacy_rule import PrivacyViolations
from tracemill.dataset.recipe import Recipe, parse_recipe, recorded_recipe
from tracemill.dataset.redaction import redacted, task_scope
from tracemill.dataset.version import Version
from tracemill.feedback.attach import NOTHING, Attached
from tracemill.privacy.policies import MASK, SAFE_HARBOR, STANDARD, exactly
from tracemill.privacy.redact import Redactor
from tracemill.workspace import Workspace

BEGAN = now()
TEXT = "My name is Orla Quist, write to orla.quist77@mail.example"
KEY = "sk-ant-api03-" + "QWERTYqwerty0123456789" * 4 + "QWERTY-AA"
NEEDLES = {"name": b"Quist", "first name": b"Orla", "mail": b"quist77"}
POLICIES = """
policies:
  - {name: people, version: 1, actions: {contact: mask, person: mask}, otherwise: keep}
purposes: {share: people}
"""
Open = Callable[..., Workspace]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens workspaces that store what comes as it is; all are closed at the end."""
    found: list[Workspace] = []

    def make(name: str = "workspace", **given: Any) -> Workspace:
        path = tmp_path / "policies.yaml"
        path.write_text(POLICIES, encoding="utf-8")
        arguments = {"workspace": str(tmp_path / name), "policies": str(path), **given}
        found.append(Workspace.open(settings=load_settings(arguments, environment={})))
        return found[-1]

    yield make
    for workspace in found:
        workspace.close()


def base(number: int) -> dict[str, Any]:
    """The fields every record has."""
    return {"id": derived_id("built", number), "time": BEGAN, "schema_version": 1, "producer": "p", "sequence": number}


def turn(number: int, said: str = TEXT, answer: str = "Hello Orla!", **more: Any) -> Interaction:
    """A turn that names somebody."""
    messages: list[Message] = [{"role": "user", "content": said}]
    fields: dict[str, Any] = {"conversation_id": f"c{number}", "messages": messages, "success": True, **more}
    return Interaction(**base(number), response={"role": "assistant", "content": answer}, **fields)


def rows(version: Version) -> list[Any]:
    """Every example of a version."""
    return [example for split in version.manifest.examples for example in version.examples(split)]


def recipe(**more: Any) -> Recipe:
    """A recipe with everything in one split."""
    return Recipe(name="people", split={"train": 1.0}, **more)


def test_rows_name_nobody_and_the_manifest_says_by_which_policy(opened: Open) -> None:
    workspace = opened()
    workspace.store.append([turn(1), turn(2, said="Hello", answer="Hi")])
    version = workspace.build_dataset(recipe(redaction="standard")).version
    manifest = version.manifest
    assert manifest.redaction == RedactionUsed(policy="standard", version=1, digest=STANDARD.digest())
    assert manifest.recipe["redaction"] == exactly(STANDARD)
    assert manifest.changes == {"privacy.email": 1, "privacy.person_name": 1}
    assert hits(version.path, NEEDLES) == []
    assert len(rows(version)) == 2
    assert version.verify() == []
    stored = workspace.store.get(turn(1).id)
    assert isinstance(stored, Interaction)
    assert stored == turn(1)  # the store is as it was


def test_without_a_policy_nothing_is_redacted_and_nothing_said(opened: Open) -> None:
    workspace = opened()
    workspace.store.append([turn(1)])
    version = workspace.build_dataset(recipe()).version
    assert version.manifest.redaction is None
    assert b"redaction" not in (version.path / "manifest.json").read_bytes()
    assert hits(version.path, NEEDLES) != []


def test_a_build_is_the_same_again_and_another_with_another_policy(opened: Open) -> None:
    workspace = opened()
    workspace.store.append([turn(1)])
    first = workspace.build_dataset(recipe(redaction="standard"))
    assert not workspace.build_dataset(recipe(redaction="standard@1")).new
    assert workspace.build_dataset(recipe(redaction="mask")).version.reference != first.version.reference
    assert workspace.build_dataset(recipe()).version.manifest.redaction is None


def test_equal_records_recipe_and_key_give_equal_bytes(opened: Open, tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        workspace = opened(name)
        if name == "two":
            (tmp_path / "two" / "keys").mkdir()
            (tmp_path / "two" / "keys" / "redaction.key").write_bytes(
                (tmp_path / "one" / "keys" / "redaction.key").read_bytes()
            )
        records: list[AnyRecord] = [
            turn(1),
            turn(2),
            Feedback(**base(3), interaction_id=turn(1).id, kind="thumbs_up", comment=TEXT),
        ]
        workspace.store.append(records if name == "one" else list(reversed(records)))
        folders.append(workspace.build_dataset(recipe(redaction="standard")).version.path)
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == ["build.json"]


def test_a_mask_does_not_depend_on_the_key(opened: Open) -> None:
    manifests = []
    for name in ("one", "two"):
        workspace = opened(name)
        workspace.store.append([turn(1)])
        version = workspace.build_dataset(recipe(redaction="mask")).version
        manifests.append((version.path / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]


def test_corrections_have_the_names_of_what_they_correct(opened: Open) -> None:
    """Only the interaction's profile says that Vesna is a name, and the correction uses it."""
    workspace = opened()
    profile = {
        "role": "tool",
        "tool_call_id": "1",
        "content": json.dumps({"first_name": "Vesna", "email": "v@a.example"}),
    }
    asked: list[Message] = [{"role": "user", "content": "Who is it?"}, profile]
    wrong = turn(1, answer="It is Vera", messages=asked, success=None)
    better = Feedback(**base(2), interaction_id=wrong.id, kind="edit", correction="It is Vesna, of course")
    workspace.store.append([wrong, better])
    version = workspace.build_dataset(recipe(redaction="standard", signals=("edits",))).version
    (example,) = rows(version)
    assert isinstance(example, PreferenceExample)
    name = json.loads(example.prompt[1]["content"])["first_name"]
    assert name != "Vesna"
    assert example.chosen[0]["content"] == f"It is {name}, of course"
    assert hits(version.path, {"Vesna": b"Vesna"}) == []


def test_steps_and_decisions_have_the_names_of_their_interaction() -> None:
    redactor = Redactor(STANDARD, b"k" * 32)
    whole = turn(1, said='{"first_name": "Vesna", "email": "v@mail.example"}')
    step = Step(**base(2), interaction_id=whole.id, reasoning="Vesna asks for it")
    decision = Decision(**base(3), interaction_id=whole.id, reasoning="Because Vesna asks")
    attached = Attached(steps=(step,), decisions=(decision,))
    new, clean, _, changes = redacted(redactor, whole, attached, lambda _identity: None)
    name = json.loads(new.messages[0]["content"])["first_name"]
    assert clean.steps[0].reasoning == f"{name} asks for it"
    assert clean.decisions[0].reasoning == f"Because {name} asks"
    assert (clean.steps[0].id, clean.decisions[0].id) == (step.id, decision.id)
    assert changes == ["privacy.email", "privacy.person_name"]
    nobody = turn(4, said="Hello", answer="Hi")
    assert redacted(redactor, nobody, NOTHING, lambda _identity: None)[1:4:2] == (NOTHING, [])


def test_trials_of_one_task_can_be_compared(opened: Open) -> None:
    """In conversations of their own, whose names would differ."""
    workspace = opened()
    trials = [
        turn(number, answer=f"Answer {number}", task_id="t", trial=number, success=number == 1) for number in (1, 2)
    ]
    workspace.store.append(trials)
    made = recipe(redaction="standard", signals=("trials",), trial_score="success")
    (example,) = rows(workspace.build_dataset(made).version)
    assert isinstance(example, PreferenceExample)
    assert not isinstance(example, TrajectoryPreference)
    assert "Quist" not in example.prompt[0]["content"]
    assert task_scope(trials[0]) == task_scope(trials[1]) is not None
    assert task_scope(turn(3)) is None


def test_answers_given_again_are_read_again_redacted(opened: Open) -> None:
    """The stage that looks at whole conversations reads its records from the store once more."""
    workspace = opened()
    first = turn(1, conversation_id="c", turn=1)
    later = msgspec.structs.replace(turn(2, answer="Welcome, Orla", conversation_id="c", turn=1), time=now())
    marks = [
        Feedback(**base(3), interaction_id=first.id, kind="thumbs_down"),
        Feedback(**base(4), interaction_id=later.id, kind="thumbs_up"),
    ]
    workspace.store.append([first, later, *marks])
    made = recipe(redaction="standard", signals=("regenerations", "rephrases"))
    version = workspace.build_dataset(made).version
    (example,) = rows(version)
    assert isinstance(example, PreferenceExample)
    assert example.chosen[0]["content"].startswith("Welcome, ")
    assert hits(version.path, NEEDLES) == []


def test_a_call_that_repeats_another_is_known_though_it_was_redacted_otherwise(opened: Open) -> None:
    """The later call holds a profile, by which a name is known that the earlier one only mentions."""
    workspace = opened()
    asked: list[Message] = [{"role": "user", "content": "It is Vesna again"}]
    profile: Message = {"role": "user", "content": json.dumps({"first_name": "Vesna", "email": "v@a.example"})}
    first = turn(1, messages=asked, answer="Hello", conversation_id="c")
    longer = [*asked, {"role": "assistant", "content": "Hello"}, profile]
    later = turn(2, messages=longer, answer="Bye", conversation_id="c")
    workspace.store.append([first, later])
    version = workspace.build_dataset(recipe(redaction="standard", signals=("supervised",))).version
    (example,) = rows(version)
    assert isinstance(example, SupervisedExample)
    assert len(example.messages) == 4
    assert hits(version.path, {"Vesna": b"Vesna"}) == []


def test_the_purpose_chooses_where_the_recipe_names_no_policy(opened: Open) -> None:
    workspace = opened()
    workspace.store.append([turn(1)])
    shared = workspace.build_dataset(recipe(purpose="share")).version
    assert shared.manifest.redaction is not None
    assert shared.manifest.redaction.policy == "people"
    assert "[EMAIL]" in str(rows(shared))
    assert workspace.build_dataset(recipe(purpose="train")).version.manifest.redaction is None
    assert workspace.build_dataset(recipe(purpose="share", redaction="")).version.manifest.redaction is None
    named = workspace.build_dataset(recipe(purpose="share", redaction="mask")).version.manifest.redaction
    assert named is not None
    assert named.policy == "mask"


def test_what_was_redacted_when_it_was_stored_is_redacted_by_the_stricter_policy_too(opened: Open) -> None:
    workspace = opened(redaction="people")
    workspace.store.append([turn(1, said=f"{TEXT}. My SSN is 536-90-4399")])
    assert "536-90-4399" in str(workspace.store.get(turn(1).id))
    version = workspace.build_dataset(recipe(redaction="mask")).version
    assert version.manifest.changes == {"privacy.us_ssn": 1}
    assert hits(version.path, {**NEEDLES, "ssn": b"536-90-4399"}) == []
    again = workspace.build_dataset(recipe(redaction="people")).version
    assert again.manifest.changes == {}  # it was done already


def test_erasure_builds_the_version_again_with_its_policy(opened: Open) -> None:
    workspace = opened()
    workspace.store.append([turn(1), turn(2, said=f"Again. {TEXT}")])
    workspace.build_dataset(recipe(redaction="standard"))
    workspace.erase("interaction", turn(1).id)
    newest = workspace.datasets("people")[-1]
    assert newest.tombstone is None
    assert newest.manifest.redaction is not None
    assert len(rows(newest)) == 1
    assert hits(newest.path, NEEDLES) == []


def test_a_policy_that_was_changed_since_builds_nothing_again(opened: Open, tmp_path: Path) -> None:
    workspace = opened()
    workspace.store.append([turn(1)])
    manifest = workspace.build_dataset(recipe(redaction="people")).version.manifest
    workspace.close()
    workspace = opened()
    (tmp_path / "policies.yaml").write_text(POLICIES.replace("contact: mask", "contact: remove"), encoding="utf-8")
    again = recorded_recipe(manifest.recipe, manifest.recipe_hash)
    with pytest.raises(SettingError, match="people@1 is not what it was"):
        workspace.build_dataset(again)


def test_what_cannot_be_redacted_is_left_out_and_said(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened()
    workspace.store.append([turn(1), turn(2, said=f"Again. {TEXT}")])
    whole = Redactor.together

    def failing(self: Redactor, records: Any, **more: Any) -> Any:
        if records[0].id == turn(1).id:
            raise RecordError("too_deep", "nested too deeply")
        return whole(self, records, **more)

    monkeypatch.setattr(Redactor, "together", failing)
    version = workspace.build_dataset(recipe(redaction="standard")).version
    assert version.manifest.drops["steps.redaction_failed"] == 1
    assert len(rows(version)) == 1


def test_a_recipe_that_asks_for_redaction_is_not_built_without(opened: Open, tmp_path: Path) -> None:
    workspace = opened()
    workspace.store.append([turn(1)])
    with pytest.raises(DatasetError, match="asks for redaction by standard"):
        build_version(workspace.store, recipe(redaction="standard"), tmp_path / "out")
    version = build_version(workspace.store, recipe(), tmp_path / "out", redactor=Redactor(MASK, b"k" * 32))
    assert version.manifest.recipe["redaction"] == exactly(MASK)
    with pytest.raises(SettingError, match="no redaction policy 'maks'"):
        workspace.build_dataset(recipe(redaction="maks"))


def test_a_recipe_file_names_policy_and_purpose() -> None:
    plain = parse_recipe({"name": "x", "redaction": "safe-harbor", "purpose": "share"})
    assert (plain.redaction, plain.purpose) == ("safe-harbor", "share")
    assert "redaction" not in Recipe().plain()
    assert Recipe(redaction="mask").hash() != Recipe().hash()
    with pytest.raises(RecipeError, match="purpose"):
        parse_recipe({"name": "x", "purpose": "selling"})


@pytest.mark.parametrize("redaction", ["", "standard"])
@pytest.mark.parametrize("stored", ["", "standard"])
def test_the_rule_drops_what_held_a_secret(opened: Open, redaction: str, stored: str) -> None:
    """Also where redaction has taken the secret out before the rule looks."""
    workspace = opened(redaction=stored)
    workspace.store.append([turn(1, said=f"Use the key {KEY}"), turn(2)])
    made = parse_recipe({"name": "x", "redaction": redaction, "steps": ["privacy_violations"]})
    version = workspace.build_dataset(made).version
    assert version.manifest.drops["steps.privacy_violation"] == 1
    assert len(rows(version)) == 1


def test_the_rule_looks_for_the_kinds_it_is_given() -> None:
    secret, person = turn(1, said=f"Use the key {KEY}"), turn(2)
    assert PrivacyViolations()(secret) == Drop("privacy_violation")
    assert PrivacyViolations()(person) is KEEP
    assert PrivacyViolations(kinds=("email",))(person) == Drop("privacy_violation")
    assert PrivacyViolations(kinds=("contact",))(person) == Drop("privacy_violation")
    assert PrivacyViolations(kinds=("iban",))(person) is KEEP
    fields = msgspec.structs.replace(turn(3, said="Hi"), artifact={"password": "hunter2hunter2"})
    assert PrivacyViolations()(fields) == Drop("privacy_violation")
    with pytest.raises(RecipeError, match="'emial' is no kind"):
        PrivacyViolations(kinds=("emial",))(person)


def test_together_knows_in_each_what_any_of_them_gives_away() -> None:
    redactor = Redactor(STANDARD, b"k" * 32)
    named = turn(1, said='{"first_name": "Vesna", "email": "v@mail.example"}', answer="ok")
    said = Feedback(**base(2), interaction_id=named.id, kind="comment", comment="Vesna was happy")
    alone = redactor.record(said)
    assert alone.comment == said.comment
    one, other = redactor.together([named, said], scope="c1")
    assert isinstance(other, Feedback)
    assert "Vesna" not in encode_json(other).decode()
    assert isinstance(one, Interaction)
    assert other.comment == f"{json.loads(one.messages[0]['content'])['first_name']} was happy"
    assert redactor.together([one, other], scope="c1") == [one, other]
    assert [mark["policy"] for mark in other.extra[MARK]] == ["standard"]
    assert Redactor(SAFE_HARBOR, b"k" * 32).kinds(named) >= {"person_name", "email"}
    nothing = Policy(name="nothing", version=1, otherwise="keep")
    assert Redactor(nothing, b"k" * 32).kinds(named) == set()
    assert re.fullmatch(r"[0-9a-f]{32}", redactor.origin(named))
