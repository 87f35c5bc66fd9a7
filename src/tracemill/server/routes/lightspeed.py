"""Lightspeed's routes: questions answered by the configured model and recorded, and feedback on the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from tracemill.capture.lightspeed.files import write_feedback, write_transcript
from tracemill.capture.lightspeed.frames import Frames, query_answer, tool_calls
from tracemill.capture.lightspeed.prompt import messages_of
from tracemill.capture.lightspeed.schemas import (
    FeedbackRequest,
    FeedbackStatusRequest,
    InterruptRequest,
    QueryRequest,
    checked,
)
from tracemill.capture.lightspeed.status import feedback_enabled, set_feedback_enabled
from tracemill.capture.lightspeed.turns import INTERRUPTED, Answer, Turn, feedback_of, interaction_of
from tracemill.capture.lightspeed.upstream import ModelError, Target, ask, stream, wrong_end
from tracemill.core.consent import NO_CONSENT, marked
from tracemill.core.errors import RecordError, SettingError, TracemillError
from tracemill.core.ids import monotonic, new_id, now
from tracemill.core.records import AnyRecord, CompletionStatus, Failure, Interaction, User
from tracemill.server.access import needs
from tracemill.server.bodies import read_json
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError, as_api_error
from tracemill.store.base import Filter
from tracemill.store.hot import HotStore

logger = logging.getLogger("tracemill.server")
router = APIRouter(tags=["lightspeed"])
T = TypeVar("T")
SOURCE = "lightspeed"
ANONYMOUS = "00000000-0000-0000-0000-000"
"""The user of a request that names none; the real service's default."""
INTERACTION_HEADER = "x-tracemill-interaction-id"
_MOST_TURNS = 10_000
Asker = Annotated[Principal, needs("user", "ingest")]


def _described(kind: type) -> dict[str, Any]:
    """A body's schema for the routes' description, with everything it refers to written out in place."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return inline(components[value["$ref"]])
        return {key: inline(entry) for key, entry in value.items()}

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inline(schema)}}}}


_QUERY, _FEEDBACK = _described(QueryRequest), _described(FeedbackRequest)
_INTERRUPT, _STATUS = _described(InterruptRequest), _described(FeedbackStatusRequest)


# -- questions


@router.post("/query", summary="Ask the model", openapi_extra=_QUERY)
@router.post("/v1/query", summary="Ask the model", openapi_extra=_QUERY)
async def query(request: Request, principal: Asker) -> Response:
    """Answer a question within its conversation, and record the turn before answering.

    The header `x-tracemill-interaction-id` names the record.
    """
    context = context_of(request)
    turn, target = await _begin(request, context, principal)
    began = monotonic()
    try:
        answer = await ask(context.http, target, turn.messages)
    except ModelError as error:
        await _record(context, principal, _ended(turn, Answer(), "failed", error.failure, began))
        raise _api_error(error) from error
    wrong = wrong_end(answer, target)
    record = _ended(turn, answer, *_status(answer, wrong), began)
    await _record(context, principal, record)
    if wrong is not None:
        raise _api_error(wrong)
    body = query_answer(record, answer, answer.shown)
    return _json(body, headers={INTERACTION_HEADER: turn.id})


@router.post("/streaming_query", summary="Ask the model, streamed", openapi_extra=_QUERY)
@router.post("/v1/streaming_query", summary="Ask the model, streamed", openapi_extra=_QUERY)
async def streaming_query(request: Request, principal: Asker) -> Response:
    """The same as events while the answer is written; its `request_id` is the record's id.

    The turn is recorded before the last event, also when it was interrupted or its reader went away.
    """
    context = context_of(request)
    turn, target = await _begin(request, context, principal)
    return StreamedTurn(context, principal, turn, target, _streams(request))


@router.post("/streaming_query/interrupt", summary="Stop a streamed answer", openapi_extra=_INTERRUPT)
@router.post("/v1/streaming_query/interrupt", summary="Stop a streamed answer", openapi_extra=_INTERRUPT)
async def interrupt(request: Request, principal: Asker) -> Response:
    """Stop one's own stream of this server process; what was answered until then is kept."""
    user = _asker(request, context_of(request), principal)
    body = await _body(request, InterruptRequest)
    running = _streams(request).get(body.request_id)
    if running is None:
        raise _not_found("Streaming Request", body.request_id)
    if running.turn.user.pseudonym != user.pseudonym:
        raise ApiError(
            403,
            "not_your_stream",
            "User does not have permission to interrupt this streaming request",
            hint=f"The user does not own streaming request with ID {body.request_id}",
        )
    stopped = running.stop()
    message = "interrupted" if stopped else "already completed; nothing to interrupt"
    answer = {"request_id": body.request_id, "interrupted": stopped, "message": f"Streaming request {message}"}
    return _json(answer)


