"""The records of the sample, as they come out of the collector."""

from __future__ import annotations

import pytest

from tests.insight.conftest import sample_records, sample_store

__all__ = ["pytest", "sample_records", "sample_store"]
