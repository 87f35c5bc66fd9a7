"""Scores are what can be counted by hand; a scan names places and no content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.privacy.labelled import EXAMPLES, labelled
from tests.privacy.test_redact import BASE, conversation
from tracemill.core.codec import encode_json
from tracemill.core.errors import SourceError
from tracemill.core.records import Interaction
from tracemill.privacy.detect import Detector
from tracemill.privacy.evaluate import Label, LabelledText, Score, evaluate, read_labelled, scan

DETECTOR = Detector()


def test_scores_can_be_counted_by_hand() -> None:
    texts = [
        LabelledText("a@example.com and b@example.com", [Label("email", 0, 13), Label("email", 18, 31)]),
        LabelledText("c@example.com", []),  # found, not labelled
        LabelledText("nobody here", [Label("phone", 0, 6)]),  # labelled, not found
        LabelledText("d@example.com", [Label("username", 0, 13)]),  # covered as another kind
        LabelledText("to e@example.com", [Label("email", 0, 16)]),  # half covered
    ]
    assert evaluate(texts, DETECTOR) == {
        "email": Score(labelled=3, recognised=2, covered=2, found=5, right=3),
        "phone": Score(labelled=1),
        "username": Score(labelled=1, covered=1),
    }


def test_the_examples_are_all_recognised() -> None:
    texts = []
    for kind, text in EXAMPLES:
        plain, (_, start, end) = labelled(text, kind)
        texts.append(LabelledText(plain, [Label(kind, start, end)]))
    scores = evaluate(texts, DETECTOR).values()
    assert sum(one.labelled for one in scores) == len(EXAMPLES) == sum(one.recognised for one in scores)


def test_a_labelled_file_is_read_and_its_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_text('{"text": "a@example.com", "spans": [{"kind": "email", "start": 0, "end": 13}]}\n\n{"text": ""}\n')
    assert list(read_labelled(path)) == [LabelledText("a@example.com", [Label("email", 0, 13)]), LabelledText("")]
    for line, says in (
        ('{"text": 1}', "line 1: Expected"),
        ("{", "line 1"),
        ('{"text": "x", "spans": [{"kind": "e-mail", "start": 0, "end": 1}]}', "no kind 'e-mail'"),
        ('{"text": "x", "spans": [{"kind": "email", "start": 0, "end": 2}]}', "outside"),
        ('{"text": "x", "spans": [{"kind": "email", "start": 1, "end": 1}]}', "outside"),
    ):
        path.write_text(line)
        with pytest.raises(SourceError, match=says):
            list(read_labelled(path))
    with pytest.raises(SourceError, match="cannot be read"):
        list(read_labelled(tmp_path / "none"))


def test_a_text_is_scanned_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("one\ntwo a@example.com, b@example.com\n\n84.17.52.9")
    found = scan(path, DETECTOR)
    assert found.records == 0
    assert found.places == {"email": ["2:5", "2:20"], "ip_address": ["4:1"]}
    assert scan(path, Detector(["ip_address"])).counts == {"ip_address": 1}


def test_records_are_scanned_by_line_and_pointer(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    plain = Interaction(**BASE, messages=[{"role": "user", "content": "hello"}])
    path.write_bytes(encode_json(plain) + b"\n" + encode_json(conversation()) + b"\n")
    found = scan(path, DETECTOR)
    assert found.records == 2
    assert found.places["email"] == ["2/messages/3/content#/email"]
    assert "quist" not in json.dumps(found.places).lower()
    path.write_bytes(encode_json(plain) + b"\nno record")
    with pytest.raises(SourceError, match="line 2 is no record"):
        scan(path, DETECTOR)
    with pytest.raises(SourceError, match="cannot be read"):
        scan(tmp_path / "none", DETECTOR)
