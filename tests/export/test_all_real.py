"""All 200 real trajectories through every format and every container, and back.

The files are read by readers that share nothing with the functions that made the rows. For each format: rows and refused
examples are all examples; what a row says is what its trajectory says, word for word, but for what is listed with that row;
and what is listed is truly not there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import feedback, list_store, tau_bench
from tests.export.test_containers import READERS, files, lines
from tests.export.test_real_formats import (
    read_alpaca,
    read_gemini,
    read_sharegpt,
    read_sharegpt_preference,
)
from tracemill.core.examples import (
    ActionExample,
    DatasetFile,
    Example,
    ExportManifest,
    Loss,
    RetrievalExample,
    RewardExample,
)
from tracemill.core.records import AnyRecord, Interaction
from tracemill.dataset.build import build_version
from tracemill.dataset.history import split_tail
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.export.containers import CONTAINERS, SplitFiles
from tracemill.export.formats import FORMATS
from tracemill.export.write import ExportReport, export_version, make_row

WITHOUT_IDS = ("sharegpt", "sharegpt-preference", "sharegpt-kto", "alpaca", "gemini")
Told = list[tuple[str, str, str, str, list[tuple[str, str, Any]]]]


@pytest.fixture(scope="module")
def interactions(shared_data: Path) -> list[Interaction]:
    records = tau_bench(shared_data / "tau_bench_airline_gpt4o.json")
    return [record for record in records if isinstance(record, Interaction)]


@pytest.fixture(scope="module")
def versions(
    interactions: list[Interaction], shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Version]:
    """A version a kind of example, each made of all trajectories.

    For imitation, all are said to have succeeded. For the others, every last answer has a thumb, or is corrected into what
    the assistant said first.
    """
    judged: list[AnyRecord] = []
    corrected: list[AnyRecord] = []
    for number, record in enumerate(interactions):
        messages, _ = split_tail(record.messages)
        asked = msgspec.structs.replace(record, messages=messages[:-1], response=messages[-1], success=None)
        first = next(
            message["content"] for message in messages if message["role"] == "assistant" and message["content"]
        )
        judged += [asked, thumb(record, number % 2 == 0)]
        corrected += [asked, feedback_on(record, f"correction of {number}: {first}")]
    successes: list[AnyRecord] = [msgspec.structs.replace(record, success=True) for record in interactions]
    sources: dict[str, list[AnyRecord]] = {
        "supervised": successes,
        "labelled": judged,
        "preference": corrected,
        "trajectory_preference": list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json")),
    }
    folder = tmp_path_factory.mktemp("all")
    recipe = Recipe(name="all", split={"train": 0.8, "test": 0.2})
    return {tag: build_version(list_store(made), recipe, folder / tag / "datasets") for tag, made in sources.items()}


def thumb(record: Interaction, good: bool) -> AnyRecord:
    made = feedback(f"thumb {record.id}", None, kind="thumbs_up" if good else "thumbs_down")
    return msgspec.structs.replace(made, interaction_id=record.id)


def feedback_on(record: Interaction, correction: str) -> AnyRecord:
    made = feedback(f"edit {record.id}", None, kind="edit", correction=correction)
    return msgspec.structs.replace(made, interaction_id=record.id)


def tag_of(name: str) -> str:
    return str(FORMATS[name].example.__struct_config__.tag)


# -- what a row says, by format; messages as (role, words, name, the call answered, calls)


def told(messages: list[dict[str, Any]]) -> Told:
    found: Told = []
    for message in messages:
        calls = []
        for call in message.get("tool_calls") or ():
            arguments = call["function"]["arguments"]
            parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
            calls.append((call.get("id", ""), call["function"]["name"], parsed))
        words, answered = message.get("content") or "", message.get("tool_call_id") or ""
        found.append((message["role"], words, message.get("name") or "", answered, calls))
    return found


def of_sides(*sides: str) -> Callable[[dict[str, Any]], Told]:
    return lambda row: told([message for side in sides for message in row[side]])


def of_preference(row: dict[str, Any]) -> Told:
    return told([*row["input"]["messages"], *row["preferred_output"], *row["non_preferred_output"]])


def without_ids(read: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Told]:
    return lambda row: [
        (role, words, "", "", [("", name, arguments) for name, arguments in calls]) for role, words, calls in read(row)
    ]


def of_atif(row: dict[str, Any]) -> Told:
    found: Told = []
    roles = {"system": "system", "user": "user", "agent": "assistant"}
    for number, step in enumerate(row["steps"], 1):
        assert step["step_id"] == number
        calls = [
            (call["tool_call_id"], call["function_name"], call["arguments"]) for call in step.get("tool_calls", ())
        ]
        found.append((roles[step["source"]], step["message"], step.get("extra", {}).get("name", ""), "", calls))
        for result in step.get("observation", {}).get("results", ()):
            found.append(("tool", result["content"], result["extra"]["name"], result["source_call_id"], []))
    return found


SAID: dict[str, Callable[[dict[str, Any]], Told]] = {
    **dict.fromkeys(("openai-chat", "trl-sft", "axolotl", "mistral", "together"), of_sides("messages")),
    **dict.fromkeys(("trl-prompt-completion", "trl-kto"), of_sides("prompt", "completion")),
    "trl-dpo": of_sides("prompt", "chosen", "rejected"),
    "trajectory-preference": of_sides("chosen", "rejected"),
    **dict.fromkeys(("openai-preference", "together-preference"), of_preference),
    **dict.fromkeys(("sharegpt", "sharegpt-kto"), without_ids(read_sharegpt)),
    "sharegpt-preference": without_ids(read_sharegpt_preference),
    "alpaca": without_ids(read_alpaca),
    "gemini": without_ids(read_gemini),
    "atif": of_atif,
    "conversation-example": lambda row: told(row["conversation_example"]["messages"]),
    **dict.fromkeys(("next-action", "reward"), of_sides("prompt", "completion")),
    "agent-execution": lambda row: told(
        [
            *row["training_example"]["context"]["messages"],
            row["training_example"]["expected_output"]["message"],
        ]
    ),
}


# -- what a row should say: its example, less what is listed


SIDES = ("prompt", "messages", "completion", "chosen", "rejected")


def should_say(name: str, example: Example, lost: list[Loss]) -> Told:
    """The example's messages without what is listed; fails for a thing listed that no rule of this test knows."""
    messages: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        for at, message in enumerate(getattr(example, side, ())):
            messages[f"/{side}/{at}"] = dict(message)
    tail = getattr(example, "tail", [])
    ids = {side: ids_of(getattr(example, side, ())) for side in SIDES}
    for loss in lost:
        if loss.reason == "after_last_answer":
            assert tail, "nothing follows, and it is listed"
            assert name != "atif"
            tail = []
        elif loss.reason in ("call_ids_by_order", "call_ids_renamed"):
            assert loss.call_ids == ids.pop(loss.path[1:])
        elif loss.reason == "field_not_in_format":
            place, _, field = loss.path.rpartition("/")
            assert messages[place].pop(field), "it says nothing, and it is listed"
        else:
            assert loss.reason in ("changed_when_loaded", "rest_of_trajectory"), loss
    if name in (*WITHOUT_IDS, "mistral"):
        assert not any(ids.values()), "ids that no row of this format has are not listed"
    if name != "atif":
        assert not tail, "what follows the last answer is not listed"
    return told([*messages.values(), *tail])


