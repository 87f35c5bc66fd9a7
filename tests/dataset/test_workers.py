"""However many work on a build and are killed, its bytes are the same; where it cannot go on, the next run does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import calls, feedback, interaction, open_store, result, reward, says, user
from tracemill.core.errors import DatasetError
from tracemill.core.records import AnyRecord, Interaction
from tracemill.core.settings import Settings
from tracemill.core.steps import KEEP, Verdict
from tracemill.dataset import assemble, shards
from tracemill.dataset.build import build, build_version
from tracemill.dataset.processes import Processes, sendable
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.rules import DuplicatePatterns
from tracemill.dataset.site import Plan, Site
from tracemill.dataset.version import Version
from tracemill.store.hot import HotStore

COUNT = 4500  # three shards


def sample(count: int = COUNT) -> Iterator[AnyRecord]:
    """Questions, some asked twice, by people with feedback; a few tasks with better and worse trials."""
    for number in range(count):
        asked = number - (number % 7 == 6)  # every seventh asks what the one before asked, and adds a word
        words = [f"w{(asked * 31 + at * at * 7) % 4999}" for at in range(30)] + ["please"] * (asked != number)
        yield interaction(
            f"chat {number}",
            [says("user", " ".join(words[:10]))],
            response=says("assistant", " ".join(words[10:])),
            conversation_id=f"c{number}",
            user=user(f"u{number % 900}"),
            success=number % 5 != 0,
        )
        if number % 10 == 0:
            yield feedback(f"thumb {number}", f"chat {number}", kind="thumbs_up")
        if number % 50 == 0:
            for trial in range(2):
                name = f"task {number} {trial}"
                history = [says("user", f"do {number}"), calls("f", f'{{"trial": {trial}}}', f"id{trial}")]
                yield interaction(name, [*history, result(f"id{trial}", "done", "f")], task_id=str(number), trial=trial)
                yield reward(name, float(trial))


RECIPE = Recipe(name="demo", steps=(DuplicatePatterns(),), split={"train": 0.7, "test": 0.3})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HotStore]:
    opened = open_store(tmp_path_factory.mktemp("store"), list(sample()))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def expected(store: HotStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The version as this process alone makes it."""
    return content(build_version(store, RECIPE, tmp_path_factory.mktemp("alone")))


def content(version: Version) -> dict[str, bytes]:
    """Every file of a version but the one that says when it was built."""
    return {path.name: path.read_bytes() for path in version.path.iterdir() if path.name != "build.json"}


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_makes_the_same_bytes(
    store: HotStore, tmp_path: Path, expected: dict[str, bytes], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "RANGE_BYTES", 100_000)
    started: list[int] = []
    begin = Processes.__enter__

    def noting(self: Processes) -> Processes:
        started.append(self.size)
        return begin(self)

    monkeypatch.setattr(Processes, "__enter__", noting)
    version = build_version(store, RECIPE, tmp_path, settings=Settings(workers=workers))
    assert started == [workers]
    assert content(version) == expected
    assert version.verify() == []
    assert version.manifest.drops["supervised.duplicate_pattern"] > 300