class StreamedTurn(Response):
    """An answer that is written while it comes, and recorded in the same request, however it ends.

    Nothing of a turn outlives its request, so that a server that is told to stop waits for what is under way.
    """

    def __init__(
        self,
        context: Context,
        principal: Principal,
        turn: Turn,
        target: Target,
        streams: dict[str, StreamedTurn],
    ) -> None:
        self.turn = turn
        self._context = context
        self._principal = principal
        self._target = target
        self._streams = streams
        self._answer = Answer()
        self._frames = Frames(as_text=turn.request.as_text)
        self._stopped = asyncio.Event()
        self._gone = False
        self._over = False
        super().__init__(headers={INTERACTION_HEADER: turn.id, "cache-control": "no-cache"})
        del self.headers["content-length"]
        self.headers["content-type"] = self._frames.media_type

    def stop(self) -> bool:
        """End the answer where it is; False when it has ended already."""
        if self._over or self._stopped.is_set():
            return False
        self._stopped.set()
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        del scope

        async def emit(frame: bytes, *, more: bool = True) -> None:
            if frame or not more:
                await send({"type": "http.response.body", "body": frame, "more_body": more})

        began = monotonic()
        self._streams[self.turn.id] = self
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        watching = asyncio.create_task(self._watch(receive))
        try:
            failed = await self._pass_on(emit)
            await self._finish(emit, failed, began)
            await emit(b"", more=False)
        except asyncio.CancelledError:
            if not self._over:  # the server gives up waiting: what was said is kept all the same
                self._gone = True
                self._stopped.set()
                await self._finish(emit, None, began)
            raise
        finally:
            self._streams.pop(self.turn.id, None)
            watching.cancel()

    async def _watch(self, receive: Receive) -> None:
        """Stop when the reader goes away."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._stopped.set()

    async def _pass_on(self, emit: Callable[..., Awaitable[None]]) -> ModelError | None:
        """Send what the model says until it ends or is stopped; returns the error it ended with."""
        await emit(self._frames.start(self.turn.conversation_id, self.turn.id))

        async def tokens() -> None:
            pieces = stream(self._context.http, self._target, self.turn.messages, self._answer)
            async with aclosing(pieces):
                async for piece in pieces:
                    await emit(self._frames.token(piece))

        passing, stopping = asyncio.create_task(tokens()), asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({passing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            passing.cancel()
            await asyncio.wait({passing})
        error = None if passing.cancelled() else passing.exception()
        if error is not None and not isinstance(error, ModelError):
            raise error
        return error

    async def _finish(self, emit: Callable[..., Awaitable[None]], failed: ModelError | None, began: float) -> None:
        """Record the turn, then send the events that end it."""
        self._over = True
        answer, frames = self._answer, self._frames
        interrupted = self._stopped.is_set() and failed is None and answer.finish_reason is None
        error = None if interrupted else failed or wrong_end(answer, self._target)
        status, failure = ("interrupted", None) if interrupted else _status(answer, error)
        record = _ended(self.turn, answer, status, failure, began)
        if self._gone:
            record = msgspec.structs.replace(record, extra={**record.extra, "disconnected": True})
        try:
            await _record(self._context, self._principal, record)
        except TracemillError as refused:
            said = as_api_error(refused)
            await emit(frames.error(said.status, said.message, said.hint))
            return
        if interrupted:
            await emit(frames.token(INTERRUPTED))
            await emit(frames.interrupted(self.turn.id))
            return
        if failed is None:
            for call in tool_calls(answer):
                await emit(frames.tool_call(call))
            await emit(frames.turn_complete(answer.shown))
        if error is not None:
            await emit(frames.error(error.status, error.message, error.hint))
        if failed is None:
            await emit(frames.end(answer))


# -- feedback


@router.post("/feedback", summary="Say what an answer was worth", openapi_extra=_FEEDBACK)
@router.post("/v1/feedback", summary="Say what an answer was worth", openapi_extra=_FEEDBACK)
async def feedback(request: Request, principal: Asker) -> Response:
    """Store a feedback, joined to the turn whose question and answer it repeats."""
    context = context_of(request)
    collection = context.settings.user_data_collection
    if not await context.run(feedback_enabled, context.workspace.path, collection.feedback_enabled):
        raise ApiError(403, "feedback_disabled", "Storing feedback is disabled", hint="Storing feedback is disabled.")
    user = _asker(request, context, principal)
    body = await _body(request, FeedbackRequest)
    turns = await _own_turns(context, principal, user, body.conversation, action="submit feedback for")
    record = feedback_of(body, turns, time=now(), user=user, platform=_platform(context, principal))
    if principal.private:
        record = marked(record)  # its file says so too
    if await _store(context, principal, record) and collection.feedback_storage:
        await _write(context, write_feedback, Path(collection.feedback_storage), record)
    return _json({"response": "feedback received"})


@router.get("/feedback/status", summary="Whether feedback is taken")
@router.get("/v1/feedback/status", summary="Whether feedback is taken")
async def feedback_status(request: Request, principal: Asker) -> Response:
    """Whether feedback is taken now."""
    del principal
    context = context_of(request)
    configured = context.settings.user_data_collection.feedback_enabled
    enabled = await context.run(feedback_enabled, context.workspace.path, configured)
    return _json({"functionality": "feedback", "status": {"enabled": enabled}})


@router.put("/feedback/status", summary="Take feedback, or stop", openapi_extra=_STATUS)
@router.put("/v1/feedback/status", summary="Take feedback, or stop", openapi_extra=_STATUS)
async def update_feedback_status(request: Request, principal: Annotated[Principal, needs("admin")]) -> Response:
    """Take feedback from now on, or not: in every process on the workspace, and after a restart too."""
    context = context_of(request)
    body = await _body(request, FeedbackStatusRequest)
    status = await context.run(
        set_feedback_enabled,
        context.workspace.path,
        body.status,
        configured=context.settings.user_data_collection.feedback_enabled,
        updated_by=principal.user.pseudonym if principal.user else principal.name,
        time=now(),
    )
    return _json({"status": status})


# -- what they share


async def _begin(request: Request, context: Context, principal: Principal) -> tuple[Turn, Target]:
    """A question ready to be put to the model. Raises ApiError."""
    user = _asker(request, context, principal)
    body = await _body(request, QueryRequest)
    if body.shield_ids:
        raise _not_found("Shield", ", ".join(body.shield_ids))  # never let somebody think that one was applied
    target = _target(context, body)
    history: list[Interaction] = []
    if body.conversation is not None:
        history = await _own_turns(context, principal, user, body.conversation, action="read")
    turn = Turn(
        id=new_id(),
        time=now(),
        conversation_id=body.conversation or new_id(),
        number=max((entry.turn or 0 for entry in history), default=0) + 1,
        user=user,
        platform=_platform(context, principal),
        provider=target.provider,
        model=target.model,
        request=body,
        messages=messages_of(body, history),
        private=principal.private,
    )
    return turn, target


def _asker(request: Request, context: Context, principal: Principal) -> User:
    """Whose question it is: the principal's person, or whom a program that may send for others names.

    Raises ApiError: 403 for a key of neither, 400 for an empty name.
    """
    if principal.user is not None:
        return principal.user
    if not principal.can("ingest"):
        raise ApiError(
            403, "no_user", "the key belongs to no user", hint="Make one with `tracemill keys create --user`."
        )
    named = request.headers.get("x-user-id")
    raw = request.query_params.get("user_id", ANONYMOUS) if named is None else named
    if not raw:
        raise ApiError(400, "bad_request", "user_id cannot be empty", param="user_id")
    return context.pseudonymizer.user(raw)


async def _body(request: Request, kind: type[T]) -> T:
    value = await read_json(request)
    try:
        return checked(value, kind)
    except msgspec.ValidationError as error:
        _, _, place = str(error).rpartition(" - at `$")
        param = place.rstrip("`").lstrip(".") or None
        raise ApiError(422, "invalid", "Invalid attribute value", hint=str(error), param=param) from None


def _target(context: Context, body: QueryRequest) -> Target:
    settings = context.settings
    if not settings.upstream_url:
        raise ApiError(
            503, "not_configured", "Unable to connect to the model", hint="The setting upstream_url names no API."
        )
    if body.provider and body.provider != settings.upstream_provider:
        raise _not_found("Provider", body.provider)
    model = body.model or settings.upstream_model
    if not model:
        raise ApiError(404, "not_found", "Model not found", hint="No Model is configured")
    return Target(settings.upstream_url, settings.upstream_api_key, settings.upstream_provider, model)


def _platform(context: Context, principal: Principal) -> str:
    return principal.project or context.settings.platform


async def _own_turns(
    context: Context, principal: Principal, user: User, conversation_id: str, *, action: str
) -> list[Interaction]:
    """A person's turns of a conversation, in their order. Raises ApiError: 404 where there are none, 403 where there are
    only others'.
    """
    turns = await context.run(_turns, context.workspace.store, principal.project, conversation_id)
    if not turns:
        raise _not_found("Conversation", conversation_id)
    own = [turn for turn in turns if turn.user is not None and turn.user.pseudonym == user.pseudonym]
    if not own:
        raise ApiError(
            403,
            "not_your_conversation",
            "User does not have permission to perform this action",
            hint=f"The user does not have permission to {action} conversation with ID {conversation_id}",
        )
    return own


def _turns(store: HotStore, project: str | None, conversation_id: str) -> list[Interaction]:
    platforms = () if project is None else (project,)
    where = Filter(types=("interaction",), platforms=platforms, conversation_id=conversation_id)
    found = [record for _, record in store.page(where, _MOST_TURNS)]
    turns = [record for record in found if isinstance(record, Interaction) and record.kind == "query"]
    return sorted(turns, key=lambda turn: (turn.time, turn.id))


def _status(answer: Answer, error: ModelError | None) -> tuple[CompletionStatus, Failure | None]:
    if error is None:
        return "successful", None
    return ("partial" if answer.parts else "failed"), error.failure


def _ended(turn: Turn, answer: Answer, status: CompletionStatus, failure: Failure | None, began: float) -> Interaction:
    duration = (monotonic() - began) * 1000
    return interaction_of(turn, answer, status=status, failure=failure, duration_ms=duration)


async def _record(context: Context, principal: Principal, record: Interaction) -> None:
    """Store a turn, and write its transcript where that is asked for. Raises StoreError, ApiError.

    A person who does not allow that it is stored has their answer all the same, and nothing of it is kept.
    """
    stored = await _store(context, principal, record)
    collection = context.settings.user_data_collection
    if stored and collection.transcripts_enabled and collection.transcripts_storage:
        await _write(context, write_transcript, Path(collection.transcripts_storage), record)


async def _store(context: Context, principal: Principal, record: AnyRecord) -> bool:
    """Whether it was stored: not where the person does not allow it. Raises ApiError where it is refused otherwise."""
    result = await context.take([record], principal, source=SOURCE)
    for refusal in result.refused:
        if refusal.reason == NO_CONSENT:
            return False
        raise ApiError(422, refusal.reason, "the turn could not be stored", hint=refusal.message)
    return True


async def _write(context: Context, write: Callable[[Path, Any], Path], root: Path, record: AnyRecord) -> None:
    """Write a record's file. Where that fails, the record is stored all the same, and the log and a metric say so."""
    try:
        await context.run(lambda: write(root, context.workspace.redacting.record(record)))
    except (OSError, SettingError, RecordError) as error:
        context.metrics.capture_failures.labels(SOURCE).inc()
        fields = {"kind": type(error).__name__, "record": record.id}
        logger.error("lightspeed_file_not_written", extra={"fields": fields})


def _streams(request: Request) -> dict[str, StreamedTurn]:
    """The streams of this process that are under way, by their ids."""
    state = request.app.state
    if not hasattr(state, "lightspeed_streams"):
        state.lightspeed_streams = {}
    return cast("dict[str, StreamedTurn]", state.lightspeed_streams)


def _api_error(error: ModelError) -> ApiError:
    headers = {} if error.retry_after is None else {"Retry-After": error.retry_after}
    return ApiError(error.status, "model_error", error.message, hint=error.hint, headers=headers)


def _not_found(what: str, identity: str) -> ApiError:
    return ApiError(404, "not_found", f"{what} not found", hint=f"{what} with ID {identity} does not exist")


def _json(value: Any, *, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), headers=headers, media_type="application/json")