def ids_of(messages: Any) -> list[str]:
    found = []
    for message in messages:
        found += [call["id"] for call in message.get("tool_calls") or ()]
        if message.get("tool_call_id"):
            found.append(message["tool_call_id"])
    return found


def nameless(said: Told) -> Told:
    return [(role, words, "", "", [("", name, a) for _, name, a in calls]) for role, words, _, _, calls in said]


def renamed(said: Told, found: Told) -> Told:
    """What should be said with the row's ids, where one stands for one."""
    pairs: dict[str, str] = {}
    for (*_, answered, calls), (*_, other, others) in zip(said, found, strict=True):
        for mine, theirs in [(answered, other), *((a[0], b[0]) for a, b in zip(calls, others, strict=True))]:
            assert pairs.setdefault(mine, theirs) == theirs
    assert len(set(pairs.values())) == len(pairs)
    return [
        (role, words, name, pairs[answered], [(pairs[i], called, a) for i, called, a in calls])
        for role, words, name, answered, calls in said
    ]


def embedded(name: str, example: Example) -> dict[str, str]:
    messages = [*getattr(example, "prompt", ()), *getattr(example, "messages", ())]
    texts = {"anchor": [message["content"] for message in messages if message["role"] == "user"][-1]}
    if name == "embedding-pairs":
        return {**texts, "positive": messages[-1]["content"]}
    sides = {side: getattr(example, side)[-1]["content"] for side in ("chosen", "rejected")}
    return {**texts, "positive": sides["chosen"], "negative": sides["rejected"]}


