"""Transcript and feedback files: names that nothing can misread, content that is whole, and the way back."""

from __future__ import annotations

import json
import threading
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.capture.ingest import Reject
from tracemill.capture.lightspeed.files import read_file, safe_name, write_feedback, write_json, write_transcript
from tracemill.core.errors import SettingError
from tracemill.core.ids import new_id, now
from tracemill.core.pseudonym import Pseudonymizer
from tracemill.core.records import Feedback, Interaction, User

PEOPLE = Pseudonymizer(b"k" * 32)
HOSTILE = [
    "", ".", "..", "../", "..\\", "../../etc/passwd", "%2e%2e", "%2e%2e%2f", "a/b", "a\\b", "/etc", "C:\\x", "a\0b", "\0",
    "con", "CON", "nul", "COM1", "lpt9", "con.json", "x" * 300, "é" * 150, "Straße", "STRASSE", "abc", "ABC", "Abc", "a b",
    unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café"), "\u202egnp.exe", "a.", "a ", " a", "-rf",
    "~", "$HOME", "sha256-abc", "\ud800", "\u0130", "i\u0307", "\u212a", "k", "name:stream", "*.json", "\n",
]  # fmt: skip


def folded(name: str) -> str:
    """What the least discerning file system makes of a name."""
    return unicodedata.normalize("NFKC", name).casefold().rstrip(". ")


def turn(**fields: Any) -> Interaction:
    base: dict[str, Any] = {
        "id": new_id(), "time": now(), "schema_version": 1, "producer": "lightspeed", "sequence": 0, "kind": "query",
        "conversation_id": "c1", "user": PEOPLE.user("ada"), "messages": [{"role": "user", "content": "q"}],
        "response": {"role": "assistant", "content": "a"},
    }  # fmt: skip
    return Interaction(**{**base, **fields})


def test_hostile_names_are_safe_and_never_meet() -> None:
    names = [safe_name(raw) for raw in HOSTILE]
    assert len({folded(name) for name in names}) == len(HOSTILE)
    for name in names:
        assert name.isascii()
        assert 0 < len(name) <= 100
        assert name == name.lower()
        assert not set(name) & set("/\\\0.:%~ *$")
        assert name.split("-")[0] not in {"con", "nul", "com1", "lpt9", ""}
    assert safe_name("abc") == "abc"


@given(st.lists(st.text(max_size=80), min_size=2, max_size=8, unique=True))
def test_two_texts_never_share_a_name(texts: list[str]) -> None:
    assert len({folded(safe_name(text)) for text in texts}) == len(texts)


@given(st.text())
def test_a_name_is_never_another_texts_hash(text: str) -> None:
    name = safe_name(text)
    assert name == text or safe_name(name) != name


@pytest.mark.parametrize("raw", [raw for raw in HOSTILE if raw != "\ud800"])  # which no record can hold
def test_hostile_ids_stay_inside(tmp_path: Path, raw: str) -> None:
    root = tmp_path / "transcripts"
    record = turn(conversation_id=raw, user=User(pseudonym=raw, key_id="k"))
    path = write_transcript(root, record)
    assert path == root / safe_name(raw) / safe_name(raw) / f"{record.id}.json"
    assert path.resolve().is_relative_to(root.resolve())
    assert [found.name for found in tmp_path.iterdir()] == ["transcripts"]


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "transcripts", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    record = turn()
    assert record.user is not None
    (root / record.user.pseudonym).symlink_to(outside)
    with pytest.raises(SettingError, match="leads out"):
        write_transcript(root, record)
    assert list(outside.iterdir()) == []


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    write_transcript(tmp_path / "root", turn())
    assert len(list((tmp_path / "real").rglob("*.json"))) == 1


def test_a_collector_never_sees_half_a_file(tmp_path: Path) -> None:
    root, large, done = tmp_path / "files", {"text": "x" * 2_000_000}, threading.Event()
    seen: list[int] = []
    torn: list[Path] = []

    def collect() -> None:
        last = False
        while not last:
            last = done.is_set()
            for path in root.rglob("*.json"):
                try:
                    seen.append(len(json.loads(path.read_bytes())["text"]))
                except ValueError:
                    torn.append(path)

    collector = threading.Thread(target=collect)
    collector.start()
    for number in range(20):
        write_json(root, root / f"{number}.json", large)
    done.set()
    collector.join()
    assert torn == []
    assert set(seen) == {2_000_000}
    assert len(list(root.iterdir())) == 20, "drafts stayed"


