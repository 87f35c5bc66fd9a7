"""A version is a function of recipe and records: same bytes however, wherever and however often it is built."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import (
    base,
    calls,
    feedback,
    interaction,
    open_store,
    record_id,
    result,
    reward,
    says,
    user,
    validation,
)
from tracemill.core.errors import DatasetError
from tracemill.core.examples import Example, PreferenceExample, SupervisedExample
from tracemill.core.records import AnyRecord, Decision, Interaction
from tracemill.core.settings import Settings
from tracemill.core.steps import KEEP, Change, Drop, Verdict
from tracemill.dataset import pairs, shards
from tracemill.dataset.build import build, build_version
from tracemill.dataset.files import WholeFile
from tracemill.dataset.recipe import Recipe, Source
from tracemill.dataset.version import Version
from tracemill.store.hot import HotStore


def sample() -> list[AnyRecord]:
    """Forty chats of twenty people with feedback, six tasks with three trials each, one corrected workflow."""
    records: list[AnyRecord] = []
    for number in range(40):
        chat = interaction(
            f"chat {number}",
            [says("user", f"question {number}")],
            response=says("assistant", f"answer {number}"),
            conversation_id=f"c{number}",
            user=user(f"u{number % 20}"),
            platform="chat",
            success=None if number % 3 == 0 else number % 3 == 1,
        )
        records.append(chat)
        if number % 4 == 0:
            records.append(feedback(f"thumb {number}", f"chat {number}", kind="thumbs_up"))
    for task in range(6):
        for trial in range(3):
            name = f"task {task} {trial}"
            history = [says("user", f"do {task}"), calls("f", f'{{"trial": {trial % 2}}}', f"id{trial}")]
            history += [result(f"id{trial}", "done", "f"), says("assistant", f"ready {trial}"), says("user", "bye")]
            records.append(interaction(name, history, platform="tasks", task_id=str(task), trial=trial))
            records.append(reward(name, [0.0, 1.0, 0.5][trial]))
    records.append(interaction("flow", [says("user", "build")], platform="flows", artifact={"a": 1}))
    records.append(validation("edit", "flow", original={"a": 1}, edited={"a": 2}, user_edited=True))
    return records


RECIPE = Recipe(name="demo", split={"train": 0.6, "test": 0.4})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    opened = open_store(tmp_path, sample())
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards and chunks so small that the sample has several of each."""
    monkeypatch.setattr(shards, "SHARD_PLACES", 20)
    monkeypatch.setattr(pairs, "CHUNK_PAIRS", 4)


def content(version: Version) -> dict[str, bytes]:
    """Every file of a version but the one that says when it was built."""
    return {path.name: path.read_bytes() for path in version.path.iterdir() if path.name != "build.json"}


def by_type(version: Version, tag: str) -> list[Example]:
    return list(version.examples(type=tag))


def test_a_version_holds_what_its_manifest_says(store: HotStore, tmp_path: Path) -> None:
    version = build_version(store, RECIPE, tmp_path / "datasets")
    assert version.verify() == []
    assert version.path == tmp_path / "datasets" / "demo" / "v1"
    assert {tag: version.count(type=tag) for tag in ("supervised", "labelled", "preference")} == {
        "supervised": 13 + 4 + 6,  # successes, approved chats whose success is unknown, tasks rewarded in full
        "labelled": 10 + 12,
        "preference": 6 * 3 + 1,  # a good, a middling and a bad trial make three pairs; one corrected workflow
    }
    assert version.count(type="trajectory_preference") == 0
    assert not list(tmp_path.glob("datasets/demo/.building*"))


def test_every_record_read_has_a_fate_and_every_example_its_sources(store: HotStore, tmp_path: Path) -> None:
    version = build_version(store, RECIPE, tmp_path)
    fates = {fate.id: fate for fate in version.fates()}
    assert set(fates) == {record.id for record in sample()}
    assert version.manifest.records_read == len(fates)
    made = {example.id: example for example in version.examples()}
    for fate in fates.values():
        assert all(fate.id in made[example_id].sources for example_id in fate.examples)
    for example in made.values():
        assert all(example.id in fates[source].examples for source in example.sources)
    counted = Counter(f"{name}.{reason}" for fate in fates.values() for name, reason in fate.left_out.items())
    counted.update(fate.dropped for fate in fates.values() if fate.dropped)
    examples_dropped = {key: count for key, count in version.manifest.drops.items() if key.startswith("examples.")}
    assert version.manifest.drops == {**counted, **examples_dropped}
    assert counted["supervised.success_unknown"] == 14 - 4 + 6
    assert fates[record_id("task 0 0")].left_out == {"supervised": "negative_feedback", "edits": "no_correction"}


