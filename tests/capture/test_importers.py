"""Imports: everything readable is stored once, everything else is in the reject file with its reason."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from tests.capture.conftest import RunImport
from tracemill.capture.importers import ImportContext, import_paths
from tracemill.capture.importers.base import ContentIds, lines_of
from tracemill.capture.ingest import Reject
from tracemill.core import codec
from tracemill.core.errors import SourceError
from tracemill.core.ids import now
from tracemill.core.records import Feedback, Interaction, User
from tracemill.store.base import Filter
from tracemill.store.hot import HotStore

CHAT = {
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
    "model": "m",
    "mood": "calm",
}


def rejects(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_real_trajectories(shared_data: Path, store: HotStore, run: RunImport, tmp_path: Path) -> None:
    source = shared_data / "tau_bench_airline_gpt4o.json"
    report = run("tau-bench", source, platform="airline", model="gpt-4o")
    assert (report.read, report.stored, report.rejected) == (400, 400, 0)
    assert report.by_type == {"interaction": 200, "feedback": 200}
    runs = json.loads(source.read_bytes())
    found = [record for record in store.scan(Filter(types=("interaction",))) if isinstance(record, Interaction)]
    assert [record.messages for record in found] == [run["traj"] for run in runs]
    assert [(record.task_id, record.trial) for record in found] == [(str(r["task_id"]), r["trial"]) for r in runs]
    assert {record.time for record in found} == {datetime(2024, 5, 15, 20, tzinfo=UTC)}
    assert Counter(record.success for record in found) == {False: 116, True: 84}
    rewards = {r.interaction_id: r.score for r in store.scan(Filter(types=("feedback",))) if isinstance(r, Feedback)}
    assert [rewards[record.id] for record in found] == [run["reward"] for run in runs]
    assert all(record.user and record.user.raw_id is None for record in found)
    assert not any("user_id" in record.extra["info"]["task"] for record in found), (
        "a raw id is stored beside its pseudonym"
    )

    moved = tmp_path / "moved" / "another name.json"
    moved.parent.mkdir()
    shutil.copy(source, moved)
    again = run("tau-bench", source, moved, platform="airline", model="gpt-4o")
    assert (again.stored, again.duplicates, again.rejected) == (0, 800, 0)


def test_the_real_trajectories_as_logged_calls(shared_data: Path, store: HotStore, run: RunImport) -> None:
    source = shared_data / "tau_bench_airline_gpt4o.json"
    report = run("tau-bench", source, expand=True)
    assert report.by_type == {"interaction": 2454, "feedback": 200}
    calls = [record for record in store.scan(Filter(types=("interaction",))) if isinstance(record, Interaction)]
    said = [
        message for run in json.loads(source.read_bytes()) for message in run["traj"] if message["role"] == "assistant"
    ]
    assert [call.response for call in calls] == said
    assert sum(row.called for row in store.daily_tools()) == sum(
        len(message.get("tool_calls") or []) for message in said
    )
    assert run("tau-bench", source, expand=True).stored == 0


def test_malformed_runs_are_rejected_one_by_one(tmp_path: Path, run: RunImport) -> None:
    good = {"task_id": 1, "trial": 0, "reward": 0.5, "traj": [{"role": "user", "content": "x"}]}
    runs = [good, 7, {**good, "traj": "x"}, {**good, "reward": None}, {**good, "trial": None}, {**good, "info": 5}]
    source = tmp_path / "runs.json"
    source.write_text(json.dumps(runs))
    report = run("tau-bench", source)
    assert (report.stored, report.rejected) == (4, 4)
    assert [entry["place"] for entry in rejects(tmp_path / "rejects.jsonl")] == ["run 1", "run 2", "run 3", "run 4"]


@pytest.mark.parametrize("content", ["{", "{}", "5"])
def test_a_file_of_another_format_is_an_error(tmp_path: Path, run: RunImport, content: str) -> None:
    source = tmp_path / "runs.json"
    source.write_text(content)
    with pytest.raises(SourceError, match=r"runs\.json"):
        run("tau-bench", source)


def test_chat_lines_with_everything_that_goes_wrong(tmp_path: Path, store: HotStore, run: RunImport) -> None:
    line = json.dumps(CHAT).encode()
    bad = [b"{", b"[]", b'{"messages": []}', b'{"messages": [1]}', b"\xff\xfe", b"[" * 5000, line[:-5]]
    source = tmp_path / "chat.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n" + b"\n".join(bad[:-1]) + b"\n" + line + b"\n" + bad[-1])
    report = run("openai-chat", source)
    assert (report.stored, report.rejected) == (2, 7), "identical lines are two records"
    assert {entry["reason"] for entry in rejects(tmp_path / "rejects.jsonl")} == {"malformed", "invalid", "too_deep"}
    found = next(record for record in store.scan() if isinstance(record, Interaction))
    assert found.messages == CHAT["messages"][:1]
    assert found.response == {"role": "assistant", "content": "hello"}
    assert found.extra == {"mood": "calm"}
    assert found.model is not None
    assert found.model.name == "m"
    assert run("openai-chat", source).stored == 0


def test_odd_numbers_in_lines_are_kept(tmp_path: Path, store: HotStore, run: RunImport) -> None:
    source = tmp_path / "chat.jsonl"
    digits = "9" * 5000
    source.write_text(
        '{"messages": [{"role": "user", "content": "x"}], "n": NaN, "created": 1700000000, "big": ' + digits + "}"
    )
    assert run("openai-chat", source).stored == 1
    (found,) = store.scan()
    assert found.extra["big"] == int("9" * 4000) * 10**1000 + int("9" * 1000)
    assert found.time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_batch_output_lines(tmp_path: Path, store: HotStore, run: RunImport) -> None:
    choice = {"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    body = {"id": "resp", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    line = {
        "custom_id": "a",
        "body": {"model": "m", "messages": CHAT["messages"][:1]},
        "response": {"status_code": 200, "body": body},
    }
    source = tmp_path / "batch.jsonl"
    source.write_text(json.dumps(line))
    assert run("openai-chat", source).stored == 1
    (found,) = store.scan()
    assert isinstance(found, Interaction)
    assert (found.response, found.finish_reason, found.input_tokens, found.output_tokens) == (
        choice["message"],
        "stop",
        3,
        2,
    )


def test_our_own_records_plain_and_packed(tmp_path: Path, store: HotStore, run: RunImport) -> None:
    golden = Path(__file__).parents[1] / "core" / "golden" / "v1"
    records = [codec.decode_json(path.read_bytes()) for path in sorted(golden.glob("*.json"))]
    lines = b"\n".join(codec.encode_json(record) for record in records)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(lines + b"\n{torn")
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    report = run("records", tmp_path / "in")
    assert (report.files, report.stored, report.duplicates, report.rejected) == (2, 7, 7, 1)
    assert list(store.scan()) == records


def test_what_does_not_exist_says_so(tmp_path: Path, run: RunImport) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        run("records", tmp_path / "none.jsonl")
    with pytest.raises(SourceError, match="no format") as caught:
        run("openai-chatt", tmp_path)
    assert "openai-chat" in caught.value.hint
    with pytest.raises(SourceError, match="holds no file"):
        run("records", tmp_path / "workspace")


CALL = {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("change", "stored", "reason"),
    [
        ({"reward": 10**400}, 0, "invalid"),
        ({"traj": [{"role": "system", "content": "The current time is 2024-99-99 15:00:00 EST"}]}, 2, ""),
        ({"traj": [{"role": "system", "content": "The current time is 9999-12-31 23:00:00 EST"}]}, 2, ""),
    ],
)
def test_runs_with_impossible_numbers_and_clocks(
    tmp_path: Path, run: RunImport, change: dict[str, object], stored: int, reason: str
) -> None:
    source = tmp_path / "runs.json"
    text = json.dumps([{"task_id": 1, "trial": 0, "reward": 0, "traj": [], **change}])
    source.write_text(text)
    report = run("tau-bench", source)
    assert (report.stored, report.rejected) == (stored, int(bool(reason)))
    if reason:
        (entry,) = rejects(tmp_path / "rejects.jsonl")
        assert entry["reason"] == reason
        assert json.loads(entry["raw"]).keys() == json.loads(text)[0].keys()


def test_a_run_without_calls_is_not_lost_when_expanded(tmp_path: Path, store: HotStore, run: RunImport) -> None:
    source = tmp_path / "runs.json"
    messages = [{"role": "user", "content": "x"}]
    source.write_text(json.dumps([{"task_id": 1, "trial": 0, "reward": 0, "traj": messages}]))
    run("tau-bench", source, expand=True)
    (interaction,) = (record for record in store.scan() if isinstance(record, Interaction))
    (score,) = (record for record in store.scan() if isinstance(record, Feedback))
    assert (interaction.messages, score.interaction_id) == (messages, interaction.id)


def test_only_the_last_call_of_a_run_has_its_outcome(tmp_path: Path, store: HotStore, run: RunImport) -> None:
    source = tmp_path / "runs.json"
    user = {"role": "user", "content": "x"}
    source.write_text(json.dumps([{"task_id": 1, "trial": 0, "reward": 1.0, "traj": [user, CALL, user, CALL]}]))
    run("tau-bench", source, expand=True)
    first, last = (record for record in store.scan() if isinstance(record, Interaction))
    (score,) = (record for record in store.scan() if isinstance(record, Feedback))
    assert (first.messages, first.response, first.success, first.completion_status) == ([user], CALL, None, None)
    assert (last.messages, last.response, last.success) == ([user, CALL, user], CALL, True)
    assert (first.turn, last.turn, first.conversation_id) == (0, 1, last.conversation_id)
    assert score.interaction_id == last.id


@pytest.mark.parametrize(
    ("line", "stored"),
    [
        ({"body": {"messages": 5}, "response": {"body": {"choices": [{"message": CALL}]}}}, 0),
        ({"body": {"messages": CHAT["messages"]}, "response": 5}, 1),
        ({"custom_id": "a", "response": {"status_code": 200, "body": {"choices": [{"message": CALL}]}}}, 1),
        ({"request": {"messages": CHAT["messages"]}, "choices": [], "response": {"choices": [7]}}, 1),
        ({"messages": CHAT["messages"], "created": float("nan"), "timestamp": "yesterday"}, 1),
    ],
)
def test_odd_wrappers_are_understood_or_rejected(
    tmp_path: Path, run: RunImport, line: dict[str, object], stored: int
) -> None:
    source = tmp_path / "chat.jsonl"
    source.write_text(json.dumps(line))
    report = run("openai-chat", source)
    assert (report.stored, report.rejected) == (stored, 1 - stored)


def test_nothing_a_chat_line_states_is_lost_but_the_raw_user(tmp_path: Path, store: HotStore, run: RunImport) -> None:
    odd = {"model": {"x": 1}, "usage": "u", "tools": "none", "metadata": {"a": None}, "n": None, "session_id": 5}
    source = tmp_path / "chat.jsonl"
    source.write_text(json.dumps({"messages": [CALL], **odd, "user": {"id": "raw-user-id"}}))
    run("openai-chat", source)
    (found,) = store.scan()
    assert isinstance(found, Interaction)
    assert (found.messages, found.response, found.extra) == ([], CALL, odd)
    assert found.user is not None
    assert b"raw-user-id" not in codec.encode(found)


LINES = b"\n".join(
    json.dumps({"messages": [{"role": "user", "content": f"{number**40}"}]}).encode() for number in range(3000)
)


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("zst", zstandard.compress)])
def test_a_torn_archive_gives_what_stands_before_the_tear(
    tmp_path: Path, run: RunImport, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    source = tmp_path / f"chat.jsonl.{suffix}"
    source.write_bytes(pack(LINES)[:-5000])
    torn = run("openai-chat", source)
    assert torn.rejected == 1
    assert 100 < torn.stored < 3000
    (tear,) = rejects(tmp_path / "rejects.jsonl")
    assert tear["place"] == f"line {torn.stored + 1}"
    assert f"cannot be read after line {torn.stored}" in tear["message"]
    source.write_bytes(pack(LINES[:1000]) + pack(LINES[1000:]))
    whole = run("openai-chat", source)
    assert (whole.stored, whole.duplicates, whole.rejected) == (3000 - torn.stored, torn.stored, 0)
    source.write_bytes(b"no archive\n")
    with pytest.raises(SourceError, match=r"chat\.jsonl"):
        run("openai-chat", source)


def test_a_line_that_is_too_long_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    source = tmp_path / "lines"
    source.write_bytes(b"1234567890\n12345\n" + b"x" * 25)
    first, second, third = (line for _, line in lines_of(source, longest=8))
    assert isinstance(first, Reject)
    assert isinstance(third, Reject)
    assert (first.place, first.reason, second) == ("line 1", "too_large", b"12345")


def test_an_id_that_is_stored_with_another_body_is_rejected_and_not_taken_for_a_duplicate(
    tmp_path: Path, store: HotStore, run: RunImport
) -> None:
    record = codec.decode_json((Path(__file__).parents[1] / "core/golden/v1/interaction.json").read_bytes())
    other = msgspec.structs.replace(record, producer="another")
    source = tmp_path / "a.jsonl"
    source.write_bytes(codec.encode_json(record))
    assert run("records", source).by_type == {"interaction": 1}
    source.write_bytes(codec.encode_json(record) + b"\n" + codec.encode_json(other))
    report = run("records", source)
    assert (report.stored, report.duplicates, report.rejected, report.by_type) == (0, 1, 1, {})
    (entry,) = rejects(tmp_path / "rejects.jsonl")
    assert (entry["reason"], entry["file"]) == ("conflict", str(source))
    assert codec.decode_json(entry["raw"].encode()) == other
    assert store.get(record.id) == record


def test_every_entry_is_counted_once_across_batches(
    tmp_path: Path, store: HotStore, pseudonymize: Callable[[str | int], User]
) -> None:
    lines = [json.dumps({"messages": [{"role": "user", "content": str(number)}]}) for number in range(1203)]
    source = tmp_path / "chat.jsonl"
    source.write_text("\n".join([*lines, "{", *lines[:3]]))
    told: list[tuple[str, int, int | None]] = []
    context = ImportContext(pseudonymize=pseudonymize)
    report = import_paths(store, "openai-chat", [source], context=context, progress=lambda *now: told.append(now))
    assert (report.read, report.stored, report.rejected, report.rejects) == (1207, 1206, 1, None)
    assert told[-1] == ("importing", 1207, None)
    assert store.count() == 1206
    assert json.loads(json.dumps(report.to_plain()))["by_type"] == {"interaction": 1206}


def test_rejects_found_before_a_failure_are_kept(tmp_path: Path, run: RunImport) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text("[7]")
    (tmp_path / "in" / "b.json").write_text("{torn")
    with pytest.raises(SourceError, match=r"b\.json"):
        run("tau-bench", tmp_path / "in")
    assert [entry["place"] for entry in rejects(tmp_path / "rejects.jsonl")] == ["run 0"]
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_run_that_is_nested_too_deeply_leaves_the_others_alone(tmp_path: Path, run: RunImport) -> None:
    good = json.dumps({"task_id": 1, "trial": 0, "reward": 1, "traj": []})
    source = tmp_path / "runs.json"
    source.write_text(f"[{good}, {'[' * 300}{']' * 300}, {good}]")
    report = run("tau-bench", source)
    assert (report.stored, report.rejected) == (4, 1), "the same run twice is two"
    assert rejects(tmp_path / "rejects.jsonl")[0]["reason"] == "too_deep"


def test_the_domain_is_read_from_the_files_name_unless_it_is_told(
    tmp_path: Path, store: HotStore, run: RunImport
) -> None:
    for number, name in enumerate(("gpt-4o-airline.json", "tau_bench_retail_x.json", "mine.json", "told-airline.json")):
        (tmp_path / name).write_text(json.dumps([{"task_id": number, "trial": 0, "reward": 1, "traj": []}]))
        run("tau-bench", tmp_path / name, **({"platform": "own"} if "told" in name else {}))
    found = [record for record in store.scan(Filter(types=("interaction",))) if isinstance(record, Interaction)]
    assert [record.platform for record in found] == ["airline", "retail", "tau-bench", "own"]
    assert len({record.conversation_id for record in found}) == 4


@pytest.mark.parametrize(
    ("clock", "time"),
    [
        ("2024-05-15 15:00:00 EST", datetime(2024, 5, 15, 20, tzinfo=UTC)),
        ("2024-05-15 15:00:00 PDT", datetime(2024, 5, 15, 22, tzinfo=UTC)),
        ("2024-05-15 15:00:00 UTC", datetime(2024, 5, 15, 15, tzinfo=UTC)),
        ("2024-05-15 15:00:00 XYZ", None),
        ("2024-99-15 15:00:00 EST", None),
        ("noon", None),
    ],
)
def test_the_time_of_a_run_is_the_clock_its_prompt_states(
    tmp_path: Path, store: HotStore, run: RunImport, clock: str, time: datetime | None
) -> None:
    prompt = {"role": "system", "content": f"The current time is {clock}."}
    source = tmp_path / "runs.json"
    source.write_text(json.dumps([{"task_id": 1, "trial": 0, "reward": 1, "traj": [prompt]}]))
    before = now()
    run("tau-bench", source)
    (found,) = store.scan(Filter(types=("interaction",)))
    assert found.time == time if time is not None else found.time >= before
    assert run("tau-bench", source).duplicates == 2, "whatever its time, it is the same run"


def test_bytes_of_rejects_are_kept_as_they_were(tmp_path: Path, run: RunImport) -> None:
    lines = ['{"broken": "é\\u00e9'.encode(), b"\xff\xfe\\x41"]
    source = tmp_path / "chat.jsonl"
    source.write_bytes(b"\n".join(lines))
    run("openai-chat", source)
    first, second = rejects(tmp_path / "rejects.jsonl")
    assert first["raw"].encode() == lines[0]
    assert base64.b64decode(second["raw_base64"]) == lines[1]


def test_a_file_of_many_lines_is_not_held_in_memory(tmp_path: Path) -> None:
    with ContentIds("openai-chat") as ids:
        tracemalloc.start()
        for number in range(20_000):
            ids.of(number)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 200_000
        assert ids.of(7) == derived_again(7, 2)


def derived_again(content: Any, occurrence: int) -> str:
    with ContentIds("openai-chat") as ids:
        return [ids.of(content) for _ in range(occurrence)][-1]


def test_people_of_chat_lines_are_pseudonyms_under_either_name(run: RunImport, store: HotStore, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    lines = [{"messages": talk, **people} for people in ({"user_id": "ada"}, {"user": "ada", "user_id": "bob"})]
    source = tmp_path / "chat.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run("openai-chat", source)
    one, both = store.scan()
    assert isinstance(one, Interaction)
    assert isinstance(both, Interaction)
    assert one.user == both.user is not None
    assert "user_id" not in one.extra
    assert both.extra["user_id"] not in ("ada", "bob", both.user.pseudonym)


def test_sessions_with_their_conversation_are_read(run: RunImport, store: HotStore, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    session = {
        "session_id": "s-1",
        "user_id": "ada",
        "conversation_data": {"messages": talk, "metadata": {"lang": "en"}},
    }
    source = tmp_path / "sessions.jsonl"
    source.write_text(f"{json.dumps(session)}\n{json.dumps({'session_data': {**session, 'session_id': 's-2'}})}\n")
    assert run("openai-chat", source).stored == 2
    for number, record in enumerate(store.scan(), start=1):
        assert isinstance(record, Interaction)
        assert (record.session_id, record.messages, record.response) == (f"s-{number}", talk[:1], talk[1])
        assert record.user is not None
        assert record.extra["metadata"] == {"lang": "en"}
