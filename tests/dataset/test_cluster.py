"""The same recipe on a Ray cluster of two nodes gives the same rows as here, whoever is lost, and says what is missing.

Ray listens on every interface of its machine, so it runs in a network namespace that has nothing but loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import open_store
from tests.dataset.test_workers import RECIPE, always_dies, content, dies, sample
from tracemill.core.errors import SettingError
from tracemill.core.records import Interaction
from tracemill.core.settings import Settings
from tracemill.core.steps import KEEP, Verdict
from tracemill.dataset import crew
from tracemill.dataset.build import build, build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.site import Site
from tracemill.dataset.version import open_version

ALONE = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""What makes a command see no network but loopback."""


def possible() -> str:
    """Why there can be no cluster here; empty when there can."""
    if find_spec("ray") is None:
        return "Ray is not installed"
    if not shutil.which("unshare") or not shutil.which("ip"):
        return "unshare and ip, which make a network of its own, are not installed"
    made = subprocess.run([*ALONE, "true"], capture_output=True, check=False)
    return "" if made.returncode == 0 else "this user may not make a network namespace"


def on_cluster(script: str, url: str, root: Path) -> dict[str, Any]:
    """What a script on a cluster of its own found."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    command = [*ALONE, sys.executable, "-m", f"tests.dataset.{script}", url, str(root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads((root / "found.json").read_text())
    return found


@pytest.mark.timeout(400)
def test_two_nodes_give_the_rows_that_one_machine_gives(tmp_path: Path) -> None:
    if reason := possible():
        pytest.skip(reason)
    store = open_store(tmp_path, list(sample()))
    expected = build_version(store, RECIPE, tmp_path / "native")
    found = on_cluster("on_cluster", store.url, tmp_path)
    there = open_version(Path(found["path"]))
    for file in expected.manifest.files:
        ours, theirs = (sorted((one.path / file.path).read_bytes().splitlines()) for one in (expected, there))
        assert ours == theirs
    assert there.manifest_sha256 == expected.manifest_sha256
    assert found["nodes"] == 2
    assert found["still joined"] is False
    assert found["nowhere"].startswith("there is no Ray cluster at 127.0.0.1:9")
    assert "breaks failed on record" in found["step"]
    assert "ZeroDivisionError" in found["step"]
    assert found["lambda"].startswith("a step of the recipe is known to this process only")
    assert "the store there ends at" in found["short"]
    store.close()


def holds_its_node(_interaction: Interaction, marker: str) -> Verdict[Interaction]:
    """The first time it runs on the second node it stays there, until that is lost."""
    import ray

    second = Path(marker).with_name("second").read_text()
    if not Path(marker).exists() and ray.get_runtime_context().get_node_id() == second:
        Path(marker).touch()
        time.sleep(300)
    return KEEP


def dies_twice(site: Site, name: str) -> str:
    """Ends its process the first two times."""
    for number in range(2):
        if not (marker := site.work / f"dies-{name}-{number}").exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return name


def ends_its_process(_site: Site, _argument: int) -> None:
    """Ends its process each time."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.timeout(400)
def test_a_build_goes_on_when_workers_and_a_node_are_lost(tmp_path: Path) -> None:
    if reason := possible():
        pytest.skip(reason)
    store = open_store(tmp_path, list(sample()))
    found = on_cluster("on_losing_cluster", store.url, tmp_path)
    steps = {
        "worker": partial(dies, marker=str(tmp_path / "worker")),
        "fatal": partial(always_dies, while_there=str(tmp_path / "fatal")),
        "machine": partial(holds_its_node, marker=str(tmp_path / "machine")),
    }
    for name, step in steps.items():
        path, lost = found[name]
        assert lost == (name != "fatal"), name
        expected = build_version(store, Recipe(name="demo", steps=(step,)), tmp_path / "native" / name)
        assert content(open_version(Path(path))) == content(expected), name
    assert found["fatal"][1] == 0
    assert found["refused"].startswith("part 2 of 3 (read shard 1) lost its worker 3 times; the last one was lost: ")
    assert "goes on where it stopped" in found["refused"]
    assert found["resumed"] >= 1
    assert found["again"] == [[[0, "a"], [1, "b"]], 4]
    assert found["nobody"] == "all workers of the build were lost: the cluster started no other in 8 s"
    store.close()


def test_without_ray_the_engine_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "find_spec", lambda _: None)
    store = open_store(tmp_path, list(sample(3)))
    with pytest.raises(SettingError, match="needs Ray") as caught:
        build(store, RECIPE, tmp_path, settings=Settings(engine="ray"))
    assert "tracemill[scale]" in caught.value.hint
    store.close()
