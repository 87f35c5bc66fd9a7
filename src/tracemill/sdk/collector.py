"""The collector: the calls an application makes to have its interactions kept.

One class unites two older collectors: ``collect_interaction_data`` takes a chat context and a prediction, the ``log_…``
methods take conversations, validations, feedback and decisions. Whatever is passed that no field names is kept under
``extra``. No method raises into the application (see :class:`tracemill.sdk.client.Client`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from tracemill.core.difference import structural_difference
from tracemill.core.ids import new_id
from tracemill.core.pseudonym import Pseudonymizer, load_pseudonymizer
from tracemill.core.records import (
    AnyRecord,
    Channel,
    Consent,
    Decision,
    Failure,
    Feedback,
    Interaction,
    Model,
    Option,
    Outcome,
    SessionEnd,
    Step,
    User,
    Validation,
)
from tracemill.sdk.amounts import dollars, milliseconds
from tracemill.sdk.client import Client
from tracemill.sdk.events import to_messages
from tracemill.sdk.fit import fit
from tracemill.sdk.ledger import Counts
from tracemill.sdk.react import prediction_fields, read_react
from tracemill.sdk.wrap import Call, Traced

_CHANNEL = {
    "chat_id": "id",
    "chat_name": "name",
    "chat_type": "type",
    "user_count": "user_count",
    "message_count": "message_count",
    "contains_images": "contains_images",
}
_FEEDBACK_KINDS = {"thumbs_up", "thumbs_down", "rating", "edit", "report", "comment", "score"}


class Collector:
    """Builds records of what an application hands over and captures them through a client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._pseudonymizer: Pseudonymizer | None = None

    # -- interactions

    def collect_interaction_data(
        self,
        *,
        chat_context_data: Mapping[str, Any] | None = None,
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

        ``chat_context_data`` may hold ``events``, ``chat_id``, ``chat_name``, ``chat_type``, ``user_count``, ``message_count``,
        ``contains_images``, ``session_id``, ``user_id``, ``model_name``, ``model_config``. ``prediction_result`` may be a DSPy
        ReAct prediction (its trajectory becomes Steps), a mapping, or text.
        """
        return self._guarded(
            lambda: self._collect(
                dict(chat_context_data or {}),
                prediction_result,
                {
                    "duration_ms": execution_time_ms,
                    "success": success,
                    "session_id": session_id,
                    "error": _failure(error),
                    **fields,
                },
                model_name,
                model_config,
            )
        )

    def _collect(
        self,
        context: dict[str, Any],
        result: Any,
        fields: dict[str, Any],
        model_name: str | None,
        model_config: Mapping[str, Any] | None,
    ) -> str:
        events = context.pop("events", None)
        messages = to_messages(events if events is not None else context.pop("messages", None))
        channel = Channel(
            **fit_part(Channel, {_CHANNEL[key]: context.pop(key) for key in list(context) if key in _CHANNEL})
        )
        model = _model(model_name or context.pop("model_name", None), model_config or context.pop("model_config", None))
        if fields.get("session_id") is None:
            fields["session_id"] = context.pop("session_id", None)
        if (user_id := context.pop("user_id", None)) is not None:
            fields["user"] = self.user(user_id)
        react = read_react(result)
        given = {"messages": messages, "model": model, "channel": channel, **_prediction(result, react), **fields}
        given["extra"] = {**context, **_mapping(given.get("extra"))}
        interaction_id = self.log_interaction(**given)
        for step in react.steps if react is not None else ():
            self.log_step(interaction_id=interaction_id, platform=given.get("platform"), **step)
        return interaction_id

    def log_interaction(self, **fields: Any) -> str:
        """Keep an interaction given by the fields of :class:`~tracemill.core.records.Interaction`; returns its id.

        ``user_id`` is made a pseudonym; ``error`` may be an exception.
        """
        return self._log(Interaction, {"platform": self.client.settings.platform, **fields})

    def log_conversation(
        self,
        user_message: str | None = None,
        ai_response: Any = None,
        *,
        intent: str | None = None,
        workflow_json: Any = None,
        platform: str | None = None,
        success: bool | None = None,
        processing_time_ms: float | None = None,
        model_name: str | None = None,
        model_version: str | None = None,
        messages: Any = None,
        error: object = None,
        **fields: Any,
    ) -> str:
        """Keep one exchange of a user and an assistant, with the workflow it made if any; returns the interaction's id."""

        def log() -> str:
            history = to_messages(messages)
            if user_message is not None:
                history.append({"role": "user", "content": user_message})
            response = ai_response if isinstance(ai_response, Mapping) else _answer(ai_response)
            return self.log_interaction(
                **{
                    "kind": "workflow" if workflow_json is not None else "chat",
                    "platform": platform or self.client.settings.platform,
                    "messages": history,
                    "response": response,
                    "intent": intent,
                    "artifact": workflow_json,
                    "success": success,
                    "duration_ms": processing_time_ms,
                    "model": _model(model_name, None, model_version),
                    "error": error,
                    **fields,
                }
            )

        return self._guarded(log)

    def log_step(self, **fields: Any) -> str:
        """Keep a step given by the fields of :class:`~tracemill.core.records.Step`; returns its id."""
        return self._log(Step, fields)

    # -- what was said and decided about them

    def log_workflow_validation(
        self,
        interaction_id: str | None = None,
        *,
        passed: bool | None = None,
        score: float | None = None,
        errors: Any = None,
        warnings: Any = None,
        user_edited: bool | None = None,
        original_workflow: Any = None,
        edited_workflow: Any = None,
        validation_time_ms: float | None = None,
        **fields: Any,
    ) -> str:
        """Keep the result of a check, and what the user changed; the structural difference is worked out here."""

        def log() -> str:
            both = original_workflow is not None and edited_workflow is not None
            difference = structural_difference(original_workflow, edited_workflow) if both else None
            return self._log(
                Validation,
                {
                    "interaction_id": interaction_id,
                    "passed": passed,
                    "score": score,
                    "errors": _listed(errors),
                    "warnings": _listed(warnings),
                    "user_edited": original_workflow != edited_workflow
                    if both and user_edited is None
                    else user_edited,
                    "original": original_workflow,
                    "edited": edited_workflow,
                    "difference": difference,
                    "duration_ms": validation_time_ms,
                    **fields,
                },
            )

        return self._guarded(log)

    def log_user_feedback(
        self,
        feedback_type: str,
        interaction_id: str | None = None,
        *,
        rating: int | None = None,
        comment: str | None = None,
        corrected_workflow: Any = None,
        categories: Any = None,
        **fields: Any,
    ) -> str:
        """Keep what a person said of an interaction: thumbs_up, thumbs_down, rating, edit, report, comment or score.

        Linked by ``interaction_id``, or by ``conversation_id`` with ``user_question`` and ``llm_response``. A type nobody knows
        is kept as a comment, with the word it came with in ``extra``.
        """
        known = feedback_type in _FEEDBACK_KINDS
        given = {
            "kind": feedback_type if known else "comment",
            "interaction_id": interaction_id,
            "rating": rating,
            "comment": comment,
            "correction": corrected_workflow,
            "categories": categories,
            **fields,
        }
        return self._log(Feedback, given if known else {"feedback_type": feedback_type, **given})

    def log_decision(
        self,
        *,
        context: Any = None,
        options: Any = None,
        decision: str | None = None,
        reasoning: str | None = None,
        confidence: float | None = None,
        outcome: Mapping[str, Any] | None = None,
        interaction_id: str | None = None,
        **fields: Any,
    ) -> str:
        """Keep a decision. Costs and times may be numbers or text such as ``$0.15`` and ``45s``; the text is kept too."""

        def log() -> str:
            return self._log(
                Decision,
                {
                    "interaction_id": interaction_id,
                    "context": context,
                    "options": [_option(option) for option in options or ()],
                    "choice": decision,
                    "reasoning": reasoning,
                    "confidence": confidence,
                    "outcome": _outcome(outcome) if outcome is not None else None,
                    **fields,
                },
            )

        return self._guarded(log)

    def log_session_end(self, session_id: str, **fields: Any) -> str:
        """Keep that a session is over, by the fields of :class:`~tracemill.core.records.SessionEnd`."""
        return self._log(SessionEnd, {"session_id": session_id, **fields})

    def log_consent(self, user_id: str | int, purpose: str, granted: bool, **fields: Any) -> str:
        """Keep that a person allows or withdraws a purpose: store, evaluate, train or share."""
        return self._log(Consent, {"user_id": user_id, "purpose": purpose, "granted": granted, **fields})

    # -- around the application's own calls

    def interaction(self, **fields: Any) -> Call:
        """A context manager (``with`` or ``async with``) around one call: times it, keeps its error, collects its steps."""
        return Call(self, fields)

    def trace(self, function: Callable[..., Any] | None = None, /, **fields: Any) -> Any:
        """A decorator that does the same for every call of a function, async function or generator."""
        traced = Traced(self, fields)
        return traced if function is None else traced(function)

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

    def user(self, raw_id: str | int) -> User:
        """The pseudonymous user of a raw id, under the workspace's key."""
        if self._pseudonymizer is None:
            keep_raw = self.client.settings.keep_raw_user_ids
            self._pseudonymizer = load_pseudonymizer(self.client.path, keep_raw=keep_raw)
        return self._pseudonymizer.user(raw_id)

    def _log(self, record_type: type[AnyRecord], given: dict[str, Any]) -> str:
        def log() -> str:
            user_id = given.pop("user_id", None)
            if user_id is not None and given.get("user") is None:
                given["user"] = self.user(user_id)
            if isinstance(given.get("error"), BaseException):
                given["error"] = _failure(given["error"])
            return self.client.capture(record_type, fit(record_type, given))

        return self._guarded(log)

    def _guarded(self, log: Callable[[], str]) -> str:
        if not self.client.settings.enabled:
            return ""
        try:
            return log()
        except Exception as error:  # the host must never fail because of what it handed us
            self.client.note_failure(error)
            if self.client.raises:
                raise
            return new_id()


def fit_part(part: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given fields that a part of a record has and that are not None."""
    return {name: given[name] for name in part.__struct_fields__ if given.get(name) is not None}


def _listed(value: Any) -> Any:
    """One error alone is a list of one."""
    return value if value is None or isinstance(value, (list, tuple)) else [value]


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _failure(error: object) -> Failure | None:
    if error is None or isinstance(error, Failure):
        return error
    if isinstance(error, BaseException):
        return Failure(type=type(error).__name__, message=str(error)[:2000])
    if isinstance(error, Mapping):
        known = {key: str(error[key]) for key in ("type", "message") if error.get(key) is not None}
        rest = {key: value for key, value in error.items() if key not in known}
        return Failure(**known, detail=rest or None)
    return Failure(message=str(error)[:2000])


def _model(name: Any, configuration: Any, version: str | None = None) -> Model | None:
    if isinstance(name, Model):
        return name
    if name is None and configuration is None and version is None:
        return None
    settings = {str(key): value for key, value in configuration.items()} if isinstance(configuration, Mapping) else {}
    return Model(name=None if name is None else str(name), version=version, configuration=settings)


def _answer(value: Any) -> dict[str, Any] | None:
    return (
        None
        if value is None
        else {"role": "assistant", "content": value if isinstance(value, (str, list)) else str(value)}
    )


def _prediction(result: Any, react: Any) -> dict[str, Any]:
    """The fields of an interaction that its prediction gives."""
    if react is not None:
        texts = [value for value in react.outputs.values() if isinstance(value, str)]
        return {
            "kind": "agent",
            "response": _answer(texts[0]) if texts else None,
            "reasoning": react.reasoning,
            "tools_used": react.tools_used,
            "tool_call_count": react.tool_call_count,
            "extra": {"prediction": react.outputs} if react.outputs else None,
        }
    if isinstance(result, str):
        return {"response": _answer(result)}
    fields = prediction_fields(result)
    if not fields:
        return {"extra": {"prediction": result}} if result is not None else {}
    known: dict[str, Any] = {}
    for name in ("reasoning", "tools_used", "tool_call_count", "response"):
        if name in fields:
            known[name] = fields.pop(name)
    if isinstance(known.get("response"), str):
        known["response"] = _answer(known["response"])
    return {**known, "extra": {"prediction": fields} if fields else None}


def _option(given: Any) -> Option:
    if isinstance(given, Option):
        return given
    if not isinstance(given, Mapping):
        return Option(name=str(given))
    left = dict(given)
    name = left.pop("option", None) or left.pop("name", None) or ""
    pros, cons = left.pop("pros", None) or [], left.pop("cons", None) or []
    cost, time = left.get("estimated_cost_usd", left.get("estimated_cost")), left.get("estimated_time_ms")
    return Option(
        name=str(name),
        pros=[str(pro) for pro in pros],
        cons=[str(con) for con in cons],
        estimated_cost_usd=dollars(cost),
        estimated_time_ms=milliseconds(left.get("estimated_time")) if time is None else float(time),
        extra={key: value for key, value in left.items() if key not in ("estimated_cost_usd", "estimated_time_ms")},
    )


def _outcome(given: Mapping[str, Any]) -> Outcome:
    left = dict(given)
    cost, time = left.get("actual_cost_usd", left.get("actual_cost")), left.get("actual_time_ms")
    success, quality = left.pop("success", None), left.pop("quality", None)
    return Outcome(
        actual_cost_usd=dollars(cost),
        actual_time_ms=milliseconds(left.get("actual_time")) if time is None else float(time),
        success=success if isinstance(success, bool) else None,
        quality=float(quality) if isinstance(quality, (int, float)) else None,
        extra={key: value for key, value in left.items() if key not in ("actual_cost_usd", "actual_time_ms")},
    )