TAGS = ("supervised", "labelled", "preference", "trajectory_preference")
BUILT = [name for name in FORMATS if tag_of(name) in TAGS]
OTHERS = [name for name in FORMATS if name not in BUILT]


@pytest.fixture(scope="module")
def plain(versions: dict[str, Version], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ExportReport]:
    """A format's export as JSON lines, made once."""
    made: dict[str, ExportReport] = {}

    def export(name: str) -> ExportReport:
        if name not in made:
            made[name] = export_version(versions[tag_of(name)], name, tmp_path_factory.mktemp(name))
        return made[name]

    return export


def refusals(name: str, examples: list[Example]) -> dict[str, int]:
    """What a format cannot hold of these trajectories; for most of them every one is a row."""
    if name == "alpaca":
        with_calls = [e for e in examples if any(m.get("tool_calls") for m in getattr(e, "messages", ()))]
        return {"tool_calls_not_in_format": len(with_calls)}
    if name.startswith("embedding"):
        sides = ("messages", "chosen", "rejected")
        answers = [[getattr(e, side)[-1] for side in sides if hasattr(e, side)] for e in examples]
        return {"answer_is_no_text": sum(any(m.get("tool_calls") for m in sides) for sides in answers)}
    return {}


@pytest.mark.parametrize("name", BUILT)
def test_every_trajectory_is_a_row_or_refused_and_says_what_it_said(
    name: str, versions: dict[str, Version], plain: Callable[[str], ExportReport]
) -> None:
    version, report = versions[tag_of(name)], plain(name)
    total = version.count(type=tag_of(name))
    assert total == 200 if name != "trajectory-preference" else total > 50
    assert report.manifest.refused == refusals(name, list(version.examples(type=tag_of(name))))
    assert report.rows + sum(report.manifest.refused.values()) == total
    listed = [msgspec.json.decode(line, type=Loss) for line in (report.path / "losses.jsonl").read_bytes().splitlines()]
    assert Counter(loss.reason for loss in listed if loss.row) == report.manifest.losses
    assert Counter(loss.reason for loss in listed if not loss.row) == report.manifest.refused
    refused = {loss.example for loss in listed if loss.row is None}
    for split in version.splits():
        examples = [example for example in version.examples(split, tag_of(name)) if example.id not in refused]
        for number, (example, row) in enumerate(zip(examples, lines(report, split), strict=True), 1):
            lost = [loss for loss in listed if loss.split == split and loss.row == number]
            assert all(loss.example == example.id for loss in lost)
            if name.startswith("embedding"):
                assert row == embedded(name, example)
                assert "rest_of_conversation" in {loss.reason for loss in lost}
                continue
            found, expected = SAID[name](row), should_say(name, example, lost)
            if name in WITHOUT_IDS:
                expected = nameless(expected)
            elif name == "mistral":
                expected = renamed(expected, found)
            assert found == expected
            for key in ("label", "kto_tag"):
                assert key not in row or row[key] == getattr(example, "label", None)


