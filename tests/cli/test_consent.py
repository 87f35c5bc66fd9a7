"""What people allow, by command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_commands import answered, said
from tracemill.core.errors import SettingError
from tracemill.core.records import Consent
from tracemill.store.base import Filter
from tracemill.workspace import Workspace


@pytest.fixture
def at(tmp_path: Path) -> tuple[str, str]:
    folder = str(tmp_path / "workspace")
    said("init", "--workspace", folder)
    return ("--workspace", folder)


def test_what_is_withdrawn_is_shown_counted_and_audited(at: tuple[str, str]) -> None:
    before = answered(*at, "consent", "show", "ann")
    assert all(one["granted"] and one["default"] for one in before["consents"])
    assert "Nobody said anything yet." in said(*at, "consent", "list")
    made = answered(*at, "consent", "withdraw", "ann", "train", "--basis", "letter", "--policy-version", "7")
    assert "train is granted for this person on shop" in said(
        *at, "consent", "grant", "ann", "train", "--platform", "shop"
    )
    after = answered(*at, "consent", "show", before["user"])
    train = {one["platform"]: one for one in after["consents"] if one["purpose"] == "train"}
    assert (train[None]["granted"], train[None]["record"]) == (False, made["consent"])
    assert train["shop"]["granted"] is True
    assert "denied" in said(*at, "consent", "show", "ann")
    counted = answered(*at, "consent", "list")
    assert {(one["purpose"], one["platform"], one["granted"], one["denied"]) for one in counted["said"]} == {
        ("train", None, 0, 1),
        ("train", "shop", 1, 0),
    }
    with Workspace.open(at[1]) as workspace:
        records = [record for record in workspace.records(Filter(types=("consent",))) if isinstance(record, Consent)]
    assert [(one.basis, one.policy_version, one.source) for one in records] == [
        ("letter", "7", "cli"),
        (None, None, "cli"),
    ]
    actions = [entry["action"] for entry in answered(*at, "audit", "list", "--action", "consent")]
    assert actions == ["consent.withdraw", "consent.grant"]
    assert (Path(at[1]) / "receipts" / "withdrawals.log").read_text().count("\n") == 1


def test_a_purpose_nobody_knows_is_refused(at: tuple[str, str]) -> None:
    with pytest.raises(SettingError, match="there is no purpose 'dance'"):
        said(*at, "consent", "withdraw", "ann", "dance", code=1)
