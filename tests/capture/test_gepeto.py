"""The Gepeto tree: what is written is read, names cannot escape it, and other programs' files are understood."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.capture.conftest import RunImport
from tracemill.capture.gepeto import GepetoSink, GepetoTree, read_tree, safe_name, write_tree
from tracemill.capture.ingest import Reject
from tracemill.core.errors import SourceError
from tracemill.core.ids import new_id, now
from tracemill.core.records import Action, AnyRecord, Interaction, Step
from tracemill.store.hot import HotStore

HOSTILE = [
    "../../etc/passwd",
    "a/b",
    "",
    ".",
    "..",
    "A",
    "a",
    "\x00",
    "\ud800",
    "😀" * 50,
    "x" * 300,
    "~",
    "~41",
    "con",
    "a.",
    "a ",
]


@settings(
    max_examples=30,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(strategies.records, max_size=5, unique_by=lambda record: record.id))
def test_reading_a_tree_gives_the_same_records(tmp_path: Path, records: list[AnyRecord]) -> None:
    root = tmp_path / new_id()
    assert write_tree(records, root) == len(records)
    write_tree(records, root)
    found = {record.id: record for record in read_tree(root) if not isinstance(record, Reject)}
    assert found == {record.id: record for record in records}


@given(st.lists(strategies.odd_text | st.text("aA~.", max_size=4), unique=True, max_size=8))
def test_different_sessions_have_different_names_on_every_file_system(texts: list[str]) -> None:
    names = [safe_name(text) for text in texts]
    assert len({name.casefold() for name in names}) == len(texts)


@pytest.mark.parametrize("session", HOSTILE, ids=range(len(HOSTILE)))
def test_no_session_id_leaves_the_tree(tmp_path: Path, session: str) -> None:
    root = tmp_path / "in" / "tree"
    record = Interaction(id=new_id(), time=now(), schema_version=1, producer="p", sequence=0, session_id=session)
    write_tree([record], root)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["tree"]
    assert list(read_tree(root)) == [record]


def test_the_layout_and_fields_are_those_others_read(tmp_path: Path) -> None:
    record = Interaction(
        id=new_id(),
        time=now(),
        schema_version=1,
        producer="p",
        sequence=0,
        session_id="s-1",
        messages=[{"role": "user", "content": "hi"}],
        success=True,
        duration_ms=12.5,
        tools_used=["search"],
        tool_call_count=1,
    )
    write_tree([record], tmp_path)
    (context,) = (tmp_path / "chat_contexts" / "1.0").glob("context_s-1_*.json")
    (prediction,) = (tmp_path / "predictions" / "1.0").glob("prediction_s-1_*.json")
    session = json.loads((tmp_path / "metadata" / "session_s-1.json").read_text())
    assert json.loads(context.read_text())["events"] == record.messages
    found = json.loads(prediction.read_text())
    assert (found["execution_time_ms"], found["success"], found["tools_used"], found["tool_call_count"]) == (
        12.5,
        True,
        ["search"],
        1,
    )
    assert session["interactions"][0]["context"] == f"chat_contexts/1.0/{context.name}"
    assert not list(tmp_path.rglob("*.tmp"))


def _foreign(root: Path, name: str, context: Any, prediction: Any = None) -> None:
    for folder, prefix, document in (("chat_contexts", "context", context), ("predictions", "prediction", prediction)):
        if document is not None:
            (root / folder / "1.0").mkdir(parents=True, exist_ok=True)
            text = document if isinstance(document, str) else json.dumps(document)
            (root / folder / "1.0" / f"{prefix}_{name}.json").write_text(text)


def test_files_of_another_program_are_understood(tmp_path: Path, run: RunImport) -> None:
    root = tmp_path / "tree"
    context = {
        "version": "1.0",
        "timestamp": "2024-01-15T10:30:00Z",
        "session_id": "550e8400-e29b-41d4-a716-446655440000",
        "events": ["hello", {"author": "ada", "text": "hi"}, {"role": "assistant", "content": "yes"}],
        "chat_id": 123456789,
        "chat_name": "general",
        "chat_type": "text",
        "model_name": "gpt-4",
        "user_count": 3,
        "message_count": 15,
        "contains_images": False,
        "mood": "calm",
    }
    prediction = {
        "version": "1.0",
        "timestamp": "2024-01-15T10:30:05Z",
        "session_id": context["session_id"],
        "trajectory": [{"thought": "look", "tool_name": "search", "tool_args": {"q": 1}, "observation": "found"}],
        "reasoning": {"why": "asked"},
        "execution_time_ms": 1250.5,
        "success": True,
        "tools_used": ["send_message", "search"],
        "tool_call_count": 2,
    }
    _foreign(root, "a_1", context, prediction)
    found = list(read_tree(root))
    interaction, step = found
    assert isinstance(interaction, Interaction)
    assert isinstance(step, Step)
    assert [message["role"] for message in interaction.messages] == ["user", "user", "assistant"]
    assert (interaction.duration_ms, interaction.success, interaction.tool_call_count) == (1250.5, True, 2)
    assert interaction.channel is not None
    assert (interaction.channel.id, interaction.extra["context"]) == (123456789, {"mood": "calm"})
    assert (step.interaction_id, step.reasoning, step.actions[0].tool) == (interaction.id, "look", "search")
    assert run("gepeto", root).stored == 2
    assert run("gepeto", root).stored == 0


def test_what_is_torn_or_alone_is_read_for_what_it_has(tmp_path: Path, run: RunImport) -> None:
    root = tmp_path / "tree"
    _foreign(root, "alone", {"events": []})
    _foreign(root, "torn", '{"events": [', {"success": True})
    _foreign(root, "list", "[]")
    _foreign(root, "deep", "[" * 100_000)
    _foreign(root, "prediction", None, {"success": False})
    (root / "chat_contexts" / "1.0" / "context_folder.json").mkdir()
    rejected = [(entry.place, entry.reason) for entry in read_tree(root) if isinstance(entry, Reject)]
    assert sorted(rejected) == [
        ("chat_contexts/1.0/context_deep.json", "too_deep"),
        ("chat_contexts/1.0/context_folder.json", "malformed"),
        ("chat_contexts/1.0/context_list.json", "invalid"),
        ("chat_contexts/1.0/context_torn.json", "malformed"),
    ]
    read = [entry for entry in read_tree(root) if isinstance(entry, Interaction)]
    assert sorted(str(interaction.success) for interaction in read) == ["False", "None", "True"]
    report = run("gepeto", root)
    assert (report.stored, report.rejected) == (3, 4)


@pytest.mark.parametrize(
    ("context", "prediction", "extra"),
    [
        (
            {"chat_id": {"a": 1}, "user_count": "few", "model_config": "hot", "timestamp": "noon"},
            {},
            {"context": {"chat_id": {"a": 1}, "user_count": "few", "model_config": "hot"}},
        ),
        (
            {},
            {"success": "perhaps", "execution_time_ms": [12], "tools_used": [["search"]], "tool_call_count": -1},
            {
                "prediction": {
                    "success": "perhaps",
                    "duration_ms": [12],
                    "tools_used": [["search"]],
                    "tool_call_count": -1,
                }
            },
        ),
    ],
    ids=["context", "prediction"],
)
def test_fields_of_the_wrong_type_are_kept_aside(tmp_path: Path, context: Any, prediction: Any, extra: Any) -> None:
    _foreign(tmp_path, "odd", {"session_id": "s", "events": ["hi"], **context}, {"session_id": "s", **prediction})
    (found,) = read_tree(tmp_path)
    assert isinstance(found, Interaction)
    assert (found.session_id, found.messages) == ("s", [{"role": "user", "content": "hi"}])
    found.extra.get("context", {}).pop("timestamp", None)
    assert found.extra == extra


@pytest.mark.parametrize("events", ["hello", {"a": 1}, 5, [5, None, ["x"]], [{"author": "ada"}]])
def test_events_of_any_shape_become_messages(tmp_path: Path, events: Any) -> None:
    _foreign(tmp_path, "odd", {"events": events})
    (found,) = read_tree(tmp_path)
    assert isinstance(found, Interaction)
    assert [message["role"] for message in found.messages] == ["user"] * len(
        events if isinstance(events, list) else [1]
    )
    kept = {about["index"]: about for about in found.extra.get("events", [])}
    for index, event in enumerate(events if isinstance(events, list) else [events]):
        assert found.messages[index]["content"] == event or index in kept or found.messages[index].get("name") == "ada"


def test_files_of_one_session_are_paired_by_time_where_names_differ(tmp_path: Path) -> None:
    for number, seconds in enumerate((0, 10, 20)):
        stamp = f"2024-01-15T10:30:{seconds:02}Z"
        _foreign(tmp_path, f"s_{stamp}", {"session_id": "s", "timestamp": stamp, "events": [f"question {number}"]})
    for number, seconds in ((0, 5), (2, 25)):  # the second one crashed before it answered
        stamp = f"2024-01-15T10:30:{seconds:02}Z"
        _foreign(tmp_path, f"s_{stamp}", None, {"session_id": "s", "timestamp": stamp, "reasoning": f"answer {number}"})
    _foreign(tmp_path, "t", None, {"session_id": "t", "timestamp": "2024-01-15T10:30:11Z", "reasoning": "alone"})
    found = [entry for entry in read_tree(tmp_path) if isinstance(entry, Interaction)]
    said = {(entry.messages[0]["content"] if entry.messages else None): entry.reasoning for entry in found}
    assert said == {"question 0": "answer 0", "question 1": None, "question 2": "answer 2", None: "alone"}


def test_a_react_trajectory_of_flat_keys_is_steps(tmp_path: Path) -> None:
    flat = {"thought_0": "look", "tool_name_0": "search", "tool_args_0": {"q": 1}, "observation_0": "found"}
    _foreign(tmp_path, "a", {"events": ["hi"]}, {"trajectory": {**flat, "thought_1": "done", "tool_name_1": "finish"}})
    steps = [entry for entry in read_tree(tmp_path) if isinstance(entry, Step)]
    assert [(step.index, step.reasoning, step.actions[0].tool) for step in steps] == [
        (0, "look", "search"),
        (1, "done", None),
    ]
    assert (steps[0].actions[0].parameters, steps[0].actions[0].result) == ({"q": 1}, "found")


def _interaction(**fields: Any) -> Interaction:
    return Interaction(id=new_id(), time=now(), schema_version=1, producer="p", sequence=0, **fields)


def _step_of(interaction: Interaction, index: int) -> Step:
    link = interaction.id
    return Step(id=new_id(), time=now(), schema_version=1, producer="p", sequence=1, interaction_id=link, index=index)


def _trajectories(root: Path) -> list[list[str]]:
    files = sorted(root.glob("predictions/1.0/*.json"))
    return [[step["tracemill"]["id"] for step in json.loads(file.read_text())["trajectory"]] for file in files]


def test_steps_are_the_trajectory_of_their_interaction(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "hi", "record": "step"}
    one = _interaction(session_id="s", response=answer)
    first, second, third = (_step_of(one, index) for index in (0, 1, 2**80))
    stray = _step_of(_interaction(), 0)
    write_tree([second, one, first, stray], tmp_path)
    assert _trajectories(tmp_path) == [[first.id, second.id]]
    write_tree([one], tmp_path)
    assert _trajectories(tmp_path) == [[first.id, second.id]], "writing an interaction again keeps its steps"
    write_tree([third], tmp_path)
    assert list(read_tree(tmp_path)) == [one, first, second, *sorted([stray, third], key=lambda step: step.id)]
    write_tree([third, one], tmp_path)
    assert _trajectories(tmp_path) == [[first.id, second.id, third.id]]


@pytest.mark.parametrize("order", ["steps first", "interaction first"])
def test_a_trajectory_is_whole_whichever_comes_first(tmp_path: Path, order: str) -> None:
    one = _interaction(session_id="s")
    steps = [_step_of(one, index) for index in range(3)]
    tree = GepetoTree(tmp_path)
    batches: list[list[AnyRecord]] = [[one], [steps[2], steps[0]], [steps[1]]]
    for batch in batches if order == "interaction first" else reversed(batches):
        tree.write(batch)
    assert _trajectories(tmp_path) == [[step.id for step in steps]]
    assert list(read_tree(tmp_path)) == [one, *steps]
    assert not list(tmp_path.glob("metadata/steps/*/*"))


def test_a_trajectory_is_in_the_words_of_the_layout(tmp_path: Path) -> None:
    one = _interaction(session_id="s")
    action = Action(tool="search", parameters={"q": 1}, result="found", success=True)
    step = msgspec.structs.replace(_step_of(one, 0), reasoning="look", actions=[action])
    end = msgspec.structs.replace(_step_of(one, 1), actions=[Action(type="finish")])
    write_tree([one, step, end], tmp_path)
    (file,) = tmp_path.glob("predictions/1.0/*.json")
    found = [{**entry, "tracemill": None} for entry in json.loads(file.read_text())["trajectory"]]
    assert found[0] == {
        "thought": "look",
        "tool_name": "search",
        "tool_args": {"q": 1},
        "observation": "found",
        "tracemill": None,
    }
    assert found[1]["tool_name"] == "finish"


def _write_some(root: str, number: int) -> None:
    for index in range(5):
        record = Interaction(
            id=new_id(), time=now(), schema_version=1, producer=f"p{number}", sequence=index, session_id="shared"
        )
        write_tree([record], Path(root))


def test_processes_take_turns(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_some, args=(str(tmp_path), number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(list(read_tree(tmp_path))) == 15
    session = json.loads((tmp_path / "metadata" / "session_shared.json").read_text())
    assert len(session["interactions"]) == 15, "no link of one process was written over by another"
    assert session["context_file"] == session["interactions"][-1]["context"]


def test_a_sink_that_cannot_write_counts_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = GepetoSink(tmp_path / "file" / "tree")
    (tmp_path / "file").write_text("in the way")
    one, two = _interaction(session_id="s"), _interaction(session_id="s")
    sink.write([one, two])
    sink.write([one])
    assert (sink.missing, len(caplog.records)) == (3, 1)
    (tmp_path / "file").unlink()
    sink.write([two])
    assert list(read_tree(tmp_path / "file" / "tree")) == [two]
    assert "3 records are missing" in caplog.text


def test_a_record_that_json_cannot_hold_costs_its_mates_nothing(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    sink, good = GepetoSink(tmp_path), _interaction(session_id="s")
    sink.write([_interaction(extra={"deep": deep}), good])
    assert (list(read_tree(tmp_path)), sink.missing) == ([good], 1)


def test_ids_of_people_in_foreign_files_become_pseudonyms(tmp_path: Path, run: RunImport, store: HotStore) -> None:
    context = {
        "session_id": "s",
        "user_id": "ada@example.com",
        "events": [{"author": {"id": 4711, "name": "ada"}, "content": "hi", "timestamp": "2024-01-15T10:30:00Z"}],
    }
    _foreign(tmp_path, "a", context, {"error_message": "late", "tokens_used": 12, "final_output": {"done": False}})
    assert run("gepeto", tmp_path).stored == 1
    (found,) = store.scan()
    assert isinstance(found, Interaction)
    assert found.user is not None
    assert found.messages == [{"role": "user", "content": "hi", "name": "ada"}]
    assert "4711" not in str(found)
    assert "ada@example.com" not in str(found)
    assert (found.error.message if found.error else None, found.usage) == ("late", {"total_tokens": 12})
    assert found.extra["prediction"] == {"final_output": {"done": False}}


def test_a_torn_file_of_ours_costs_no_other(tmp_path: Path) -> None:
    one, two, three = (_interaction(session_id="s") for _ in range(3))
    steps = [_step_of(record, 0) for record in (one, two, three)]
    write_tree([one, two, three, *steps], tmp_path)
    (context,) = tmp_path.glob(f"chat_contexts/1.0/*{one.id}.json")
    context.write_bytes(context.read_bytes()[:-20])
    (prediction,) = tmp_path.glob(f"predictions/1.0/*{two.id}.json")
    prediction.unlink()
    found = list(read_tree(tmp_path))
    assert {entry.id for entry in found if not isinstance(entry, Reject)} == {
        two.id,
        three.id,
        steps[0].id,
        steps[2].id,
    }
    assert [entry.reason for entry in found if isinstance(entry, Reject)] == ["malformed", "invalid"]


def test_interactions_of_one_moment_and_session_do_not_meet(tmp_path: Path) -> None:
    moment = now()
    ids = [f"00000000-0000-7000-8{number:03}-000000000000" for number in range(3)]
    records = [
        Interaction(id=name, time=moment, schema_version=1, producer="p", sequence=0, session_id="s") for name in ids
    ]
    write_tree(iter(records), tmp_path)
    assert list(read_tree(tmp_path)) == records
    session = json.loads((tmp_path / "metadata" / "session_s.json").read_text())
    assert len(session["interactions"]) == 3
    write_tree([_interaction(session_id="s")], tmp_path)
    assert len(json.loads((tmp_path / "metadata" / "session_s.json").read_text())["interactions"]) == 4


def test_a_folder_that_is_no_tree_is_an_error(tmp_path: Path, run: RunImport) -> None:
    with pytest.raises(SourceError, match="no Gepeto tree"):
        run("gepeto", tmp_path)


def test_a_failed_write_leaves_no_draft_and_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = _interaction(session_id="s")
    write_tree([record], tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_tree([record], tmp_path)
    assert not list(tmp_path.rglob(".*"))
    assert list(read_tree(tmp_path)) == [record]
