"""What a package holds becomes the records that the importers make of the same files outside of it."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.capture.test_packages import tar
from tracemill.capture.gepeto import GepetoTree
from tracemill.capture.importers import ImportContext
from tracemill.capture.importers.package import Entry, check_package, package_entries
from tracemill.capture.ingest import Reject
from tracemill.capture.packages import PackageLimits
from tracemill.core.codec import encode, encode_json
from tracemill.core.ids import new_id, now
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.records import SCHEMA_VERSION, AnyRecord, Feedback, Interaction, Step

CONTEXT = ImportContext(pseudonymize=Pseudonymizer(b"1" * 32).user)
TRANSCRIPT: dict[str, Any] = {
    "metadata": {"user_id": "ada", "conversation_id": "c-1", "timestamp": "2026-03-01T10:00:00+00:00", "model": "m"},
    "redacted_query": "Why?",
    "llm_response": "Because.",
}
FEEDBACK: dict[str, Any] = {
    "user_id": "ada",
    "timestamp": "2026-03-01 10:01:00+00:00",
    "conversation_id": "c-1",
    "user_question": "Why?",
    "llm_response": "Because.",
    "sentiment": 1,
}


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def entries(*files: tuple[str, bytes], context: ImportContext = CONTEXT, **more: Any) -> list[Entry]:
    package = io.BytesIO(gzip.compress(tar(*files)))
    return list(package_entries(package, PackageLimits(), context, **more))


def records(found: list[Entry]) -> list[AnyRecord]:
    return [entry.record for entry in found if entry.record is not None and not isinstance(entry.record, Reject)]


def refused(found: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.file, entry.record.reason) for entry in found if isinstance(entry.record, Reject)]


def test_lightspeed_files() -> None:
    files = [("transcripts/u/c-1/1.json", as_bytes(TRANSCRIPT)), ("feedback/2.json", as_bytes(FEEDBACK))]
    turn, mark = records(entries(*files, exporter_identity="cluster-7"))
    assert isinstance(turn, Interaction)
    assert isinstance(mark, Feedback)
    assert (turn.platform, turn.conversation_id, turn.response) == (
        "lightspeed", "c-1", {"role": "assistant", "content": "Because."},
    )  # fmt: skip
    assert turn.user == mark.user == CONTEXT.pseudonymize("ada")
    assert turn.extra["exporter_identity"] == mark.extra["exporter_identity"] == "cluster-7"
    shop = ImportContext(pseudonymize=CONTEXT.pseudonymize, platform="shop")
    again, _ = records(entries(*files, context=shop))
    assert (again.id, again.platform, "exporter_identity" in again.extra) == (turn.id, "shop", False)


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("transcripts/u/c/torn.json", b'{"metadata": {"user', "malformed"),
        ("transcripts/u/c/empty.json", b"", "malformed"),
        ("transcripts/u/c/other.json", b"[]", "invalid"),
        ("feedback/no-time.json", as_bytes({**FEEDBACK, "timestamp": "yesterday"}), "invalid"),
        ("feedback/deep.json", b'{"a":' * 100_000, "too_deep"),
        ("config/a.json", b"{}", "unknown_file"),
        ("transcripts.json", b"{}", "unknown_file"),
        ("records/a.csv", b"a,b", "unknown_file"),
        ("records/a.jsonl", b'{"type": "nothing"}\n', "invalid"),
        ("chat_contexts/1.0/context_a.json", b"{", "malformed"),
        ("predictions/1.0/prediction_a.json", b"[" * 100_000, "too_deep"),
        ("metadata/record_a.json", b"{}", "invalid"),
    ],
)
def test_what_is_no_record_is_refused_with_its_bytes(name: str, raw: bytes, reason: str) -> None:
    found = entries((name, raw), ("feedback/2.json", as_bytes(FEEDBACK)))
    assert len(records(found)) == 1
    ((file, why),) = refused(found)
    assert file == name
    assert why == reason
    (reject,) = [entry.record for entry in found if isinstance(entry.record, Reject)]
    assert reject.raw.strip() == raw.strip()


def made(number: int, **fields: Any) -> Interaction:
    base: dict[str, Any] = {"id": new_id(), "time": now(), "schema_version": SCHEMA_VERSION, "producer": "test"}
    return Interaction(**base, sequence=number, **fields)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(), max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(contents=st.lists(st.tuples(st.text(max_size=200), json_values), max_size=6), split=st.integers(1, 6))
def test_records_out_and_in_again_are_the_same(contents: list[tuple[str, Any]], split: int) -> None:
    sent: list[AnyRecord] = [
        made(number, messages=[{"role": "user", "content": text}], extra={"value": value})
        for number, (text, value) in enumerate(contents)
    ]
    lines = [encode_json(record) for record in sent]
    files = [(f"records/{at}.jsonl", b"\n".join(lines[at : at + split]) + b"\n") for at in range(0, len(lines), split)]
    found = entries(*files, exporter_identity="cluster-7")
    assert all(entry.stated_id for entry in found)
    assert [encode(record) for record in records(found)] == [encode(record) for record in sent]


def tree_files(root: Path) -> list[tuple[str, bytes]]:
    return [(path.relative_to(root).as_posix(), path.read_bytes()) for path in sorted(root.rglob("*.json"))]


def test_a_gepeto_tree_of_ours(tmp_path: Path) -> None:
    sent = [made(number, session_id=f"s {number % 2}/..", messages=[{"role": "user", "content": f"{number}"}])
            for number in range(4)]  # fmt: skip
    steps: list[AnyRecord] = [
        Step(id=new_id(), time=now(), schema_version=SCHEMA_VERSION, producer="test", sequence=9, interaction_id=one.id)
        for one in sent
    ]
    whole: list[AnyRecord] = [*sent, *steps]
    GepetoTree(tmp_path).write(whole)
    files = tree_files(tmp_path)
    found = entries(*files, exporter_identity="cluster-7")
    assert refused(found) == []
    assert {encode(record) for record in records(found)} == {encode(record) for record in whole}
    shuffled = entries(*reversed(files))
    assert [encode(record) for record in records(shuffled)] == [encode(record) for record in records(found)]


def test_a_gepeto_tree_of_another_program() -> None:
    context = {"session_id": "s-1", "timestamp": "2026-03-01T10:00:00Z", "user_id": "ada", "events": []}
    prediction = {"session_id": "s-1", "timestamp": "2026-03-01T10:00:05Z", "answer": "42"}
    files = [
        ("chat_contexts/1.0/context_x.json", as_bytes(context)),
        ("predictions/1.0/prediction_x.json", as_bytes(prediction)),
        ("metadata/session_s-1.json", b"{}"),
    ]
    found = entries(*files, exporter_identity="cluster-7")
    (record,) = records(found)
    assert isinstance(record, Interaction)
    assert (record.session_id, record.user) == ("s-1", CONTEXT.pseudonymize("ada"))
    assert record.extra["exporter_identity"] == "cluster-7"
    assert refused(found) == []
    assert [again.id for again in records(entries(*reversed(files)))] == [record.id]


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reading = package_entries(
        io.BytesIO(tar(("chat_contexts/../1.0/context_x.json", b"{}"), ("chat_contexts/1/context_x.json", b"{}"))),
        PackageLimits(),
        CONTEXT,
    )
    next(reading)
    assert len(list(tmp_path.iterdir())) == 1
    reading.close()
    assert list(tmp_path.iterdir()) == []


def test_files_are_counted_before_anything_is_read() -> None:
    counted: Callable[..., int] = check_package
    assert counted(io.BytesIO(tar(("a.json", b"1"), ("../b", b"2"))), PackageLimits()) == 2


odd = json_values | st.sampled_from(
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "\ud800", "\x00", 1e308, 2**70]
)
documents = st.dictionaries(
    st.sampled_from(
        [
            *TRANSCRIPT,
            *FEEDBACK,
            *TRANSCRIPT["metadata"],
            "session_id",
            "events",
            "trajectory",
            "tracemill",
            "answer",
            "user_name",
        ]
    ),
    odd | st.dictionaries(st.sampled_from([*TRANSCRIPT["metadata"], "id", "type", "role", "content"]), odd),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(first=documents, second=documents)
def test_odd_files_are_records_or_rejects(first: Any, second: Any) -> None:
    names = (
        *(
            "transcripts/u/c/1.json",
            "feedback/2.json",
            "chat_contexts/1/context_x.json",
            "predictions/1/prediction_x.json",
        ),
        *("metadata/record_x.json", "metadata/steps/i/record_y.json", "records/1.jsonl"),
    )
    changed = {**TRANSCRIPT, **second, "metadata": {**TRANSCRIPT["metadata"], **first}}
    for content in (first, second, changed, {**FEEDBACK, **first}):
        for entry in entries(*((name, as_bytes(content)) for name in names), exporter_identity="cluster-7"):
            if isinstance(entry.record, Reject):
                assert entry.record.reason in ("invalid", "malformed", "too_deep", "not_json")
            elif entry.record is not None:
                encode(entry.record)
