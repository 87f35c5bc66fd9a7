"""One module a family of routes; each has a ``router``."""

from __future__ import annotations

from tracemill.server.routes import (
    consent,
    datasets,
    feedback,
    health,
    ingress,
    langsmith,
    lightspeed,
    openai,
    otlp,
    peers,
    records,
)

FAMILIES = (records, otlp, openai, langsmith, lightspeed, ingress, feedback, consent, datasets, peers, health)
"""Every family, in the order the documentation lists them."""
