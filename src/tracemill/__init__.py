"""tracemill: what an LLM application does in production, as training data its owner can trust."""

from __future__ import annotations

__all__ = ["__version__"]
__version__ = "0.1.0"
