"""Writes docs/http.md from the routes and metrics themselves: `python -m scripts.http_page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastapi.routing import APIRoute

from tracemill.server.access import scopes_of
from tracemill.server.metrics import Metrics
from tracemill.server.routes import FAMILIES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "http.md"
INTRODUCTION = """# HTTP routes and metrics

Every route of `tracemill serve` with the scope a key or token needs. Several mean that any of them is enough; `admin` may
do everything, and `reviewer` whatever `user` may. `/docs` on a running server describes parameters and bodies. For what the
families are there: [server](server.md).

| route | scope | what it does |
| --- | --- | --- |
"""
METRICS = """
## Metrics

`/metrics`, in Prometheus' text format. Labels hold route templates, sources and reasons, never ids or content. Counters end in
`_total`, histograms have `_bucket`, `_sum` and `_count`.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
"""


def routes() -> Iterator[tuple[str, str, str, str]]:
    """Method, path, scopes and summary of every route."""
    for family in FAMILIES:
        for route in family.router.routes:
            assert isinstance(route, APIRoute)
            found = [scopes_of(dependency.call) for dependency in route.dependant.dependencies]
            scopes = next((scope for scope in found if scope), ())
            summary = route.summary or (route.endpoint.__doc__ or "").strip().split("\n")[0].rstrip(".")
            for method in sorted(route.methods or ()):
                yield method, route.path, " or ".join(f"`{scope}`" for scope in scopes) or "none", summary


def page() -> str:
    """The whole page."""
    lines = [f"| `{method} {path}` | {scopes} | {summary} |" for method, path, scopes, summary in routes()]
    metrics = [
        f"| `{metric._name}` | {metric._type} | {', '.join(f'`{name}`' for name in metric._labelnames)} "
        f"| {metric._documentation} |"
        for metric in vars(Metrics()).values()
        if hasattr(metric, "_documentation")
    ]
    return INTRODUCTION + "\n".join(lines) + "\n" + METRICS + "\n".join(metrics) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
