"""Wrappers and callbacks for clients and frameworks; each module imports its own, and only when it is imported itself.

``last_interaction_id`` gives the id of the newest interaction that an integration began in this thread or task, for feedback.
"""

from __future__ import annotations

from tracemill.sdk.integrations.recording import last_interaction_id

__all__ = ["last_interaction_id"]
