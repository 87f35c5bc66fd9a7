"""The collector: the calls an application makes to have its interactions kept.

One class unites the older collectors: ``collect_interaction_data`` takes a chat context and a prediction, ``log_conversation``
and the ``log_…`` methods beside it conversations, validations and feedback, ``log_execution_trace``, ``log_step`` and
``log_decision`` what agents trace. Whatever is passed that no field names is kept under ``extra``. No method raises into the
application or waits for anything (see :class:`tracemill.sdk.client.Client`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from tracemill.core.difference import structural_difference
from tracemill.core.ids import new_id
from tracemill.core.pseudonym import Pseudonymizer, load_pseudonymizer
from tracemill.core.records import (
    AnyRecord,
    Channel,
    Consent,
    Decision,
    Feedback,
    Interaction,
    Model,
    SessionEnd,
    Step,
    User,
    Validation,
)
from tracemill.sdk.client import Client
from tracemill.sdk.estimate import LARGE, estimate
from tracemill.sdk.events import fields_of, read_events
from tracemill.sdk.execution import decision_fields, failure_of, step_fields, trace_fields
from tracemill.sdk.fit import fit, fit_part
from tracemill.sdk.ledger import Counts
from tracemill.sdk.plain import Later
from tracemill.sdk.prediction import read_prediction
from tracemill.sdk.sessions import session_fields
from tracemill.sdk.trace import Traced
from tracemill.sdk.wrap import Call, current_call

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_CHANNEL = {
    "chat_id": "id",
    "chat_name": "name",
    "chat_type": "type",
    "user_count": "user_count",
    "message_count": "message_count",
    "contains_images": "contains_images",
}
_PERSONAL = frozenset({"user_name", "username", "user_email", "email"})
"""Names of a person that, without ``keep_raw_user_ids``, are kept as pseudonyms like ids."""
_MODEL = frozenset({"model", "model_name", "model_version", "model_provider", "model_config"})
_FEEDBACK_KINDS = {"thumbs_up", "thumbs_down", "rating", "edit", "report", "comment", "score"}
_THUMBS = {1: "thumbs_up", -1: "thumbs_down"}


class Collector:
    """Builds records of what an application hands over and captures them through a client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._pseudonymizer: Pseudonymizer | None = None

    # -- interactions

    def collect_interaction_data(
        self,
        *,
        chat_context_data: Any = None,
        prediction_result: Any = None,
        execution_time_ms: float | None = None,
        success: bool | None = None,
        model_name: str | None = None,
        model_config: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        error: object = None,
        **fields: Any,
    ) -> str:
        """Keep one interaction from its chat context and the model's result; returns its id.

        ``chat_context_data`` (a mapping or an object) may hold ``events``, ``chat_id``, ``chat_name``, ``chat_type``,
        ``user_count``, ``message_count``, ``contains_images``, ``session_id``, ``user_id``, ``model_name``, ``model_config``
        and any field of an Interaction. ``prediction_result`` may be a DSPy ReAct prediction (its trajectory becomes Steps),
        a chat completion, a mapping, an object, or text. An argument of this call goes before what these two say.
        """

        def log() -> str:
            context = fields_of(chat_context_data)
            read = read_prediction(prediction_result)
            given: dict[str, Any] = {
                "duration_ms": execution_time_ms,
                "success": success,
                "session_id": session_id,
                "error": failure_of(error if error is not None else fields.pop("error_message", None)),
                "model_name": model_name,
                "model_config": model_config,
                "channel": _channel(context),
                **fields,
            }
            if given.get("tokens_used") is not None:
                given["usage"] = {"total_tokens": given.pop("tokens_used")}
            if given.get("cost_usd") is None:
                given["cost_usd"] = given.pop("cost_estimate", None)
            if given["success"] is None and given["error"] is not None:
                given["success"] = False
            extra = {**_mapping(read.fields.pop("extra", None)), **_mapping(context.pop("extra", None))}
            merged = {**context, **read.fields, **{key: value for key, value in given.items() if value is not None}}
            merged["extra"] = {**extra, **_mapping(fields.get("extra"))}
            interaction_id = self._interaction(merged)
            for step in read.steps:
                self.log_step(
                    interaction_id=interaction_id,
                    **{"platform": merged.get("platform"), "time": merged.get("time"), **step},
                )
            return interaction_id

        return self._kept(log)

    def log_interaction(self, **fields: Any) -> str:
        """Keep an interaction given by the fields of :class:`~tracemill.core.records.Interaction`; returns its id.

        ``messages`` (or ``events``) may be of any shape, ``response`` text or a message, ``error`` an exception. ``user_id``
        is made a pseudonym. ``model_name``, ``model_version``, ``model_provider`` and ``model_config`` make the model.
        """
        return self._kept(self._interaction, fields)

    def _interaction(self, given: dict[str, Any]) -> str:
        extra = _mapping(given.pop("extra")) if "extra" in given else {}
        messages, events = given.pop("messages", None), given.pop("events", None)
        if messages is None:
            messages = events
        elif events is not None:
            extra.setdefault("events", events)
        if messages is not None:
            read = read_events(messages, self.identify)
            given["messages"] = read.messages
            if read.about:
                extra["events"] = [*_list(extra.get("events")), *read.about]
        response = given.get("response")
        if type(response) is str:
            given["response"] = {"role": "assistant", "content": response}
        elif response is not None and not (type(response) is dict and response.get("role") == "assistant"):
            answered = read_prediction(given.pop("response")).fields
            extra = {**_mapping(answered.pop("extra", None)), **extra}
            given = {**answered, **{name: value for name, value in given.items() if value is not None}}
        if not _MODEL.isdisjoint(given):
            given["model"] = _model(given, extra)
        if given.get("error") is not None:
            given["error"] = failure_of(given["error"])
        if given.get("platform") is None:
            given["platform"] = self.client.settings.platform
        if extra:
            given["extra"] = extra
        return self._log(Interaction, given)

    def log_conversation(
        self,
        user_message: str | None = None,
        ai_response: Any = None,
        intent: str | None = None,
        workflow_json: Any = None,
        platform: str | None = None,
        success: bool | None = None,
        processing_time_ms: float | None = None,
        *,
        messages: Any = None,
        **fields: Any,
    ) -> str:
        """Keep one exchange of a user and an assistant, with the workflow it made if any; returns the interaction's id.

        ``messages`` is the history before ``user_message``. ``processing_time`` (in milliseconds too), ``model_name``,
        ``model_version``, ``user_id``, ``session_id``, ``error`` and any field of an Interaction may be given besides.
        """

        def log() -> str:
            written = fields.pop("processing_time", None)
            asked = [] if user_message is None else [{"role": "user", "content": user_message}]
            return self._interaction(
                {
                    "kind": "workflow" if workflow_json is not None else "chat",
                    "platform": platform,
                    "messages": [*_list(messages), *asked],
                    "response": ai_response,
                    "intent": intent,
                    "artifact": workflow_json,
                    "success": success,
                    "duration_ms": processing_time_ms if processing_time_ms is not None else written,
                    **fields,
                }
            )

        return self._kept(log)

    def log_execution_trace(self, execution_trace: Mapping[str, Any], **fields: Any) -> str:
        """Keep a whole run of an agent (``scenario``, ``execution_mode``, ``steps`` with their actions); returns its id."""

        def log() -> str:
            given, steps = trace_fields(execution_trace)
            interaction_id = self._interaction({**given, **fields})
            for step in steps:
                self.log_step(
                    interaction_id=interaction_id,
                    **{"platform": fields.get("platform"), "trace_id": given.get("trace_id"), **step},
                )
            return interaction_id

        return self._kept(log)

    def log_step(self, **fields: Any) -> str:
        """Keep a step given by the fields of :class:`~tracemill.core.records.Step`, or as an agent logs it; returns its id.

        ``step_name``, ``start_time`` and ``duration`` (``"45s"``, ``"00:00:30"``) are understood, and so are actions with
        ``action_type`` and ``claude_code_mapping``.
        """
        return self._kept(lambda: self._log(Step, step_fields(fields)))

    # -- what was said and decided about them

    def log_workflow_validation(
        self,
        interaction_id: str | None = None,
        passed: bool | None = None,
        errors: Any = None,
        warnings: Any = None,
        user_edited: bool | None = None,
        original_workflow: Any = None,
        edited_workflow: Any = None,
        score: float | None = None,
        duration_ms: float | None = None,
        **fields: Any,
    ) -> str:
        """Keep the result of a check, and what the user changed; returns the validation's id.

        The structural difference is worked out here, off the caller's thread when the workflows are large. ``duration``,
        ``validation_time`` and ``validation_time_ms`` are other names of ``duration_ms``.
        """

        def log() -> str:
            given = dict(fields)
            timed = [given.pop(name, None) for name in ("duration", "validation_time", "validation_time_ms")]
            both = original_workflow is not None and edited_workflow is not None
            edited = user_edited
            if edited is None and both:
                edited = original_workflow != edited_workflow
            return self._log(
                Validation,
                {
                    "interaction_id": interaction_id,
                    "passed": passed,
                    "score": score,
                    "errors": [errors] if isinstance(errors, (str, Mapping)) else errors,
                    "warnings": [warnings] if isinstance(warnings, (str, Mapping)) else warnings,
                    "user_edited": edited,
                    "original": original_workflow,
                    "edited": edited_workflow,
                    "difference": _difference(original_workflow, edited_workflow) if both else None,
                    "duration_ms": next((time for time in (duration_ms, *timed) if time is not None), None),
                    **given,
                },
            )

        return self._kept(log)

    def log_user_feedback(
        self,
        feedback_type: str | None = None,
        interaction_id: str | None = None,
        *,
        rating: int | None = None,
        sentiment: int | None = None,
        comment: str | None = None,
        corrected_workflow: Any = None,
        categories: Any = None,
        **fields: Any,
    ) -> str:
        """Keep what a person said of an interaction; returns the feedback's id.

        ``feedback_type`` is thumbs_up, thumbs_down, rating, edit, report, comment or score. Without one it is taken from
        what is there: ``sentiment`` (1 or -1), ``rating`` (1 to 5), a correction, a ``score``, or a comment. Linked by
        ``interaction_id``, or by ``conversation_id`` with ``user_question`` and ``llm_response``. A type nobody knows is kept
        as a comment, with the word it came with in ``extra``.
        """

        def log() -> str:
            given = dict(fields)
            correction = corrected_workflow if corrected_workflow is not None else given.pop("correction", None)
            said = comment if comment is not None else given.pop("user_feedback", None)
            stars = rating if rating is not None else given.pop("sentiment_score", None)
            kind = feedback_type
            if kind is None:
                thumb = _THUMBS.get(sentiment) if isinstance(sentiment, int) else None
                kinds = (("rating", stars), ("edit", correction), ("score", given.get("score")))
                kind = thumb or next((kind for kind, value in kinds if value is not None), "comment")
            known = kind in _FEEDBACK_KINDS
            return self._log(
                Feedback,
                {
                    "kind": kind if known else "comment",
                    "interaction_id": interaction_id,
                    "rating": stars,
                    "comment": said,
                    "correction": correction,
                    "categories": categories,
                    "sentiment": sentiment,
                    "feedback_type": None if known else kind,
                    **given,
                },
            )

        return self._kept(log)

    def log_decision(self, **fields: Any) -> str:
        """Keep a decision: ``context``, ``options`` (or ``available_options``), ``decision`` (or ``choice``), ``reasoning``,
        ``confidence``, ``outcome``, or all of them as ``decision_trace``; returns its id.

        Costs and times may be numbers or text such as ``$0.15`` and ``45s``; the text is kept too.
        """
        return self._kept(lambda: self._log(Decision, decision_fields(fields)))

    def log_session_end(self, session_id: str | None = None, **fields: Any) -> str:
        """Keep that a session is over, by the fields of :class:`~tracemill.core.records.SessionEnd`; returns the id.

        ``conversation_data`` (``messages`` and ``metadata``) is for sessions that are handed over whole, alone or with the rest
        under ``session_data``: the conversation becomes an interaction. Leave it out where the calls were captured already.
        """

        def log() -> str:
            stated = {} if session_id is None else {"session_id": session_id}
            session = session_fields({**fields, **stated})
            if session.interaction is not None:
                self._interaction(session.interaction)
            return self._log(SessionEnd, session.end)

        return self._kept(log)

    def log_consent(self, user_id: str | int, purpose: str, granted: bool, **fields: Any) -> str:
        """Keep that a person allows or withdraws a purpose: store, evaluate, train or share; returns the record's id."""
        given = {"user_id": user_id, "purpose": purpose, "granted": granted, **fields}
        return self._kept(lambda: self._log(Consent, given))

    # -- around the application's own calls

    def interaction(self, **fields: Any) -> Call:
        """A context manager (``with`` or ``async with``) around one call: times it, keeps its error, collects its steps."""
        return Call(self, fields)

    @overload
    def trace(self, function: F, /) -> F: ...

    @overload
    def trace(
        self, function: None = None, /, *, capture_arguments: bool = False, **fields: Any
    ) -> Callable[[F], F]: ...

    def trace(
        self, function: Callable[..., Any] | None = None, /, *, capture_arguments: bool = False, **fields: Any
    ) -> Any:
        """A decorator that does the same for every call of a function, async function, generator or async generator.

        An argument named ``messages`` (or ``history``…) or ``question`` (``query``, ``prompt``…) becomes the messages, what is
        returned or yielded the response. ``capture_arguments`` keeps all arguments under ``extra``.
        """
        traced = Traced(self, fields, capture_arguments=capture_arguments)
        return traced if function is None else traced(function)

    def current_call(self) -> Call | None:
        """The innermost :meth:`interaction` or traced call under way in this thread or task."""
        return current_call()

    # -- the client's own

    def flush(self, timeout: float | None = None) -> bool:
        """See :meth:`tracemill.sdk.client.Client.flush`."""
        return self.client.flush(timeout)

    def deliver(self, timeout: float | None = None) -> bool:
        """See :meth:`tracemill.sdk.client.Client.deliver`."""
        return self.client.deliver(timeout)

    def counts(self) -> Counts:
        """See :meth:`tracemill.sdk.client.Client.counts`."""
        return self.client.counts()

    def close(self, timeout: float | None = None) -> None:
        """See :meth:`tracemill.sdk.client.Client.close`."""
        self.client.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what the parts of the collector share

    def user(self, raw_id: str | int) -> User:
        """The pseudonymous user of a raw id, under the workspace's key. Raises SettingError when that cannot be read."""
        if self._pseudonymizer is None:
            keep_raw = self.client.settings.keep_raw_user_ids
            self._pseudonymizer = load_pseudonymizer(self.client.path, keep_raw=keep_raw)
        return self._pseudonymizer.user(raw_id)

    def identify(self, raw_id: str | int) -> str:
        """What is written in place of a person's id: its pseudonym, or the id where the settings keep those."""
        user = self.user(raw_id)
        return user.pseudonym if user.raw_id is None else user.raw_id

    def attempt(self, action: Callable[[], T], otherwise: T) -> T:
        """Do something of ours. What it raises is counted and logged, and reaches the application under pytest only."""
        if not self.client.settings.enabled:
            return otherwise
        try:
            return action()
        except Exception as error:  # the host must never fail because of what it handed us
            self.client.note_failure(error)
            if self.client.raises:
                raise
            return otherwise

    def _kept(self, log: Callable[..., str], *given: dict[str, Any]) -> str:
        """The id of a record; also of one that could not be kept, so that what refers to it may go on doing so."""
        client = self.client
        if not client.settings.enabled:
            return ""
        try:
            return log(*given) or new_id()
        except Exception as error:  # the host must never fail because of what it handed us
            client.note_failure(error)
            if client.raises:
                raise
            return new_id()

    def _log(self, record_type: type[AnyRecord], fields: dict[str, Any]) -> str:
        if fields.get("user") is not None or fields.get("user_id") is not None:
            self._take_user(fields, "user" in record_type.__struct_fields__)
        if not _PERSONAL.isdisjoint(fields):
            for name in _PERSONAL.intersection(fields):
                if isinstance(fields[name], (str, int)):
                    fields[name] = self.identify(fields[name])
        return self.client.capture(record_type, fit(record_type, fields))

    def _take_user(self, fields: dict[str, Any], has_user: bool) -> None:
        """Make a pseudonym of ``user_id``, or of the id that ``user`` is or holds; what else it holds stays."""
        user, user_id = fields.pop("user", None), fields.pop("user_id", None)
        if isinstance(user, User):
            fields["user"] = user
        elif user is not None and not isinstance(user, (str, int)):
            about = fields_of(user) or {"value": user}
            user_id = next((value for value in (user_id, about.pop("id", None)) if value is not None), None)
            for name in (*_PERSONAL, "name"):
                if isinstance(about.get(name), (str, int)):
                    about[name] = self.identify(about[name])
            if about:
                fields["user_details"] = about
        elif user_id is None:
            user_id = user
        if user_id is None:
            return
        raw = user_id if isinstance(user_id, int) else str(user_id)
        if has_user and "user" not in fields:
            fields["user"] = self.user(raw)
        else:
            fields["user_id"] = self.identify(raw)


