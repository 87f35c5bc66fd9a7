"""Run by test_cluster.py in a network of its own: a Ray cluster of two nodes on this machine, and builds on it.

``python -m tests.dataset.on_cluster URL ROOT``: writes what came of each build to ROOT/found.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from tests.dataset.test_workers import RECIPE, breaks
from tracemill.core.errors import DatasetError
from tracemill.core.settings import Settings
from tracemill.dataset import processes
from tracemill.dataset.build import Built, build
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.site import Site
from tracemill.store.hot import HotStore


def node_of(_site: Site, _argument: int) -> str:
    """The node a part runs on."""
    return str(ray.get_runtime_context().get_node_id())


def refused(work: Callable[[], Built]) -> str:
    """What an error says."""
    try:
        work()
    except DatasetError as error:
        return f"{error.message} | {error.hint}"
    return "no error"


def main() -> None:
    """Start two nodes, build on them, and note what came of it."""
    url, root = sys.argv[1], Path(sys.argv[2])
    store = HotStore(url, Settings())
    found: dict[str, object] = {}
    nowhere = Settings(engine="ray", ray_address="127.0.0.1:9")
    found["nowhere"] = refused(lambda: build(store, RECIPE, root / "nowhere", settings=nowhere))
    nodes = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, head_node_args=nodes)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 1024 * 1024)
    settings = Settings(engine="ray", ray_address=cluster.address)
    try:
        built = build(store, RECIPE, root / "cluster", settings=settings)
        found["path"], found["still joined"] = str(built.version.path), ray.is_initialized()
        found["step"] = refused(
            lambda: build(store, Recipe(name="demo", steps=(breaks,)), root / "step", settings=settings)
        )
        found["lambda"] = refused(
            lambda: build(store, Recipe(name="demo", steps=(lambda _: breaks(_),)), root / "step", settings=settings)
        )
        from tracemill.dataset.cluster import Cluster as Crew
        from tracemill.dataset.site import Plan

        plan = Plan(root, RECIPE, store.watermark(), Settings(database=url))
        assert processes.sendable(plan)
        with Crew(plan, cluster.address, 2) as crew:
            found["nodes"] = len({node for _, node in crew.run(node_of, list(range(8)))})
        elsewhere = Plan(root, RECIPE, store.watermark() + 1, Settings(database=url))
        try:
            with Crew(elsewhere, cluster.address, 1):
                pass
        except DatasetError as error:
            found["short"] = error.message
    finally:
        cluster.shutdown()
        store.close()
    (root / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    main()