def test_building_again_gives_the_version_there_is(store: HotStore, tmp_path: Path) -> None:
    first = build(store, RECIPE, tmp_path)
    again = build(store, RECIPE, tmp_path)
    assert (first.new, again.new) == (True, False)
    assert again.version.path == first.version.path
    assert [path.name for path in (tmp_path / "demo").iterdir() if path.is_dir()] == ["v1"]


def test_records_that_do_not_matter_make_no_new_version_and_new_ones_do(store: HotStore, tmp_path: Path) -> None:
    build(store, RECIPE, tmp_path)
    store.append([Decision(**base("decision"), interaction_id=record_id("chat 1"))])
    assert not build(store, RECIPE, tmp_path).new
    store.append([feedback("late thumb", "chat 1", kind="thumbs_down")])
    second = build(store, RECIPE, tmp_path)
    assert (second.new, second.version.number) == (True, 2)
    assert second.version.manifest.drops["supervised.negative_feedback"] == 7
    third = build(store, Recipe(name="demo", split={"train": 0.6, "test": 0.4}, seed=1), tmp_path)
    assert (third.new, third.version.number) == (True, 3)


def test_another_workspace_gives_the_same_bytes(store: HotStore, tmp_path: Path) -> None:
    """Another order of storing, other neighbours, other pseudonyms, another place: nothing of it shows."""

    def elsewhere(record: AnyRecord) -> AnyRecord:
        fields: dict[str, Any] = {"producer": "other", "sequence": 99}
        if isinstance(record, Interaction) and record.user is not None:
            fields["user"] = user("other " + record.user.pseudonym)
        return msgspec.structs.replace(record, **fields)

    recipe = Recipe(name="demo", source=Source(platforms=("chat", "tasks", "flows")))
    here = build_version(store, recipe, tmp_path / "here")
    (tmp_path / "other").mkdir()
    noise = interaction("noise", [says("user", "x")], platform="noise", success=True, task_id="1")
    other_store = open_store(tmp_path / "other", [noise, *map(elsewhere, reversed(sample()))])
    there = build_version(other_store, recipe, tmp_path / "there")
    assert content(here) == content(there)
    assert here.manifest_sha256 == there.manifest_sha256
    assert here.build_record().watermark != there.build_record().watermark
    other_store.close()


class Killed(BaseException):
    """Stands for any way a build can be stopped that Python lets us see."""


def test_an_interrupted_build_goes_on_where_it_stopped(store: HotStore, tmp_path: Path) -> None:
    expected = content(build_version(store, RECIPE, tmp_path / "whole"))

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "read records" and done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_version(store, RECIPE, tmp_path / "parts", progress=stop)
    assert not list(tmp_path.glob("parts/demo/v*"))
    version = build_version(store, RECIPE, tmp_path / "parts")
    assert content(version) == expected
    assert version.build_record().resumed_shards == 2


def _build_and_die(url: str, root: Path, moment: int) -> None:
    """Build, and be killed when the given number of files has been put in their places."""
    done = 0
    commit = WholeFile.commit

    def counting(self: WholeFile) -> None:
        nonlocal done
        commit(self)
        done += 1
        if done == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    WholeFile.commit = counting  # type: ignore[method-assign]
    build_version(HotStore(url, Settings()), RECIPE, root)


def test_killed_at_any_file_it_goes_on_to_the_same_bytes(store: HotStore, tmp_path: Path) -> None:
    expected = content(build_version(store, RECIPE, tmp_path / "whole"))
    context = multiprocessing.get_context("fork")
    moment = resumed = 0
    while True:
        moment += 1
        root = tmp_path / f"killed {moment}"
        process = context.Process(target=_build_and_die, args=(store.url, root, moment))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert not list(root.glob("demo/v*"))
        version = build_version(store, RECIPE, root)
        assert content(version) == expected
        assert version.verify() == []
        resumed = max(resumed, version.build_record().resumed_shards)
    assert moment > 15
    assert resumed == len(shards.shards(tmp_path, store.watermark()))