def test_a_draft_that_cannot_become_a_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    (tmp_path / "x.json" / "inside").touch()
    with pytest.raises(OSError, match=r"x\.json"):
        write_json(tmp_path, tmp_path / "x.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_every_text_of_a_transcript_is_redacted(tmp_path: Path) -> None:
    secret = "ada@example.org"
    call = {"id": "1", "type": "function", "function": {"name": "mail", "arguments": json.dumps({"to": [secret]})}}
    record = turn(
        messages=[{"role": "user", "content": f"write {secret}\n\n[Attachment: log]\nby {secret}"}],
        response={"role": "assistant", "content": f"to {secret}?", "tool_calls": [call]},
        attachments=[{"attachment_type": "log", "content_type": "text/plain", "content": f"by {secret}"}],
        retrieved_chunks=[{"content": f"see {secret}", "score": 0.5}],
        extra={"query": f"write {secret}"},
    )
    content = json.loads(write_transcript(tmp_path, record).read_bytes())
    assert secret not in json.dumps(content)
    assert content["redacted_query"] == "write [EMAIL]"
    assert content["tool_calls"] == [{"id": "1", "name": "mail", "args": {"to": ["[EMAIL]"]}, "type": "tool_call"}]
    assert content["rag_chunks"] == [{"content": "see [EMAIL]", "score": 0.5}]


SEED_TRANSCRIPT = {
    "metadata": {
        "provider": "openai", "model": "gpt-4", "query_provider": "openai", "query_model": "gpt-4", "user_id": "user-uuid",
        "conversation_id": "conversation-uuid", "timestamp": "2024-01-01T12:00:00Z",
    },
    "redacted_query": "What is Kubernetes?", "query_is_valid": True, "llm_response": "Kubernetes is…", "rag_chunks": [],
    "truncated": False, "attachments": [],
}  # fmt: skip
SEED_FEEDBACK = {
    "user_id": "user-uuid", "timestamp": "2024-01-01 12:00:00+00:00", "conversation_id": "conversation-uuid",
    "user_question": "What is Kubernetes?", "llm_response": "Kubernetes is…", "sentiment": 1,
    "user_feedback": "This response was very helpful", "categories": ["helpful"],
}  # fmt: skip


def read(content: Any) -> Interaction | Feedback | Reject:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_file(raw, "file", user=PEOPLE.user, platform="lightspeed")


def test_files_of_the_real_service_are_read() -> None:
    record, said = read(SEED_TRANSCRIPT), read(SEED_FEEDBACK)
    assert isinstance(record, Interaction)
    assert isinstance(said, Feedback)
    assert record.user == said.user == PEOPLE.user("user-uuid")
    assert record.messages == [{"role": "user", "content": "What is Kubernetes?"}]
    assert record.time == said.time
    assert (said.kind, said.categories, said.conversation_id) == ("thumbs_up", ["helpful"], "conversation-uuid")
    again = read(SEED_TRANSCRIPT)
    assert isinstance(again, Interaction)
    assert again.id == record.id


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b'{"metadata": 1}', {}, {**SEED_FEEDBACK, "timestamp": "yesterday"},
        {**SEED_FEEDBACK, "timestamp": "2024-01-01T12:00:00"}, {**SEED_FEEDBACK, "sentiment": "good"},
    ],
)  # fmt: skip
def test_what_is_neither_is_rejected_with_its_bytes(content: Any) -> None:
    found = read(content)
    assert isinstance(found, Reject)
    assert found.message
    assert found.raw == (content if isinstance(content, bytes) else json.dumps(content).encode())


def test_a_feedback_file_comes_back_as_it_was(tmp_path: Path) -> None:
    said = Feedback(
        id=new_id(), time=now(), schema_version=1, producer="lightspeed", sequence=0, kind="report", platform="lightspeed",
        conversation_id="c1", user_question="q", llm_response="a", user=PEOPLE.user("ada"), categories=["unsafe"],
    )  # fmt: skip
    path = write_feedback(tmp_path, said)
    assert path == tmp_path / f"{said.id}.json"
    back = read(path.read_bytes())
    assert isinstance(back, Feedback)
    assert msgspec.structs.replace(back, id=said.id, user=said.user) == said
