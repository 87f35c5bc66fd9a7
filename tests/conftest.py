"""What every test may use."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fake_model import FakeModel

settings.register_profile("tracemill", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("tracemill")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real trajectories, which is not part of this repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real trajectories (../shared/data) are not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL prefix of a real PostgreSQL server; a test adds a database name.

    Its folder is none of pytest's: run by root the server is another user's process, and a second run of pytest makes all
    that the first one keeps readable by root alone.
    """
    if importlib.util.find_spec("pgserver") is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL is not tested: pgserver or psycopg is not installed")
    with tempfile.TemporaryDirectory(prefix="tm-pg-") as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("runtime", "data"):
            Path(folder, name).mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(Path(folder, "runtime")))
        import pgserver.postgres_server

        server = pgserver.postgres_server.get_server(Path(folder, "data"))
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def fake_model() -> Iterator[FakeModel]:
    """A model server of the tests' own."""
    with FakeModel() as model:
        yield model
