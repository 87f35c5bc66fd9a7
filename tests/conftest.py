"""What every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tracemill", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("tracemill")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real trajectories, which is not part of this repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real trajectories (../shared/data) are not beside this checkout")
    return SHARED_DATA
