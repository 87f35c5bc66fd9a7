"""Whether the server lives, whether it can work, what it measured, and its own documentation."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tracemill import __version__
from tracemill.core.errors import StoreError
from tracemill.server.access import needs
from tracemill.server.context import Principal, context_of
from tracemill.server.docs_page import PAGE, START, swagger_file
from tracemill.server.errors import ApiError
from tracemill.server.metrics import CONTENT_TYPE

router = APIRouter(tags=["running it"])
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)


@router.get("/healthz", summary="The process answers")
async def healthz() -> dict[str, str]:
    """Always 200: says nothing of the store."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz", summary="Records can be stored")
async def readyz(request: Request) -> dict[str, str]:
    """200 when the database answers and the writer takes records; 503 otherwise, also while the server is stopping."""
    context = context_of(request)
    try:
        await context.run(context.workspace.store.watermark)
    except StoreError:
        raise ApiError(503, "unavailable", "the database does not answer", headers={"Retry-After": "5"}) from None
    if context.committer.closing:
        raise ApiError(503, "stopping", "the server is stopping", headers={"Retry-After": "2"})
    return {"status": "ready"}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request, principal: Annotated[Principal, needs("reviewer")]) -> Response:
    """See docs/server.md for the meaning of each."""
    del principal
    return Response(context_of(request).metrics.page(), media_type=CONTENT_TYPE)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request, principal: Annotated[Principal, needs("ingest", "user")]) -> JSONResponse:
    """The description of every route."""
    del principal
    description: dict[str, Any] = request.app.openapi()
    return JSONResponse(description)


@router.get("/docs", include_in_schema=False)
async def docs(principal: Annotated[Principal, needs("ingest", "user")]) -> Response:
    """Swagger's page, served from this machine."""
    del principal
    return Response(PAGE, media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY})


@router.get("/docs/{name}", include_in_schema=False)
async def docs_file(name: str, principal: Annotated[Principal, needs("ingest", "user")]) -> Response:
    """What the page is made of."""
    del principal
    match name:
        case "start.js":
            return Response(START, media_type="text/javascript")
        case "swagger-ui.js":
            return Response(swagger_file("swagger-ui-bundle.js"), media_type="text/javascript")
        case "swagger-ui.css":
            return Response(swagger_file("swagger-ui.css"), media_type="text/css")
    raise ApiError(404, "not_found", "the documentation has no such file")
