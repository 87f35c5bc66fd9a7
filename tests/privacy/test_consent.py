"""Consent by purpose: at the build, at the export, after erasure and after a restore; and the signal of browsers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from tests.dataset.support import START, base, feedback, interaction, list_store, record_id, says, user
from tracemill.core.consent import GLOBAL_PRIVACY_CONTROL, is_private
from tracemill.core.ids import id_text
from tracemill.core.records import AnyRecord, Consent, Interaction, Purpose
from tracemill.core.settings import load_settings
from tracemill.dataset.build import build
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.privacy.consent import Consents, gpc_consents, read_consents
from tracemill.sdk.client import Client
from tracemill.store.tables import consents as table
from tracemill.workspace import Workspace

ALL = {"train": 1.0}


def said(name: str, person: str, purpose: Purpose, granted: bool, /, *, minutes: float = 0, **fields: Any) -> Consent:
    return Consent(**base(name, minutes), user=user(person), purpose=purpose, granted=granted, **fields)


def turn(name: str, person: str | None = None, /, **fields: Any) -> Interaction:
    messages = [says("user", f"question of {name}"), says("assistant", f"answer to {name}")]
    given_by = None if person is None else user(person)
    return interaction(name, messages[:1], response=messages[1], success=True, user=given_by, **fields)


def opened(path: Path, **more: Any) -> Workspace:
    return Workspace.open(path, settings=load_settings({"workspace": str(path), **more}, environment={}))


def sources(version: Version) -> set[str]:
    return {source for example in version.examples() for source in example.sources}


def built(path: Path, records: Sequence[AnyRecord], **recipe: Any) -> Version:
    return build(list_store(records), Recipe(split=ALL, **recipe), path).version


def test_a_build_leaves_out_who_does_not_allow_its_purpose_and_says_so(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        turn("a", "ann"),
        turn("b", "bob"),
        said("no", "ann", "train", False),
        said("s", "bob", "share", False),
    ]
    version = built(tmp_path, records)
    assert sources(version) == {record_id("b")}
    fates = {fate.id: fate for fate in version.fates()}
    assert fates[record_id("a")].dropped == "consent.train"
    assert version.manifest.drops["consent.train"] == 1
    assert record_id("no") in fates  # it was read, so erasure finds it
    assert record_id("s") not in fates  # of another purpose
    assert sources(built(tmp_path, records, purpose="share", name="shared")) == {record_id("a")}
    assert sources(built(tmp_path, records, purpose="evaluate", name="evaluated")) == {record_id("a"), record_id("b")}
    assert version.verify() == []


def test_a_withdrawal_gives_a_new_version_and_taking_it_back_another(tmp_path: Path) -> None:
    records: list[AnyRecord] = [turn("a", "ann"), turn("b", "bob")]
    first = built(tmp_path, records)
    assert built(tmp_path, records).number == first.number
    records.append(said("no", "ann", "train", False))
    second = built(tmp_path, records)
    assert (second.number, len(sources(second))) == (2, 1)
    records.append(said("yes", "ann", "train", True, minutes=1))
    third = built(tmp_path, records)
    assert (third.number, len(sources(third))) == (3, 2)
    records.append(said("other", "carl", "train", False))
    assert built(tmp_path, records).number == 3  # nobody of whom anything was read


def test_who_withdrew_storing_is_not_trained_on(tmp_path: Path) -> None:
    version = built(tmp_path, [turn("a", "ann"), turn("b", "bob"), said("no", "ann", "store", False)])
    assert sources(version) == {record_id("b")}


def test_a_default_of_denied_takes_only_who_allows(tmp_path: Path) -> None:
    records: list[AnyRecord] = [turn("a", "ann"), turn("b", "bob"), turn("nobody"), said("yes", "bob", "train", True)]
    version = built(tmp_path, records, consent_default="denied")
    assert sources(version) == {record_id("b")}
    assert version.manifest.recipe["consent_default"] == "denied"


def test_feedback_of_who_withdrew_is_not_used(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        turn("b", "bob"),
        feedback("edit", "b", kind="edit", correction="my own words", user=user("ann")),
        said("no", "ann", "train", False),
    ]
    version = built(tmp_path, records)
    fates = {fate.id: fate for fate in version.fates()}
    assert fates[record_id("edit")].dropped == "consent.train"
    assert b"my own words" not in b"".join(path.read_bytes() for path in version.path.iterdir())
    before = built(tmp_path, records[:2], name="before")
    assert b"my own words" in b"".join(path.read_bytes() for path in before.path.iterdir())


def test_a_record_with_the_signal_is_neither_trained_on_nor_shared(tmp_path: Path) -> None:
    marked = turn("a", extra={GLOBAL_PRIVACY_CONTROL: True})
    spanned = turn("s", extra={"attributes": {"http.request.header.sec-gpc": ["1"]}})
    records: list[AnyRecord] = [marked, spanned, turn("b")]
    assert sources(built(tmp_path, records)) == {record_id("b")}
    assert sources(built(tmp_path, records, purpose="share", name="share")) == {record_id("b")}
    assert len(sources(built(tmp_path, records, purpose="evaluate", name="evaluate"))) == 3
    assert not is_private({"attributes": {"http.request.header.sec-gpc": ["0"]}, GLOBAL_PRIVACY_CONTROL: False})


_one = st.tuples(
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["train", "store", "share"]),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([None, "default", "other"]),
)


@given(st.lists(_one, max_size=6), st.randoms(use_true_random=False), st.sampled_from(["granted", "denied"]))
def test_what_holds_is_the_newest_in_any_order_of_storing(lines: list[Any], random: Any, default: Any) -> None:
    records: list[AnyRecord] = [
        said(f"c{at}", person, purpose, granted, minutes=minutes, platform=platform)
        for at, (person, purpose, granted, minutes, platform) in enumerate(lines)
    ]

    def expected(person: str) -> bool:
        def holds(purpose: str, otherwise: bool) -> bool:
            found = [
                (record.time, record.id, record.granted)
                for record in records
                if isinstance(record, Consent)
                and (record.user.pseudonym, record.purpose) == (person, purpose)
                and record.platform in (None, "default")
            ]
            return max(found)[2] if found else otherwise

        return holds("store", True) and holds("train", default == "granted")

    shuffled = random.sample(records, len(records))
    held = read_consents(list_store(shuffled), "train", default)
    for person in ("ann", "bob"):
        assert held.denies(turn("x", person)) is not expected(person)


def test_an_export_leaves_out_who_withdrew_since_and_counts_it(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn("a", "ann"), turn("b", "bob"), turn("c", "carl")])
        version = workspace.build_dataset(Recipe(split=ALL)).version
        first = workspace.export(version.reference, "openai-chat", tmp_path / "one")
        assert (first.rows, first.manifest.refused) == (3, {})
        workspace.store.append([said("no", "ann", "train", False), said("s", "bob", "share", False)])
        workspace.consenting.say(user("carl"), "store", granted=False, actor="test")
        second = workspace.export(version.reference, "openai-chat", tmp_path / "two")
        assert (second.rows, second.manifest.refused) == (1, {"consent.train": 2})
        text = (tmp_path / "two" / "train.jsonl").read_text()
        assert "question of b" in text
        assert "question of a" not in text
        again = workspace.export(version.reference, "openai-chat", tmp_path / "three")
        assert again.manifest.files == second.manifest.files
        rebuilt = workspace.build_dataset(Recipe(split=ALL)).version
        assert workspace.export(rebuilt.reference, "openai-chat", tmp_path / "four").manifest.refused == {}


def test_a_stricter_default_reaches_versions_of_before(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn("a", "ann"), turn("b", "bob"), said("yes", "bob", "train", True)])
        version = workspace.build_dataset(Recipe(split=ALL)).version
        assert workspace.export(version.reference, "openai-chat", tmp_path / "one").rows == 2
    with opened(tmp_path, consent_defaults={"train": "denied"}) as workspace:
        report = workspace.export(version.reference, "openai-chat", tmp_path / "two")
        assert (report.rows, report.manifest.refused) == (1, {"consent.train": 1})
        assert sources(workspace.build_dataset(Recipe(split=ALL)).version) == {record_id("b")}
        assert {record.id for record in workspace.training_data()} == {record_id("b")}


def test_a_withdrawal_outlives_the_erasure_of_everything_else(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        ann = workspace.person("ann@example.com")
        workspace.store.append([msgspec.structs.replace(turn("a"), user=ann), turn("b", "bob")])
        record = workspace.consenting.say(ann, "train", granted=False, actor="test")
        receipt = workspace.erase("user", "ann@example.com")
        assert receipt.complete
        assert workspace.store.get(record.id) is None
        (said_once,) = workspace.store.consents(("train",))
        assert said_once.erased
        assert id_text(said_once.id) != record.id
        back = msgspec.structs.replace(turn("back"), user=ann, time=START + timedelta(days=5000))
        assert workspace.store.append([back]).stored == 1
        version = workspace.build_dataset(Recipe(split=ALL)).version
        assert sources(version) == {record_id("b")}
        assert record.id not in {fate.id for fate in version.fates()}
        entries = [entry for entry in workspace.audit_log.entries() if entry.action == "consent.withdraw"]
        assert [entry.detail["purpose"] for entry in entries] == ["train"]
        assert "ann" not in str(entries)
        assert ann.pseudonym not in str(entries)


def test_a_restored_database_hears_of_the_withdrawals_it_lost(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        workspace.store.append([turn("a", "ann")])
        version = workspace.build_dataset(Recipe(split=ALL)).version
        workspace.consenting.say(user("ann"), "train", granted=False, actor="test", platform="default")
        record = next(iter(workspace.store.scan(None)))
        assert isinstance(record, Interaction)
        with workspace.store.exclusive() as connection:  # what a backup of before does not have
            connection.execute(delete(table))
        assert workspace.export(version.reference, "openai-chat", tmp_path / "one").rows == 1
        assert workspace.consenting.agree() == 1
        assert workspace.consenting.agree() == 0
        assert workspace.export(version.reference, "openai-chat", tmp_path / "two").rows == 0
        assert [one.granted for one in workspace.consenting.standing("ann") if one.platform == "default"] == [False]


def test_captured_is_stored_or_dropped_for_want_of_consent(tmp_path: Path) -> None:
    with opened(tmp_path, delivery_interval_ms=5) as workspace:
        workspace.store.append([said("no", "ann", "store", False)])
        client = Client(tmp_path, workspace.settings, workspace.delivery)
        for person in ("ann", "bob", "ann"):
            client.capture(Interaction, {"messages": [says("user", "hello")], "user": user(person)})
        assert client.deliver(20)
        counts = client.counts()
        assert (counts.captured, counts.stored, counts.dropped) == (3, 1, {"no_consent": 2})
        assert counts.unaccounted == 0
        client.close()
    with opened(tmp_path) as workspace:
        health = workspace.doctor(verify=False)
        assert health.collection.dropped == {"no_consent": 2}
        assert next(check for check in health.checks if check.name == "collection").ok


def test_the_signal_becomes_a_consent_once_and_takes_back_nothing() -> None:
    person, when = user("ann"), START
    made = gpc_consents(person, [], when, None)
    assert [(one.purpose, one.granted, one.source) for one in made] == [
        ("train", False, "gpc"),
        ("share", False, "gpc"),
    ]
    store = list_store([said("yes", "ann", "train", True)])
    left = gpc_consents(person, store.consents(("train", "share")), when, None)
    assert [one.purpose for one in left] == ["share"]
    assert {one.id for one in made} >= {one.id for one in left}


def test_nothing_said_denies_nothing() -> None:
    for purpose, person in itertools.product(("store", "train"), ("ann", None)):
        assert not Consents([], purpose).denies(turn("x", person))  # type: ignore[arg-type]
