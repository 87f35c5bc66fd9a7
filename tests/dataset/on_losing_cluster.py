"""Run by test_cluster.py in a network of its own: builds on a Ray cluster that loses workers and a whole node.

``python -m tests.dataset.on_losing_cluster URL ROOT``: writes what came of each build to ROOT/found.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray.cluster_utils import Cluster

from tests.dataset.on_cluster import refused
from tests.dataset.test_cluster import dies_twice, ends_its_process, holds_its_node
from tests.dataset.test_workers import always_dies, dies
from tracemill.core.errors import DatasetError
from tracemill.core.settings import Settings
from tracemill.dataset import cluster as engine
from tracemill.dataset.build import Built, build
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.site import Plan
from tracemill.store.hot import HotStore


class _Tries:
    """Builds of the same records with steps that kill whoever runs them."""

    def __init__(self, url: str, root: Path) -> None:
        self.url, self.root = url, root
        self.store = HotStore(url, Settings())
        nodes = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 1024 * 1024}
        self.cluster = Cluster(initialize_head=True, head_node_args=nodes)
        self.second = self.cluster.add_node(num_cpus=1, object_store_memory=80 * 1024 * 1024)
        self.settings = Settings(engine="ray", ray_address=self.cluster.address)
        self.found: dict[str, Any] = {}

    def build(self, name: str, step: Any) -> Built:
        built = build(
            self.store, Recipe(name="demo", steps=(step,)), self.root / f"cluster-{name}", settings=self.settings
        )
        self.found[name] = [str(built.version.path), built.version.build_record().lost_workers]
        return built

    def workers(self) -> None:
        """Lose a worker once; lose one with every try."""
        self.build("worker", partial(dies, marker=str(self.root / "worker")))
        (fatal := self.root / "fatal").touch()
        step = partial(always_dies, while_there=str(fatal))
        self.found["refused"] = refused(lambda: self.build("fatal", step))
        fatal.unlink()
        self.found["resumed"] = self.build("fatal", step).version.build_record().resumed_shards

    def machine(self) -> None:
        """Lose a node and whoever was on it, with nobody to take the place."""
        (self.root / "second").write_text(self.second.node_id)
        marker = self.root / "machine"

        def remove() -> None:
            while not marker.exists():
                time.sleep(0.05)
            self.cluster.remove_node(self.second, allow_graceful=False)

        thread = Thread(target=remove)
        thread.start()
        self.build("machine", partial(holds_its_node, marker=str(marker)))
        thread.join()

    def everybody(self) -> None:
        """Crews of one: a worker that is replaced, and one whose place another program takes."""
        plan = Plan(self.root, Recipe(), self.store.watermark(), Settings(database=self.url))
        with engine.Cluster(plan, self.cluster.address, 1) as crew:
            self.found["again"] = [sorted(crew.run(dies_twice, ["a", "b"])), crew.lost]
        engine._START_SECONDS = 8.0
        with engine.Cluster(plan, self.cluster.address, 1) as crew:
            waiting = ray.remote(num_cpus=1)(_Idle).remote()  # is given the processor when the worker is gone
            try:
                list(crew.run(ends_its_process, [3]))
            except DatasetError as error:
                self.found["nobody"] = error.message
            ray.kill(waiting)

    def close(self) -> None:
        self.cluster.shutdown()
        self.store.close()


class _Idle:
    """Takes the place of a worker."""


def main() -> None:
    """Start two nodes, lose what can be lost, and note what came of it."""
    root = Path(sys.argv[2])
    tries = _Tries(sys.argv[1], root)
    try:
        tries.workers()
        tries.machine()
        tries.everybody()
    finally:
        tries.close()
    (root / "found.json").write_text(json.dumps(tries.found))


if __name__ == "__main__":
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    main()
