"""The OpenAI-compatible proxy: calls pass through as they are, and are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import aiohttp
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from tracemill.capture.proxy.exchange import Exchange, Operation
from tracemill.core.ids import monotonic, new_id, now
from tracemill.core.records import Failure, Interaction, User
from tracemill.server.access import Access, needs
from tracemill.server.bodies import read_body
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError
from tracemill.server.upstream import headers_down, headers_up, unreachable, upstream_address

router = APIRouter(tags=["OpenAI-compatible"])
_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}
CLIENT_WENT = 499
"""The status of a call whose client went away before it was answered; nobody sees it but the log."""


@router.post("/v1/chat/completions", summary="Ask a model (chat completions)", openapi_extra=_BODY)
async def chat_completions(request: Request, principal: Annotated[Principal, needs("ingest", "user")]) -> Response:
    """Passed to the configured API and recorded; streams are passed on chunk by chunk.

    `x-tracemill-interaction-id` in the answer names the record, for feedback.
    """
    return await _passed(request, principal, "chat", "/chat/completions")


@router.post("/v1/responses", summary="Ask a model (responses)", openapi_extra=_BODY)
async def responses(request: Request, principal: Annotated[Principal, needs("ingest", "user")]) -> Response:
    """Passed to the configured API and recorded, as chat completions are."""
    return await _passed(request, principal, "responses", "/responses")


@router.post("/v1/embeddings", summary="Embed texts", openapi_extra=_BODY)
async def embeddings(request: Request, principal: Annotated[Principal, needs("ingest", "user")]) -> Response:
    """Passed to the configured API; recorded without the vectors."""
    return await _passed(request, principal, "embeddings", "/embeddings")


@router.get("/v1/models", summary="List the models of the configured API")
async def models(request: Request, principal: Annotated[Principal, needs("ingest", "user")]) -> Response:
    """Passed through, not recorded."""
    del principal
    return await _looked_up(request, "/models")


@router.get("/v1/models/{model:path}", summary="Look up a model of the configured API")
async def model(request: Request, model: str, principal: Annotated[Principal, needs("ingest", "user")]) -> Response:
    """Passed through, not recorded."""
    del principal
    if ".." in model or "?" in model or "#" in model:
        raise ApiError(404, "not_found", "there is no model of this name")
    return await _looked_up(request, f"/models/{model}")


async def _looked_up(request: Request, path: str) -> Response:
    context = context_of(request)
    address = upstream_address(context.settings, path)
    try:
        async with context.http.get(address, headers=_up(request, context), allow_redirects=False) as answer:
            body = await answer.read()
            return Response(body, answer.status, headers=headers_down(answer.headers))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise unreachable(error) from None


def _up(request: Request, context: Context) -> dict[str, str]:
    access: Access = request.app.state.access
    return headers_up(request.headers, context.settings, pass_authorization=not access.required)


async def _passed(request: Request, principal: Principal, operation: Operation, path: str) -> Response:
    context = context_of(request)
    address = upstream_address(context.settings, path)
    body = await read_body(request)
    call = _Call(context, principal, Exchange(operation, body, request.headers, context.settings.upstream_provider))
    if principal.private:
        await context.honour(principal, call.users())
    asking = asyncio.ensure_future(
        context.http.post(address, data=body, headers=_up(request, context), allow_redirects=False)
    )
    try:
        answer = await _unless_gone(request, asking)
    except (aiohttp.ClientError, TimeoutError) as error:
        failed = unreachable(error)
        call.fail(failed.type, failed.message)
        failed.headers["x-tracemill-interaction-id"] = call.id
        raise failed from None
    if answer is None:
        call.end(interrupted=True)
        return Response(status_code=CLIENT_WENT)
    context.metrics.upstream_seconds.observe(monotonic() - call.began)
    headers = {**headers_down(answer.headers), "x-tracemill-interaction-id": call.id}
    call.exchange.status = answer.status
    if answer.content_type == "text/event-stream":
        call.exchange.streamed = True
        return StreamingResponse(call.stream(answer), answer.status, headers=headers)
    return await _whole(request, call, answer, headers)


async def _whole(request: Request, call: _Call, answer: aiohttp.ClientResponse, headers: dict[str, str]) -> Response:
    try:
        content = await _unless_gone(request, asyncio.ensure_future(answer.read()))
    except (aiohttp.ClientError, TimeoutError) as error:
        failed = unreachable(error)
        call.fail(failed.type, failed.message)
        raise failed from None
    finally:
        answer.release()
    call.exchange.keep(content or b"")
    asyncio.get_running_loop().call_soon(call.end, content is None)  # the answer goes out first
    return Response(content or b"", answer.status if content is not None else CLIENT_WENT, headers=headers)


async def _unless_gone(request: Request, asking: asyncio.Future[Any]) -> Any:
    """What is asked for, or None when the client went away first; then the asking is given up too."""
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await asking if asking.done() else None
    finally:
        leaving.cancel()
        if not asking.done():
            asking.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Call:
    """One call under way: what is known of it, and its record at the end."""

    def __init__(self, context: Context, principal: Principal, exchange: Exchange) -> None:
        self.id = new_id()
        self.exchange = exchange
        self.began = monotonic()
        self._time = now()
        self._context = context
        self._principal = principal
        exchange.platform, exchange.private = principal.project, principal.private

    def users(self) -> list[User]:
        """Whose call it is, where the key or the request says so."""
        if self._principal.user is not None:
            return [self._principal.user]
        named = self.exchange.named_user()
        return [] if named is None else [self._context.pseudonymizer.user(named)]

    async def stream(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Pass an answer on as it comes. However it ends, what came is recorded."""
        interrupted = True
        try:
            async for chunk in answer.content.iter_any():
                if self.exchange.first_byte_ms is None:
                    self.exchange.first_byte_ms = (monotonic() - self.began) * 1000
                self.exchange.keep(chunk)
                yield chunk
            interrupted = False
        except (aiohttp.ClientError, TimeoutError) as error:
            # The status is sent already: all that can be done is to break off, as the API did.
            self.exchange.failure = Failure(type="upstream_broke_off", message=type(error).__name__)
        finally:
            answer.close()
            self.end(interrupted)

    def fail(self, kind: str, message: str) -> None:
        """Record a call that the API did not answer."""
        self.exchange.failure = Failure(type=kind, message=message)
        self.end()

    def end(self, interrupted: bool = False) -> None:
        """Record the call."""
        self.exchange.interrupted = interrupted
        self.exchange.duration_ms = (monotonic() - self.began) * 1000
        self._context.recorder.record("proxy", Interaction, self._fields)

    def _fields(self) -> dict[str, Any]:
        fields = self.exchange.fields(self._context.pseudonymizer.user)
        if self._principal.user is not None:  # a person's own key says who they are
            fields["user"] = self._principal.user
        fields["platform"] = fields["platform"] or self._context.settings.platform
        return {**fields, "id": self.id, "time": self._time}
