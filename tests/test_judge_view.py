"""What leaves for the judge: redacted for ``evaluate``, asked again under another policy, of nobody who withdrew it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import base, decision, interaction, says, user
from tests.fake_model import FakeModel
from tests.test_judging import judged, said
from tests.test_redaction import CANARIES, TEXT
from tracemill.core.errors import RecordError, SettingError
from tracemill.core.records import Consent, Interaction
from tracemill.core.settings import load_settings
from tracemill.privacy.policies import MASK, exactly
from tracemill.privacy.redact import Redactor
from tracemill.quality.judge_client import Pace
from tracemill.workspace import Workspace

OWN = "policies: [{name: ours, version: %d, extends: mask, actions: {date: %s}}]\npurposes: {evaluate: ours}\n"


def opened(folder: Path, model: FakeModel, policies: str = "") -> Workspace:
    """The workspace of a folder, with a judge and a file of policies."""
    model.reply = judged
    arguments = {"workspace": str(folder / "w"), "judge_url": f"{model.url}/v1", "judge_model": "judge-1"}
    if policies:
        (folder / "policies.yaml").write_text(policies)
        arguments["policies"] = str(folder / "policies.yaml")
    return Workspace.open(settings=load_settings(arguments, environment={}))


def found_in(model: FakeModel) -> set[str]:
    """Which of the planted values the judge was sent."""
    sent = json.dumps([one["body"] for one in model.requests], ensure_ascii=False)
    return {name for name, needle in CANARIES.items() if needle.decode() in sent}


def planted(name: str, **fields: Any) -> Interaction:
    """A conversation of which only the first message gives the person away."""
    return interaction(name, [says("user", TEXT), says("assistant", "good, Zephyrine")], **fields)


def test_what_is_sent_is_redacted_by_the_policy_of_the_purpose(tmp_path: Path, fake_model: FakeModel) -> None:
    decided = decision("d", "a", choice="train", reasoning="Zephyrine prefers trains")
    trials = [planted(f"t{at}", task_id="t", trial=at) for at in range(2)]
    with opened(tmp_path, fake_model, "purposes: {evaluate: mask}\n") as workspace:
        workspace.store.append([planted("a"), decided, *trials])
        report = workspace.judge()
        assert (report.judged, report.redaction) == (3, exactly(MASK))
        assert workspace.judge(pairs=True).judged == 1
        assert len(fake_model.requests) == 5
        assert found_in(fake_model) == set()
        assert "prefers trains" in repr(fake_model.requests)
        assert {one.extra["redaction"] for one in said(workspace)} == {exactly(MASK)}
        assert "Zephyrine" in repr(workspace.store.get(trials[0].id))  # what is stored stays as it is
        entries = [entry.detail for entry in workspace.audit_log.entries() if entry.action == "quality.judge"]
        assert [entry["redaction"] for entry in entries] == [exactly(MASK)] * 2


def test_without_a_policy_for_the_purpose_it_is_sent_as_it_is_stored(tmp_path: Path, fake_model: FakeModel) -> None:
    """The search above can fail; a policy of another purpose changes nothing."""
    with opened(tmp_path, fake_model, "purposes: {train: mask}\n") as workspace:
        workspace.store.append([planted("a")])
        assert workspace.judge().redaction == ""
        assert found_in(fake_model) == set(CANARIES)
        assert all(one.extra == {} for one in said(workspace))


def test_another_policy_asks_again_and_the_same_does_not(tmp_path: Path, fake_model: FakeModel) -> None:
    """Also where the words that are sent are the same to the letter."""
    with opened(tmp_path, fake_model) as workspace:
        workspace.store.append([interaction("a", [says("user", "is it far?"), says("assistant", "good")])])
        assert (workspace.judge().judged, workspace.judge().known) == (1, 1)
    for version, action in ((1, "keep"), (1, "mask"), (2, "mask")):
        with opened(tmp_path, fake_model, OWN % (version, action)) as workspace:
            first, again = workspace.judge(), workspace.judge()
            assert (first.judged, first.cached, first.calls, again.known, again.calls) == (1, 0, 1, 1, 0)
    assert len(fake_model.requests) == 4
    assert len({json.dumps(one["body"]) for one in fake_model.requests}) == 1


def test_equal_content_is_asked_once_under_a_policy_too(tmp_path: Path, fake_model: FakeModel) -> None:
    with opened(tmp_path, fake_model, "purposes: {evaluate: mask}\n") as workspace:
        workspace.store.append([planted("a"), planted("b")])
        report = workspace.judge(workers=1)
        assert (report.judged, report.cached, len(fake_model.requests)) == (2, 1, 1)


def test_what_cannot_be_redacted_is_not_sent(
    tmp_path: Path, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Redactor.together

    def failing(self: Redactor, records: Any, *, scope: str) -> Any:
        if any("poison" in repr(record) for record in records):
            raise RecordError("too_deep", "nested deeper than any reader takes")
        return whole(self, records, scope=scope)

    monkeypatch.setattr(Redactor, "together", failing)
    poisoned = interaction("p", [says("user", "poison"), says("assistant", "good")], task_id="t", trial=0)
    with opened(tmp_path, fake_model, "purposes: {evaluate: mask}\n") as workspace:
        workspace.store.append([poisoned, planted("a", task_id="t", trial=1)])
        report = workspace.judge()
        assert (report.judged, report.unknown) == (1, {"redaction_failed": 1})
        assert workspace.judge(pairs=True).unknown == {"redaction_failed": 1}
        assert "poison" not in repr(fake_model.requests)


def test_who_withdraws_while_a_run_is_under_way_is_not_sent_any_more(tmp_path: Path, fake_model: FakeModel) -> None:
    with opened(tmp_path, fake_model) as workspace:
        ann = user("f" * 64)
        texts = [f"bad {at}" for at in range(4)]
        turns = [
            interaction(text, [says("user", "far?"), says("assistant", text)], user=ann, task_id="t", trial=at)
            for at, text in enumerate(texts)
        ]
        workspace.store.append(turns)

        def withdraws(body: dict[str, Any]) -> str:
            number = len(fake_model.requests)
            taken = Consent(**base(f"no {number}"), user=ann, purpose="evaluate", granted=False)
            workspace.store.append([taken])
            return judged(body)

        fake_model.reply = withdraws
        report = workspace.judge(workers=1)
        assert (report.judged, report.denied, len(fake_model.requests)) == (1, 3, 1)


def test_who_withdraws_while_pairs_are_judged_is_in_no_further_pair(tmp_path: Path, fake_model: FakeModel) -> None:
    with opened(tmp_path, fake_model) as workspace:
        ann = user("f" * 64)
        turns = [
            interaction(
                f"t{at}", [says("user", "far?"), says("assistant", f"bad {at}")], user=ann, task_id="t", trial=at
            )
            for at in range(3)
        ]
        workspace.store.append(turns)

        def withdraws(body: dict[str, Any]) -> str:
            taken = Consent(**base("no"), user=ann, purpose="store", granted=False)
            workspace.store.append([taken])
            return judged(body)

        fake_model.reply = withdraws
        report = workspace.judge(pairs=True, workers=1, pace=Pace(most=10))
        assert (report.judged, len(fake_model.requests)) == (1, 2)


def test_a_policy_that_is_not_there_lets_nothing_out(tmp_path: Path, fake_model: FakeModel) -> None:
    with opened(tmp_path, fake_model) as workspace:
        workspace.store.append([planted("a")])
    with pytest.raises(SettingError, match="no redaction policy 'ours'"):
        opened(tmp_path, fake_model, "purposes: {evaluate: ours}\n").judge()
    assert fake_model.requests == []