def test_the_size_of_shards_and_ranges_leaves_no_trace(
    store: HotStore, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_PLACES", 37)
    monkeypatch.setattr(shards, "MOST_SHARDS", 5)
    monkeypatch.setattr(assemble, "RANGE_BYTES", 3000)
    monkeypatch.setattr(assemble, "_FATE_BYTES", 3000)
    assert 1 < len(shards.shards(tmp_path, store.watermark())) <= 5
    assert content(build_version(store, RECIPE, tmp_path)) == expected


def breaks(interaction: Interaction) -> Verdict[Interaction]:
    if interaction.conversation_id == "c4000":
        raise ZeroDivisionError("nothing to divide by")
    return KEEP


def dies(interaction: Interaction, marker: str) -> Verdict[Interaction]:
    """Kills its worker the first time it sees one record."""
    if interaction.conversation_id == "c4000":
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return KEEP
        os.kill(os.getpid(), signal.SIGKILL)
    return KEEP


def waits(interaction: Interaction, marker: str) -> Verdict[Interaction]:
    """Holds its worker at one record until the marker is there."""
    while interaction.conversation_id == "c4000" and not Path(marker).exists():
        time.sleep(0.01)
    return KEEP


def test_a_step_that_fails_in_a_worker_is_named_with_the_record(store: HotStore, tmp_path: Path) -> None:
    recipe = Recipe(name="demo", steps=(breaks,))
    with pytest.raises(DatasetError, match=r"step .*breaks failed on record .*: ZeroDivisionError: nothing") as caught:
        build(store, recipe, tmp_path, settings=Settings(workers=2))
    assert caught.value.hint.startswith("Correct the step")
    assert build(store, RECIPE, tmp_path, settings=Settings(workers=2)).version.number == 1


def _partial(name: str, marker: Path) -> Any:
    return partial(globals()[name], marker=str(marker))


def test_what_a_killed_worker_was_at_another_one_does(
    store: HotStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe(name="demo", steps=(_partial("dies", tmp_path / "marker"),))
    built = build(store, recipe, tmp_path, settings=Settings(workers=2))
    assert built.version.build_record().lost_workers == 1
    assert built.version.build_record().resumed_shards == 0
    assert "a worker of the build was killed by signal 9; another one gets part 3 of 3 (read shard 2)" in caplog.text
    other = build_version(store, recipe, tmp_path / "other")
    assert other.build_record().lost_workers == 0
    assert content(built.version) == content(other)


def always_dies(interaction: Interaction, while_there: str) -> Verdict[Interaction]:
    """Kills its worker at one record as long as a file is there."""
    if interaction.conversation_id == "c2500" and Path(while_there).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return KEEP


def test_a_part_that_kills_every_worker_ends_the_build_and_the_next_one_goes_on(
    store: HotStore, tmp_path: Path
) -> None:
    (fatal := tmp_path / "fatal").touch()
    recipe = Recipe(name="demo", steps=(partial(always_dies, while_there=str(fatal)),))
    with pytest.raises(DatasetError, match="lost its worker 3 times; the last one was killed by signal 9") as caught:
        build(store, recipe, tmp_path, settings=Settings(workers=2))
    assert caught.value.message.startswith("part 2 of 3 (read shard 1)")
    assert "goes on where it stopped" in caught.value.hint
    fatal.unlink()
    built = build(store, recipe, tmp_path, settings=Settings(workers=2))
    assert built.version.build_record().resumed_shards >= 1
    assert content(built.version) == content(build_version(store, recipe, tmp_path / "other"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in Linux's /proc")
def test_workers_killed_in_every_stage_leave_no_trace(
    store: HotStore, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "RANGE_BYTES", 100_000)
    monkeypatch.setattr(assemble, "_FATE_BYTES", 30_000)
    killed: list[str] = []

    def kill(stage: str, _done: int, _total: int | None) -> None:
        if stage not in killed and (workers := [one for one in _workers_of(os.getpid()) if _alive(one)]):
            killed.append(stage)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)

    built = build(store, RECIPE, tmp_path, settings=Settings(workers=2), progress=kill)
    assert {"read records", "write examples", "write fates"} <= set(killed)
    assert len(killed) <= built.version.build_record().lost_workers <= 2 * len(killed)
    assert content(built.version) == expected


def _workers_of(process: int) -> list[int]:
    return [
        one for one in _children(process) if b"tracemill.dataset.worker" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]


_BUILD = """
import sys
from functools import partial
from pathlib import Path
from tests.dataset import test_workers as here
from tracemill.core.settings import Settings
from tracemill.dataset.build import build
from tracemill.dataset.recipe import Recipe
from tracemill.store.hot import HotStore

url, root, marker = sys.argv[1:]
recipe = Recipe(name="demo", steps=(partial(here.waits, marker=marker),))
build(HotStore(url, Settings()), recipe, Path(root), settings=Settings(workers=2))
"""


def _started(url: str, root: Path, marker: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    command = [sys.executable, "-c", _BUILD, url, str(root), str(marker)]
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)


def _wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def _children(process: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:
        return []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in Linux's /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_is_stopped_takes_its_workers_along_and_goes_on(
    store: HotStore, tmp_path: Path, how: signal.Signals
) -> None:
    marker = tmp_path / "go"
    process = _started(store.url, tmp_path, marker)
    _wait_for(lambda: process.poll() is not None or len(list(tmp_path.glob("demo/.building-*/*.columns"))) >= 2)
    workers = _children(process.pid)
    assert len(workers) == 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.kill()
    process.wait(30)
    _wait_for(lambda: not any(Path(f"/proc/{worker}/fd").exists() and _alive(worker) for worker in workers), 10)
    assert not list(tmp_path.glob("demo/v*"))
    marker.touch()
    recipe = Recipe(name="demo", steps=(_partial("waits", marker),))
    built = build(store, recipe, tmp_path, settings=Settings(workers=2))
    assert built.version.build_record().resumed_shards >= 2
    assert content(built.version) == content(build_version(store, recipe, tmp_path / "other"))
    assert process.stderr is not None
    process.stderr.close()


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_recipe_that_cannot_be_sent_is_built_here(store: HotStore, tmp_path: Path) -> None:
    recipe = Recipe(name="demo", steps=(lambda _: KEEP,))
    assert not sendable(Plan(tmp_path, recipe, 0, Settings()))
    assert build_version(store, recipe, tmp_path, settings=Settings(workers=2)).count() > 0


def _double(site: Site, number: int) -> int:
    if number == 3:
        raise RuntimeError("three")
    return site.watermark * number


def test_a_crew_gives_every_result_once_and_what_was_raised(tmp_path: Path) -> None:
    plan = Plan(tmp_path, Recipe(), 2, Settings())
    with Processes(plan, 2) as crew:
        assert sorted(crew.run(_double, [0, 1, 2])) == [(0, 0), (1, 2), (2, 4)]
        assert list(crew.run(_double, [])) == []
        with pytest.raises(RuntimeError, match="three"):
            list(crew.run(_double, [3]))


def _ends(_site: Site, code: int) -> None:
    os._exit(code)


def test_a_crew_says_how_a_worker_ended_and_those_without_work_are_replaced_at_no_cost(tmp_path: Path) -> None:
    with Processes(Plan(tmp_path, Recipe(), 2, Settings()), 2) as crew:
        assert sorted(crew.run(_double, [0, 1])) == [(0, 0), (1, 2)]
        for worker in _workers_of(os.getpid()):
            os.kill(worker, signal.SIGKILL)
        _wait_for(lambda: not any(map(_alive, _workers_of(os.getpid()))))
        assert sorted(crew.run(_double, [4, 5])) == [(0, 8), (1, 10)]
        assert crew.lost == 2
        with pytest.raises(DatasetError, match=r"^part 1 of 1 \(ends 7\) lost .*; the last one ended with code 7$"):
            list(crew.run(_ends, [7]))
        assert crew.lost == 5


def _raises(_site: Site, _number: int) -> None:
    raise ConnectionResetError("the database went away")


def test_a_part_that_loses_its_own_connection_is_no_lost_worker(tmp_path: Path) -> None:
    with Processes(Plan(tmp_path, Recipe(), 2, Settings()), 1) as crew:
        with pytest.raises(ConnectionResetError, match="the database went away"):
            list(crew.run(_raises, [1]))
        assert crew.lost == 0


def test_progress_is_told_while_workers_read(store: HotStore, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    build(
        store,
        RECIPE,
        tmp_path,
        settings=Settings(workers=2),
        progress=lambda stage, done, _: seen.append((stage, done)),
    )
    read = [done for stage, done in seen if stage == "read records"]
    assert read == sorted(read)
    assert len(read) == len(shards.shards(tmp_path, store.watermark()))
    assert read[-1] == store.watermark()
    assert json.dumps(seen)