@pytest.mark.parametrize("container", [container for container in CONTAINERS if container != "jsonl"])
@pytest.mark.parametrize("name", BUILT)
def test_every_container_holds_the_same_rows(
    name: str, container: str, versions: dict[str, Version], plain: Callable[[str], ExportReport], tmp_path: Path
) -> None:
    first = plain(name)
    report = export_version(versions[tag_of(name)], name, tmp_path, container=container, shard_bytes=300_000)
    assert report.manifest.rows == first.manifest.rows
    assert (tmp_path / "losses.jsonl").read_bytes() == (first.path / "losses.jsonl").read_bytes()
    read = READERS.get(container, lines)
    for split in first.manifest.rows:
        assert read(report, split) == lines(first, split)
    shards: list[DatasetFile] = report.files("train")
    assert [shard.path for shard in shards] == [path.name for path in files(report, "train")]
    assert sum(shard.rows for shard in shards) == report.manifest.rows["train"]
    if name == "openai-chat":
        assert len(shards) > 3


# -- actions, scores and retrieved passages, of which the trajectories themselves say nothing


def as_example(name: str, record: Interaction, number: int) -> ActionExample | RewardExample | RetrievalExample:
    """A trajectory as the example of a format: its last answer is the action, or was scored."""
    common: dict[str, Any] = {"id": record.id, "sources": [record.id], "signal": "s"}
    messages, _ = split_tail(record.messages)
    if tag_of(name) == "retrieval":
        results = [message["content"] for message in messages if message["role"] == "tool"]
        query = next(message["content"] for message in messages if message["role"] == "user")
        return RetrievalExample(**common, query=query, positive=f"passage {number}", negative=(results or ["none"])[-1])
    sides: dict[str, Any] = {"prompt": messages[:-1], "completion": messages[-1:]}
    if tag_of(name) == "reward":
        return RewardExample(**common, **sides, score=number / 200, score_name="helpful")
    return ActionExample(**common, **sides, action="answer", state={"number": number}, outcome={"success": True})


@pytest.mark.parametrize("name", OTHERS)
def test_documents_of_agents_hold_every_trajectory(name: str, interactions: list[Interaction], tmp_path: Path) -> None:
    made = FORMATS[name]
    columns = {**made.columns, **made.optional}
    examples = [as_example(name, record, number) for number, record in enumerate(interactions)]
    written = []
    for number, example in enumerate(examples):
        data, lost, refused = make_row(example, made)
        assert data is not None, refused
        row = json.loads(data)
        written.append(row)
        if isinstance(example, RetrievalExample):
            texts = {"anchor": example.query, "positive": example.positive, "negative": example.negative}
            assert row == {key: texts[key] for key in made.columns}
            assert [entry.path for entry in lost] == (["/negative"] if name == "retrieval-pairs" else [])
            continue
        assert SAID[name](row) == told([*example.prompt, *example.completion])
        assert lost == []
        if name == "reward":
            assert (row["score"], row["score_name"]) == (number / 200, "helpful")
        if name == "agent-execution":
            assert row["training_example"]["context"]["current_state"] == {"number": number}
    assert len(written) == 200
    for container in CONTAINERS:
        folder = tmp_path / container
        folder.mkdir()
        with SplitFiles(folder, "train", container, columns, 300_000) as out:
            for row in written:
                out.write_row(msgspec.json.encode(row))
        manifest = ExportManifest(
            format=name,
            container=container,
            dataset="d",
            version="v1",
            manifest_sha256="",
            rows={"train": out.rows},
            refused={},
            losses={},
            files=out.files,
        )
        assert READERS.get(container, lines)(ExportReport(folder, manifest), "train") == written