def _mapping(value: Any) -> dict[str, Any]:
    return {str(key): child for key, child in value.items()} if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _channel(context: dict[str, Any]) -> Channel | None:
    """The channel that a chat context describes, taken out of it; what fits no field stays."""
    given = {_CHANNEL[name]: context.pop(name) for name in _CHANNEL if context.get(name) is not None}
    known, rest = fit_part(Channel, given)
    context.update({name: rest[ours] for name, ours in _CHANNEL.items() if ours in rest})
    return Channel(**known) if known else None


def _model(given: dict[str, Any], extra: dict[str, Any]) -> Model | None:
    """The model that the fields of an interaction name in whatever way, taken out of them."""
    names = ("model_name", "model_version", "model_provider", "model_config")
    name, version, provider, configuration = (given.pop(each, None) for each in names)
    model = given.pop("model", None)
    if isinstance(model, Model):
        if name is None and version is None and provider is None and configuration is None:
            return model
        name, version, provider = name or model.name, version or model.version, provider or model.provider
        configuration = configuration if configuration is not None else model.configuration
    elif isinstance(model, Mapping):
        name, version, provider = (
            name or model.get("name"),
            version or model.get("version"),
            provider or model.get("provider"),
        )
        configuration = configuration if configuration is not None else model.get("configuration")
    elif isinstance(model, str):
        name = name or model
    settings = fields_of(configuration)
    if configuration is not None and not settings and configuration != {}:
        extra["model_config"] = configuration
    if name is None and version is None and provider is None and not settings:
        return None
    texts = [None if value is None else str(value) for value in (provider, name, version)]
    return Model(provider=texts[0], name=texts[1], version=texts[2], configuration=settings)


def _difference(original: Any, edited: Any) -> Any:
    """The difference of two workflows, or a promise of it where working it out would take the caller's time."""
    if estimate({"original": original, "edited": edited}) < LARGE:
        return structural_difference(original, edited)
    return Later(lambda: structural_difference(original, edited))
