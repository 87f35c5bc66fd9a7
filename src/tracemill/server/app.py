"""The application: parts opened, routes put together, parts closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from tracemill import __version__
from tracemill.core.errors import StoreError, TracemillError
from tracemill.core.pseudonym import load_pseudonymizer
from tracemill.core.settings import Settings
from tracemill.server import errors
from tracemill.server.access import Access
from tracemill.server.committer import Committer
from tracemill.server.context import Context
from tracemill.server.metrics import Metrics
from tracemill.server.observe import Observe, place_of
from tracemill.server.recorder import Recorder
from tracemill.server.routes import FAMILIES
from tracemill.server.settling import settle_all
from tracemill.server.upstream import open_client
from tracemill.workspace import Workspace

logger = logging.getLogger("tracemill.server")
_SETTLE_SECONDS = 1.0
_DESCRIPTION = """Send records, traces, feedback and validations; read them back; pass calls through to a model.

Every error has one shape: `{"error": {"type", "message", "hint", "param", "code", "request_id"}, "detail": {…}}`."""


def create_app(settings: Settings) -> FastAPI:
    """A server over the workspace and database that the settings name. They are opened when it starts.

    Raises SettingError or StoreError on start-up when they cannot be opened.
    """
    metrics = Metrics()
    app = FastAPI(
        title="tracemill",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.settings, app.state.metrics = settings, metrics
    errors.install(app)
    for family in FAMILIES:
        app.include_router(family.router)
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Observe, metrics=metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    workspace = await asyncio.to_thread(Workspace.open, settings=settings)
    committer = Committer(workspace.store, app.state.metrics, settings.ingest_queue_bytes)
    redaction = workspace.redacting.open_in_process()
    recorder = Recorder(workspace.path, settings, committer, app.state.metrics, redaction)
    async with open_client(settings) as client:
        pseudonymizer = load_pseudonymizer(workspace.path, keep_raw=settings.keep_raw_user_ids)
        context = Context(workspace, settings, committer, pseudonymizer, app.state.metrics, client, recorder)
        app.state.access = await asyncio.to_thread(Access, workspace.store, settings)
        app.state.context = context
        work = [asyncio.create_task(_settle_forever(context))]
        if settings.archive_interval_seconds:
            work.append(asyncio.create_task(_maintain_forever(context)))
        try:
            yield
        finally:
            for task in work:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(recorder.close)
            await asyncio.to_thread(committer.close)
            await asyncio.to_thread(workspace.close)
            logger.info("stopped")


async def _settle_forever(context: Context) -> None:
    """Make records of parts that are complete or have waited long enough."""
    while True:
        await asyncio.sleep(_SETTLE_SECONDS)
        try:
            waiting = await context.run(settle_all, context.workspace.store, context.settings, context.pseudonymizer)
            context.metrics.pending.set(waiting)
        except StoreError:
            logger.warning("settling_waits_for_the_store")
        except Exception as error:  # noqa: BLE001
            # One part that cannot be read must not end the settling of all others.
            logger.error("settling_failed", extra={"fields": {"place": place_of(error)}})


async def _maintain_forever(context: Context) -> None:
    """Open erasures, retention and the archive, at the interval the settings name. Several servers may do so at once."""
    while True:
        await asyncio.sleep(context.settings.archive_interval_seconds)
        try:
            done = await context.run(context.workspace.maintain, actor="server")
            logger.info("maintained", extra={"fields": done.to_plain()})
        except TracemillError as error:
            logger.warning("maintenance_failed", extra={"fields": {"why": error.message}})
        except Exception as error:  # noqa: BLE001
            # What is wrong with one run must not end the schedule, nor the server.
            logger.error("maintenance_failed", extra={"fields": {"place": place_of(error)}})
