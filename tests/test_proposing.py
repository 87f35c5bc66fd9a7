"""Which version is the current one: builds, proposals, approvals at once, rollbacks, erasures in between."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import chat_records, record_id
from tracemill.core.certificate import CERTIFICATE_VERSION, Certificate, Check, State
from tracemill.core.errors import DatasetError, ProposalError, RecipeError
from tracemill.dataset.build import Built, build
from tracemill.dataset.gates import check_certificate
from tracemill.dataset.recipe import Recipe, parse_recipe
from tracemill.dataset.standing import STANDING, Gate, Gates, Standing, read_standing, write_standing
from tracemill.dataset.version import CERTIFICATE, current_versions
from tracemill.workspace import Workspace, proposing

RECIPE = Recipe(name="d", split={"train": 0.5, "test": 0.5})
LENIENT = msgspec.structs.replace(RECIPE, gates=Gates(maximum_lost=1.0))


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(tmp_path) as opened:
        opened.store.append(chat_records(range(12)))
        yield opened


def more(workspace: Workspace, *numbers: int) -> None:
    assert not workspace.store.append(chat_records(numbers)).refused


def actions(workspace: Workspace) -> list[tuple[str, str, str]]:
    return [(entry.action, entry.target, entry.actor) for entry in workspace.audit_log.entries()]


def folder(workspace: Workspace) -> Path:
    return workspace.dataset_root / "d"


# -- current


def test_a_build_makes_its_version_the_current_one(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.build_dataset(RECIPE)
    assert workspace.dataset("d").reference == "d@v2"
    assert workspace.dataset("d@v1").reference == "d@v1"
    assert read_standing(folder(workspace)).current == "v2"
    assert [version.reference for version in current_versions(workspace.dataset_root)] == ["d@v2"]


def test_versions_of_before_there_was_a_choice(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.build_dataset(RECIPE)
    (folder(workspace) / STANDING).unlink()
    assert workspace.dataset("d").reference == "d@v2"
    write_standing(folder(workspace), Standing(current="v9"))  # a build was killed before its version was there
    assert workspace.dataset("d").reference == "d@v2"
    (folder(workspace) / STANDING).write_text("{")
    with pytest.raises(DatasetError, match=r"standing\.json cannot be read"):
        workspace.dataset("d")
    assert workspace.dataset("d@v1").reference == "d@v1"


def test_a_rollback_holds_until_there_is_a_new_version(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    newer = workspace.build_dataset(RECIPE).version
    assert workspace.proposing.rollback("d", "v1", actor="ann", reason="worse").reference == "d@v1"
    assert workspace.dataset("d").reference == "d@v1"
    again = workspace.build_dataset(RECIPE)
    assert (again.new, again.version.reference) == (False, newer.reference)
    assert workspace.dataset("d").reference == "d@v1"  # what was there already does not undo a decision
    more(workspace, 21)
    workspace.build_dataset(RECIPE)
    assert workspace.dataset("d").reference == "d@v3"
    assert ("dataset.rollback", "d@v1", "ann") in actions(workspace)
    assert all(version.verify() == [] for version in workspace.datasets())


def test_a_build_that_is_killed_leaves_what_was_current(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.build_dataset(RECIPE)
    workspace.proposing.rollback("d", "v1", actor="ann")
    more(workspace, 21)
    renamed = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name == "version":
            assert workspace.dataset("d").reference == "d@v1"
            raise KeyboardInterrupt
        return renamed(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.build_dataset(RECIPE)
    assert workspace.dataset("d").reference == "d@v1"
    waiting = workspace.propose_dataset(RECIPE, actor="ann").version
    assert (waiting.reference, workspace.dataset("d").reference) == ("d@v3", "d@v1")
    workspace.proposing.approve("d@v3", actor="bob")
    assert workspace.dataset("d").reference == "d@v3"


def test_a_rollback_that_cannot_be(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.build_dataset(RECIPE)
    with pytest.raises(DatasetError, match="no dataset version 'd@v7'"):
        workspace.proposing.rollback("d", "7", actor="ann")
    with pytest.raises(ProposalError, match="is the current version already"):
        workspace.proposing.rollback("d", "2", actor="ann")
    path = next((folder(workspace) / "v1").glob("train-*.jsonl"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ProposalError, match="is damaged"):
        workspace.proposing.rollback("d", "1", actor="ann")
    assert workspace.dataset("d").reference == "d@v2"
    assert [action for action, _, _ in actions(workspace)] == []


def test_nobody_rolls_back_to_what_was_erased(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.build_dataset(RECIPE)
    workspace.erase("interaction", record_id("3"))
    assert workspace.dataset("d").reference == "d@v3"  # built of what is left
    for number in ("1", "2"):
        with pytest.raises(ProposalError, match="has no rows any more"):
            workspace.proposing.rollback("d", number, actor="ann")


def test_what_became_current_meanwhile_does_not_wait(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.propose_dataset(RECIPE, actor="ann")

    def approved_meanwhile(*given: Any, **named: Any) -> Built:
        found = build(*given, **named)
        with Workspace.open(workspace.path) as other:
            other.proposing.approve("d@v2", actor="bob")
        return found

    monkeypatch.setattr(proposing, "build", approved_meanwhile)
    with pytest.raises(ProposalError, match="is the current version already"):
        workspace.propose_dataset(RECIPE, actor="eve")
    standing = read_standing(folder(workspace))
    assert (standing.current, standing.proposals["v2"].status) == ("v2", "approved")


def test_what_is_left_after_an_erasure_may_be_a_version_of_before(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.build_dataset(RECIPE)
    workspace.export("d", "trl-sft")
    receipt = workspace.erase("interaction", record_id("20"))
    assert workspace.dataset("d").reference == "d@v1"  # the same records, the same recipe
    assert workspace.rebuilt(receipt) == {"d@v2": "d@v1"}
    assert workspace.export("d", "trl-sft").rows == 12


def test_what_is_left_after_an_erasure_and_was_never_approved_is_not_current(workspace: Workspace) -> None:
    workspace.propose_dataset(RECIPE, actor="ann")
    more(workspace, 20)
    workspace.build_dataset(RECIPE)
    receipt = workspace.erase("interaction", record_id("20"))
    assert (workspace.dataset("d").reference, workspace.rebuilt(receipt)) == ("d@v2", {"d@v2": ""})
    assert ("dataset.not_rebuilt", "d@v2", "erasure") in actions(workspace)
    workspace.proposing.approve("d@v1", actor="bob")
    assert workspace.dataset("d").reference == "d@v1"


# -- proposals


def test_a_proposal_waits_and_its_approval_makes_it_current(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20, 21)
    proposed = workspace.propose_dataset(RECIPE, actor="ann")
    assert proposed.version.reference == "d@v2"
    assert proposed.proposal.passed
    assert {gate.name for gate in proposed.proposal.gates} == {
        "verify",
        "rows",
        "lost",
        "certificate",
        "export.trl-sft",
    }
    assert proposed.changes is not None
    assert proposed.changes.added == {"new_record": 2}
    assert workspace.dataset("d").reference == "d@v1"
    approved = workspace.proposing.approve("d@v2", actor="bob", reason="looks right")
    assert workspace.dataset("d").reference == "d@v2"
    proposal = approved.proposal
    assert (proposal.status, proposal.actor, proposal.decided_by, proposal.base) == ("approved", "ann", "bob", "v1")
    assert not proposal.overridden
    assert actions(workspace) == [("dataset.propose", "d@v2", "ann"), ("dataset.approve", "d@v2", "bob")]
    assert workspace.audit_log.verify() == []
    workspace.proposing.rollback("d", "v1", actor="ann")  # and back, and forth: it was approved
    assert workspace.proposing.rollback("d", "v2", actor="ann").reference == "d@v2"


def test_the_first_version_of_a_name_may_be_a_proposal(workspace: Workspace) -> None:
    workspace.propose_dataset(RECIPE, actor="ann")
    with pytest.raises(DatasetError, match="no version of 'd' was approved yet"):
        workspace.dataset("d")
    assert current_versions(workspace.dataset_root) == []
    workspace.proposing.approve("d@v1", actor="bob")
    assert workspace.dataset("d").reference == "d@v1"
    with pytest.raises(ProposalError, match="is the current version already"):
        workspace.propose_dataset(RECIPE, actor="ann")


def test_what_was_refused_never_is_current(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.propose_dataset(RECIPE, actor="ann")
    with pytest.raises(ProposalError, match="needs a reason"):
        workspace.proposing.refuse("d@v2", actor="bob", reason=" ")
    refused = workspace.proposing.refuse("d@v2", actor="bob", reason="too few").proposal
    assert (refused.status, refused.reason) == ("refused", "too few")
    assert workspace.dataset("d").reference == "d@v1"
    with pytest.raises(ProposalError, match="was refused already, by bob"):
        workspace.proposing.approve("d@v2", actor="eve")
    with pytest.raises(ProposalError, match="never approved"):
        workspace.proposing.rollback("d", "2", actor="eve")
    again = workspace.propose_dataset(RECIPE, actor="ann")  # the same version, proposed once more
    assert (again.version.reference, again.proposal.status) == ("d@v2", "waiting")
    assert [action for action, _, _ in actions(workspace)][-2:] == ["dataset.refuse", "dataset.propose"]


@pytest.mark.parametrize(
    ("gates", "failing"),
    [
        (Gates(minimum_rows=1000), "rows"),
        (Gates(minimum_rows_of={"test": 1000}), "rows.test"),
        (Gates(formats=("trl-dpo",)), "export.trl-dpo"),
        (Gates(formats=("parchment",)), "export.parchment"),
        (Gates(maximum_lost=0.0), "lost"),
    ],
)
def test_a_gate_that_fails_takes_a_reason_to_pass(workspace: Workspace, gates: Gates, failing: str) -> None:
    workspace.build_dataset(RECIPE)
    steps = parse_recipe({"steps": [{"sample": {"fraction": 0.6}}]}).steps  # loses rows
    changed = msgspec.structs.replace(LENIENT, steps=steps)
    thresholds = gates if failing == "lost" else msgspec.structs.replace(gates, maximum_lost=1.0)
    proposed = workspace.propose_dataset(msgspec.structs.replace(changed, gates=thresholds), actor="ann")
    assert [gate.name for gate in proposed.proposal.gates if not gate.passed] == [failing]
    with pytest.raises(ProposalError, match=f"does not pass: {failing}: "):
        workspace.proposing.approve("d@v2", actor="bob")
    with pytest.raises(ProposalError, match="needs a reason"):
        workspace.proposing.approve("d@v2", actor="bob", override=True)
    assert workspace.dataset("d").reference == "d@v1"
    approved = workspace.proposing.approve("d@v2", actor="bob", override=True, reason="known")
    assert approved.proposal.overridden
    assert workspace.dataset("d").reference == "d@v2"
    entries = list(workspace.audit_log.entries())
    assert [entry.action for entry in entries][-2:] == ["dataset.approve.failed", "dataset.approve"]
    assert entries[-1].detail["overridden"] == [failing]


def test_a_damaged_version_is_not_approved_whatever_is_said(workspace: Workspace) -> None:
    version = workspace.propose_dataset(RECIPE, actor="ann").version
    path = version.path / "README.md"
    path.chmod(0o644)
    path.write_text("other")
    with pytest.raises(ProposalError, match=r"does not pass: verify: README\.md was changed"):
        workspace.proposing.approve("d@v1", actor="bob", override=True, reason="I want it")


def test_gates_are_checked_when_it_is_decided_not_only_when_it_is_proposed(workspace: Workspace) -> None:
    """Another version became current in between, of which this one would lose rows."""
    workspace.build_dataset(RECIPE)
    fewer = parse_recipe({"steps": [{"sample": {"fraction": 0.3}}]}).steps
    small = msgspec.structs.replace(RECIPE, steps=fewer)
    workspace.build_dataset(small)
    workspace.proposing.rollback("d", "v1", actor="ann")
    more(workspace, 30)
    waiting = workspace.propose_dataset(RECIPE, actor="ann")
    assert waiting.proposal.passed
    more(workspace, *range(40, 80))
    workspace.build_dataset(RECIPE)
    with pytest.raises(ProposalError, match=r"lost: 40 rows of d@v4"):
        workspace.proposing.approve(waiting.version.reference, actor="bob")
    assert workspace.dataset("d").reference == "d@v4"


def test_what_waits_and_is_erased_has_to_be_proposed_again(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.propose_dataset(RECIPE, actor="ann")
    workspace.erase("interaction", record_id("20"))
    assert workspace.dataset("d").reference == "d@v1"  # it never read the record
    assert workspace.dataset("d").tombstone is None
    assert [version.reference for version in workspace.datasets()] == ["d@v1", "d@v2"]
    with pytest.raises(ProposalError, match="has no rows any more"):
        workspace.proposing.approve("d@v2", actor="bob")


def test_only_a_whole_reference_is_decided_on(workspace: Workspace) -> None:
    workspace.build_dataset(RECIPE)
    for reference, message in (("d", "names no one version"), ("d@v1", "was never proposed")):
        with pytest.raises(ProposalError, match=message):
            workspace.proposing.approve(reference, actor="bob")
        with pytest.raises(ProposalError, match=message):
            workspace.proposing.refuse(reference, actor="bob", reason="r")
    with pytest.raises(DatasetError, match="no dataset version 'd@v5'"):
        workspace.proposing.approve("d@v5", actor="bob")


def _decide(path: Path, number: int, approve: bool, begin: Any, results: Any) -> None:
    with Workspace.open(path) as opened:
        begin.wait(30)
        try:
            if approve:
                opened.proposing.approve("d@v2", actor=f"p{number}")
            else:
                opened.proposing.refuse("d@v2", actor=f"p{number}", reason="no")
        except ProposalError as error:
            results.put((number, error.message))
        else:
            results.put((number, "done"))


@pytest.mark.parametrize("votes", [(True, True, True), (True, False, True)])
def test_of_those_who_decide_at_once_one_does(workspace: Workspace, tmp_path: Path, votes: tuple[bool, ...]) -> None:
    workspace.build_dataset(RECIPE)
    more(workspace, 20)
    workspace.propose_dataset(RECIPE, actor="ann")
    spawn = multiprocessing.get_context("spawn")
    begin, results = spawn.Barrier(len(votes)), spawn.Queue()
    people = [
        spawn.Process(target=_decide, args=(tmp_path, number, vote, begin, results))
        for number, vote in enumerate(votes)
    ]
    for person in people:
        person.start()
    said = dict(results.get(timeout=60) for _ in people)
    for person in people:
        person.join(60)
    winners = [number for number, message in said.items() if message == "done"]
    assert len(winners) == 1
    proposal = read_standing(folder(workspace)).proposals["v2"]
    assert proposal.decided_by == f"p{winners[0]}"
    assert workspace.dataset("d").reference == ("d@v2" if votes[winners[0]] else "d@v1")
    assert sum(action in ("dataset.approve", "dataset.refuse") for action, _, _ in actions(workspace)) == 1


def test_a_certificate_with_a_failed_check_is_a_gate(workspace: Workspace) -> None:
    version, signer = workspace.build_dataset(RECIPE).version, workspace.signer
    assert check_certificate(version, signer).passed  # there is none
    path = version.path / CERTIFICATE

    def certificate(state: State, manifest: str = version.manifest_sha256) -> Certificate:
        unsigned = Certificate(
            certificate_version=CERTIFICATE_VERSION,
            dataset=version.name,
            version=version.path.name,
            manifest_sha256=manifest,
            issued="2026-01-01T00:00:00+00:00",
            tracemill="0",
            watermark=1,
            checks=[Check(name="leaks.users", state="passed"), Check(name="consent", state=state, value=0.1)],
            key_id=signer.key_id,
        )
        return msgspec.structs.replace(unsigned, signature=signer.sign(unsigned.signed_bytes()))

    def gate(certificate: Certificate) -> Gate:
        path.write_bytes(msgspec.json.encode(certificate))
        return check_certificate(version, signer)

    failed = certificate("failed")
    assert gate(certificate("passed")) == Gate(name="certificate", passed=True, detail="none of 2 checks failed")
    assert gate(certificate("unknown")).passed
    assert gate(failed) == Gate(name="certificate", passed=False, detail="failed: consent")
    assert not gate(certificate("passed", "0" * 64)).passed
    mended = msgspec.structs.replace(failed, checks=certificate("passed").checks)
    assert gate(mended).detail == "the signature does not hold: it was changed after it was signed"
    path.write_text("{")
    assert not check_certificate(version, signer).passed


# -- gates in a recipe


def test_gates_are_read_from_a_recipe_and_are_no_part_of_its_hash() -> None:
    recipe = parse_recipe({"gates": {"minimum_rows": 5, "minimum_rows_of": {"test": 2}, "formats": ["trl-sft"]}})
    assert recipe.gates == Gates(minimum_rows=5, minimum_rows_of={"test": 2}, formats=("trl-sft",))
    assert recipe.hash() == Recipe().hash()
    assert "gates" not in recipe.plain()
    with pytest.raises(RecipeError, match=r"gates\.minimum_row: unknown key") as caught:
        parse_recipe({"gates": {"minimum_row": 1}})
    assert "minimum_rows" in caught.value.hint
    with pytest.raises(RecipeError, match=r"gates\.maximum_lost: a share is between 0 and 1"):
        parse_recipe({"gates": {"maximum_lost": 2}})
