"""What was said of interactions is the same out of a file, here and wherever the file is opened again."""

from __future__ import annotations

import pickle
from pathlib import Path

from tests.dataset.support import feedback, interaction, list_store, record_id, reward, says, validation
from tracemill.core.records import AnyRecord
from tracemill.feedback.attach import attach
from tracemill.feedback.attached_file import on_disk


def test_attachments_in_a_file_say_what_they_said(tmp_path: Path) -> None:
    records: list[AnyRecord] = [interaction(name, [says("user", name)], conversation_id=name) for name in "abc"]
    records += [feedback(f"{name} {kind}", name, kind=kind) for name in "ab" for kind in ("thumbs_up", "report")]
    records += [reward("a", 0.5), validation("v", "b", passed=False), feedback("loose", kind="thumbs_up")]
    records += [feedback("talk", conversation_id="c", kind="thumbs_up"), reward("nobody", 1.0)]
    before = attach(list_store(records))
    kept = on_disk(before, tmp_path / "said.db")
    again = pickle.loads(pickle.dumps(kept))
    for found in (kept, again, on_disk(before, tmp_path / "said.db")):
        for name in (*"abc", "nobody", "never"):
            assert found.of(record_id(name)) == before.of(record_id(name))
        assert sorted(found.targets()) == sorted(before.targets())
        assert found.unmatched == before.unmatched != []
        assert found.of_conversation("c") == before.of_conversation("c")
        assert found.of_conversation("c")