def test_what_was_erased_since_the_interruption_is_not_built(store: HotStore, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "compare trials":
            raise Killed

    with pytest.raises(Killed):
        build_version(store, RECIPE, tmp_path, progress=stop)
    gone = [record_id("chat 1"), record_id("task 0 0"), record_id("thumb 0")]
    watermark = store.watermark()
    store.erase(gone)
    assert store.watermark() == watermark
    version = build_version(store, RECIPE, tmp_path)
    everything = b"".join(content(version).values())
    assert not any(record.encode() in everything for record in gone)
    assert b'question 1"' not in everything
    assert content(version) == content(build_version(store, RECIPE, tmp_path / "fresh"))


def drop_odd(interaction: Interaction) -> Verdict[Interaction]:
    number = interaction.messages[0]["content"].rpartition(" ")[2]
    return Drop("odd") if interaction.platform == "chat" and int(number) % 2 else KEEP


def shout(interaction: Interaction) -> Verdict[Interaction]:
    if interaction.response is None:
        return KEEP
    response = {**interaction.response, "content": interaction.response["content"].upper()}
    return Change(msgspec.structs.replace(interaction, response=response), "shouted")


def test_steps_drop_and_change_and_are_counted(store: HotStore, tmp_path: Path) -> None:
    version = build_version(store, Recipe(name="demo", steps=(drop_odd, shout)), tmp_path)
    assert version.manifest.drops["steps.odd"] == 20
    assert version.manifest.changes == {"steps.shouted": 20}
    fates = {fate.id: fate for fate in version.fates()}
    assert fates[record_id("chat 1")].dropped == "steps.odd"
    answers = [e.messages[-1]["content"] for e in by_type(version, "supervised") if isinstance(e, SupervisedExample)]
    assert "ANSWER 4" in answers
    assert "answer 4" not in answers


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda _: 1 / 0, "failed on record .*: ZeroDivisionError"),
        (lambda _: None, "answered NoneType, not Keep, Drop or Change"),
        (lambda _: Drop("Not a word!"), "gave the reason 'Not a word!'"),
        (lambda _: Change("text"), "changed the record into str"),
    ],
)
def test_a_step_that_fails_is_named_and_the_build_can_go_on(
    store: HotStore, tmp_path: Path, step: Callable[[Interaction], Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        build_version(store, Recipe(name="demo", steps=(step,)), tmp_path)
    assert "test_build" in caught.value.message
    assert build_version(store, RECIPE, tmp_path).number == 1


def test_a_call_that_a_later_one_repeats_is_superseded(tmp_path: Path) -> None:
    ask, answer = says("user", "q1"), says("assistant", "a1", reasoning="thought")
    again = says("assistant", "a1")
    first = interaction("1", [ask], response=answer, success=True, conversation_id="c", minutes=1)
    second = interaction(
        "2", [ask, again, says("user", "q2")], response=says("assistant", "a2"), success=True, conversation_id="c"
    )
    other = interaction("3", [ask], response=answer, success=True, conversation_id="d")
    retry = interaction("4", [ask], response=again, success=True, conversation_id="c")
    store = open_store(tmp_path, [second, first, retry, other, feedback("f", "1", kind="thumbs_up")])
    version = build_version(store, Recipe(name="x", split={"train": 1.0}), tmp_path)
    sources = [example.sources for example in by_type(version, "supervised")]
    assert sorted(sources) == sorted([[second.id], [other.id]])
    fates = {fate.id: fate for fate in version.fates()}
    assert fates[first.id].left_out["supervised"] == fates[retry.id].left_out["supervised"] == "superseded"
    (labelled,) = by_type(version, "labelled")  # the thumb is about that one answer, and stays
    assert first.id in labelled.sources
    store.close()


def forget_users(interaction: Interaction) -> Verdict[Interaction]:
    return Change(msgspec.structs.replace(interaction, user=None), "forgot_user")


def test_a_step_that_takes_the_user_out_does_not_part_what_is_theirs(tmp_path: Path) -> None:
    records = [
        interaction(str(n), [says("user", str(n))], response=says("assistant", "a"), success=True, user=user("u"))
        for n in range(20)
    ]
    store = open_store(tmp_path, records)
    version = build_version(store, Recipe(name="x", steps=(forget_users,), split={"a": 0.5, "b": 0.5}), tmp_path)
    assert (version.manifest.groups, len(version.splits()), version.count()) == (1, 1, 20)
    store.close()


def test_equal_examples_of_one_split_are_one_with_all_sources(tmp_path: Path) -> None:
    records = [
        interaction(name, [says("user", "hi")], response=says("assistant", "hello"), success=True) for name in "abc"
    ]
    store = open_store(tmp_path, records)
    version = build_version(store, Recipe(name="x", split={"all": 1.0}), tmp_path)
    (example,) = version.examples()
    assert example.sources == sorted(record.id for record in records)
    assert version.manifest.drops["examples.duplicate"] == 2
    assert all(fate.examples == [example.id] for fate in version.fates())
    store.close()


def test_equal_examples_of_several_splits_stay_in_the_smallest(tmp_path: Path) -> None:
    records = [
        interaction(str(n), [says("user", "hi")], response=says("assistant", "hello"), success=True) for n in range(60)
    ]
    store = open_store(tmp_path, records)
    version = build_version(store, Recipe(name="x", split={"train": 0.8, "test": 0.2}), tmp_path)
    (example,) = version.examples()
    assert version.splits() == ["test"]
    elsewhere = [fate.id for fate in version.fates() if not fate.examples]
    assert len(elsewhere) + len(example.sources) == 60
    assert 30 < len(elsewhere) == version.manifest.drops["examples.duplicate_across_splits"]
    assert all(
        fate.left_out["supervised"] == "duplicate_across_splits" for fate in version.fates() if not fate.examples
    )
    store.close()


def test_equal_preferences_name_every_pair_and_hold_their_tasks_together(tmp_path: Path) -> None:
    def trial(task: int, number: int, answer: str) -> Interaction:
        messages = [says("user", "do it"), says("assistant", answer)]
        return interaction(f"{task} {number}", messages, task_id=str(task), trial=number)

    trials = [trial(task, n, answer) for task in range(30) for n, answer in enumerate(["good", "good", "bad"])]
    rewards = [reward(f"{task} {n}", float(n < 2)) for task in range(30) for n in range(3)]
    store = open_store(tmp_path, [*trials, *rewards])
    version = build_version(store, Recipe(name="x", signals=("trials",)), tmp_path)
    (example,) = version.examples()
    assert isinstance(example, PreferenceExample)
    assert example.pairs == sorted(
        (record_id(f"{task} {n}"), record_id(f"{task} 2")) for task in range(30) for n in (0, 1)
    )
    assert version.manifest.groups == 1
    assert len(version.splits()) == 1
    assert example.sources == sorted(record.id for record in [*trials, *rewards])
    store.close()


def test_contradictions_are_kept_and_noted(tmp_path: Path) -> None:
    def trial(name: str, answer: str, task: str) -> Interaction:
        return interaction(name, [says("user", "q"), says("assistant", answer)], task_id=task)

    records: list[AnyRecord] = [
        trial("a", "x", "1"),
        trial("b", "y", "1"),
        trial("c", "x", "2"),
        trial("d", "y", "2"),
        *(reward(name, score) for name, score in zip("abcd", (1.0, 0.0, 0.0, 1.0), strict=True)),
        interaction("chat", [says("user", "q")], response=says("assistant", "a")),
        feedback("up", "chat", kind="thumbs_up"),
        feedback("down", "chat", kind="thumbs_down"),
    ]
    store = open_store(tmp_path, records)
    version = build_version(store, Recipe(name="x", split={"all": 1.0}), tmp_path)
    assert version.count(type="preference") == 2
    assert [note.split(" contradict")[0] for note in version.manifest.notes] == [
        "3 labelled examples",  # x and y of both tasks, and the chat
        "1 preference examples",
    ]
    store.close()


def test_trials_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    def trial(name: str, task: str | None) -> Interaction:
        return interaction(name, [says("user", name), says("assistant", "a")], task_id=task)

    records = [trial("a", "1"), trial("b", "2"), trial("c", "2"), trial("d", "3"), trial("e", None)]
    store = open_store(tmp_path, [*records, *(reward(name, 1.0) for name in "abce")])
    version = build_version(store, Recipe(name="x", signals=("trials",)), tmp_path)
    reasons = {fate.id: fate.left_out.get("trials") for fate in version.fates()}
    expected = {"a": "only_trial", "b": "equal_scores", "c": "equal_scores", "d": "no_score", "e": "no_task"}
    assert {name: reasons[record_id(name)] for name in expected} == expected
    store.close()


def test_feedback_that_belongs_to_nothing_is_listed(store: HotStore, tmp_path: Path) -> None:
    store.append(
        [
            feedback("lost", "nobody", kind="thumbs_up"),
            feedback("loose", kind="thumbs_up", conversation_id="c1", user_question="other"),
            feedback("comment", "chat 1", kind="comment", comment="hm"),
            feedback("whole", kind="thumbs_up", conversation_id="c1"),
        ]
    )
    fates = {fate.id: fate.dropped for fate in build_version(store, RECIPE, tmp_path).fates()}
    assert fates[record_id("lost")] == "feedback.no_such_interaction"
    assert fates[record_id("loose")] == "feedback.no_such_turn"
    assert fates[record_id("comment")] == "feedback.not_used"
    assert fates[record_id("whole")] == "feedback.about_conversation"
    one = [feedback("other", kind="thumbs_up", platform="other"), feedback("mine", kind="thumbs_up", platform="chat")]
    store.append(one)
    fates = {
        fate.id: fate.dropped
        for fate in build_version(store, Recipe(name="chat", source=Source(platforms=("chat",))), tmp_path).fates()
    }
    assert record_id("other") not in fates
    assert fates[record_id("mine")] == "feedback.no_link"
    narrow = build_version(store, Recipe(name="narrow", source=Source(success=True)), tmp_path)
    assert not {record_id("lost"), record_id("loose")} & {fate.id for fate in narrow.fates()}


def test_two_builds_of_one_dataset_do_not_collide(store: HotStore, tmp_path: Path) -> None:
    def meanwhile(stage: str, done: int, total: int | None) -> None:
        with pytest.raises(DatasetError, match=f"in use by another process .process {os.getpid()}, building demo"):
            build_version(store, RECIPE, tmp_path)

    build_version(store, RECIPE, tmp_path, progress=meanwhile)
    assert build_version(store, Recipe(name="other"), tmp_path).number == 1


def test_a_damaged_version_is_not_given_for_a_new_one(store: HotStore, tmp_path: Path) -> None:
    version = build_version(store, RECIPE, tmp_path)
    path = version.path / "fates.jsonl"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DatasetError, match=r"would be built again, but is damaged: fates\.jsonl was changed"):
        build_version(store, RECIPE, tmp_path)


def test_one_large_group_is_noted(tmp_path: Path) -> None:
    records = [
        interaction(str(n), [says("user", str(n))], response=says("assistant", "a"), success=True, session_id=session)
        for n, session in enumerate(["all"] * 8 + ["x", "y"])
    ]
    store = open_store(tmp_path, records)
    large, coarse = build_version(store, Recipe(name="x", split={"a": 0.5, "b": 0.5}), tmp_path).manifest.notes
    assert large.startswith("One group holds 8 of 10 interactions")
    assert "a (50%)" in coarse
    assert "there are 3; another seed draws otherwise" in coarse
    assert build_version(store, Recipe(name="y", split={"all": 1.0}), tmp_path).manifest.notes == [large]
    store.close()


def test_an_empty_store_makes_an_empty_version(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    version = build_version(store, Recipe(name="x"), tmp_path)
    assert (version.count(), version.manifest.records_read, version.verify()) == (0, 0, [])
    store.close()


def test_progress_goes_up(store: HotStore, tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {}

    def note(stage: str, done: int, total: int | None) -> None:
        seen.setdefault(stage, []).append(done)

    build_version(store, RECIPE, tmp_path, progress=note)
    assert list(seen) == ["read records", "compare trials", "write examples", "write fates", "describe examples"]
    assert all(counts == sorted(counts) for counts in seen.values())
    assert seen["read records"][-1] == store.watermark()
