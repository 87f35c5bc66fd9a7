"""The same recipe on a Ray cluster of two nodes gives the same rows as here, and says clearly what is missing.

Ray listens on every interface of its machine, so it runs in a network namespace that has nothing but loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import open_store
from tests.dataset.test_workers import RECIPE, sample
from tracemill.core.errors import SettingError
from tracemill.core.settings import Settings
from tracemill.dataset import crew
from tracemill.dataset.build import build, build_version
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


@pytest.mark.timeout(400)
def test_two_nodes_give_the_rows_that_one_machine_gives(tmp_path: Path) -> None:
    if reason := possible():
        pytest.skip(reason)
    store = open_store(tmp_path, list(sample()))
    expected = build_version(store, RECIPE, tmp_path / "native")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    command = [*ALONE, sys.executable, "-m", "tests.dataset.on_cluster", store.url, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
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


def test_without_ray_the_engine_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "find_spec", lambda _: None)
    store = open_store(tmp_path, list(sample(3)))
    with pytest.raises(SettingError, match="needs Ray") as caught:
        build(store, RECIPE, tmp_path, settings=Settings(engine="ray"))
    assert "tracemill[scale]" in caught.value.hint
    store.close()
