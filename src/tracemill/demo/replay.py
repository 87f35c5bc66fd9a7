"""The sample through the collector, as three applications would call it.

The chat hands over a chat context and a prediction, the workflow builder logs conversations and validations, the agent
logs interactions with steps and decisions (and some of its runs as a ReAct result). Only the times are the sample's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tracemill.core.ids import new_id
from tracemill.core.records import Action, Experiment, Failure, Model
from tracemill.demo.sample import Attempt, Ending, read_sample
from tracemill.sdk.collector import Collector


@dataclass(slots=True)
class Replayed:
    """What was handed over: interactions, and calls of the collector in all."""

    interactions: int = 0
    calls: int = 0
    platforms: set[str] = field(default_factory=set)


def replay(collector: Collector) -> Replayed:
    """Hand the whole sample over to a collector. What the collector does with it is the collector's business."""
    done = Replayed()
    for event in read_sample():
        done.platforms.add(event.platform)
        if isinstance(event, Ending):
            collector.log_session_end(
                event.conversation["session"],
                conversation_id=event.conversation["id"],
                platform=event.platform,
                user_id=event.conversation["user"],
                time=event.time,
                end_time=event.time,
                start_time=datetime.fromisoformat(event.conversation["turns"][0]["at"]),
                message_count=2 * len(event.conversation["turns"]),
                reason=event.said["reason"],
                completion_status=event.said["completion_status"],
            )
            done.calls += 1
        else:
            done.interactions += 1
            done.calls += _Player(collector, event).play()
    return done


class _Player:
    """Hands one attempt over, with everything about it."""

    def __init__(self, collector: Collector, attempt: Attempt) -> None:
        self.collector, self.attempt, self.said = collector, attempt, attempt.said
        self.id = new_id()
        self.calls = 0

    def play(self) -> int:
        feedback = self.said.get("feedback", ())
        self._feedback([given for given in feedback if given.get("early")])
        self._interaction()
        if not self.attempt.conversation.get("react"):
            self._steps()
        self._decisions()
        self._validations()
        self._feedback([given for given in feedback if not given.get("early")])
        if "reward" in self.said:
            self._log_feedback(
                "score", 60, name="reward", score=self.said["reward"], annotator_kind="CODE", identifier="task check"
            )
        return self.calls

    # -- the interaction, by the call that suits the platform

    def _interaction(self) -> None:
        self.calls += 1
        attempt, said = self.attempt, self.said
        if attempt.kind == "workflow":
            self.collector.log_conversation(
                messages=attempt.messages,
                ai_response=attempt.response,
                workflow_json=said.get("artifact"),
                processing_time_ms=said["ms"],
                model_name=attempt.model,
                model_version=attempt.version,
                **self._fields(kind="workflow"),
            )
        elif attempt.conversation.get("react"):
            self.collector.collect_interaction_data(
                chat_context_data={"events": attempt.messages[:2], "user_id": attempt.conversation["user"]},
                prediction_result=self._react_result(),
                execution_time_ms=said["ms"],
                model_name=attempt.model,
                model_config={"temperature": 0.2},
                **self._fields(kind="agent", with_user=False),
            )
        elif attempt.kind == "chat" and "channel" in attempt.conversation:
            channel = attempt.conversation["channel"]
            self.collector.collect_interaction_data(
                chat_context_data={
                    "events": attempt.messages,
                    "chat_id": channel["id"],
                    "chat_name": channel["name"],
                    "chat_type": channel["type"],
                    "user_count": channel["user_count"],
                    "message_count": len(attempt.messages),
                    "contains_images": channel.get("contains_images", False),
                    "user_id": attempt.conversation["user"],
                },
                prediction_result={"response": attempt.response},
                execution_time_ms=said["ms"],
                model_name=attempt.model,
                model_config={"temperature": 0.3},
                **self._fields(kind="chat", with_user=False),
            )
        else:
            self.collector.log_interaction(
                messages=attempt.messages,
                response=attempt.response,
                duration_ms=said["ms"],
                model=Model(provider=attempt.provider, name=attempt.model, version=attempt.version),
                **self._fields(kind=attempt.kind),
            )

    def _fields(self, *, kind: str, with_user: bool = True) -> dict[str, Any]:
        attempt, said, conversation = self.attempt, self.said, self.attempt.conversation
        experiment = conversation.get("experiment")
        tokens = said.get("tokens", (None, None))
        success: bool | None = said.get("success")
        completion = None if success is None else "successful" if success else "failed"
        return {
            "id": self.id,
            "time": attempt.time,
            "platform": attempt.platform,
            "kind": kind,
            "user_id": conversation["user"] if with_user else None,
            "session_id": conversation.get("session"),
            "conversation_id": conversation["id"],
            "turn": attempt.turn,
            "tools": attempt.tools,
            "success": success,
            "completion_status": said.get("completion") or completion,
            "error": Failure(**said["error"]) if "error" in said else None,
            "intent": said.get("intent"),
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "cost_usd": attempt.cost_usd,
            "finish_reason": said.get("finish") or ("stop" if attempt.response is not None else None),
            "truncated": said.get("truncated"),
            "query_is_valid": said.get("valid"),
            "attachments": said.get("attachments"),
            "retrieved_chunks": said.get("retrieved_chunks"),
            "scenario": conversation.get("scenario"),
            "execution_mode": conversation.get("execution_mode"),
            "experiment": Experiment(name=experiment[0], arm=experiment[1], propensity=experiment[2])
            if experiment
            else None,
            "task_id": attempt.task,
            "trial": attempt.trial if attempt.task is not None else None,
            **self._tool_fields(),
        }

    def _tool_fields(self) -> dict[str, Any]:
        called = [work["call"] for work in self.said.get("work", ()) if "call" in work]
        return {"tools_used": list(dict.fromkeys(called)), "tool_call_count": len(called)} if called else {}

    def _react_result(self) -> dict[str, Any]:
        """The work as DSPy's ReAct returns it."""
        trajectory: dict[str, Any] = {}
        works = [work for work in self.said["work"] if "call" in work]
        for index, work in enumerate(works):
            failed = work.get("fails")
            trajectory[f"thought_{index}"] = work.get("think", "")
            trajectory[f"tool_name_{index}"] = work["call"]
            trajectory[f"tool_args_{index}"] = work["with"]
            trajectory[f"observation_{index}"] = (
                f"Execution error in {work['call']}: {failed['type']}: {failed['message']}" if failed else work["gives"]
            )
        end = len(works)
        trajectory |= {f"thought_{end}": "I can answer.", f"tool_name_{end}": "finish", f"tool_args_{end}": {}}
        trajectory[f"observation_{end}"] = "Completed."
        return {"trajectory": trajectory, "answer": self.said["answer"]}

    # -- what belongs to it

    def _steps(self) -> None:
        at = self.attempt.time
        for index, work in enumerate(self.said.get("work", ())):
            duration = work.get("ms")
            failure = Failure(**work["fails"]) if "fails" in work else None
            self.collector.log_step(
                interaction_id=self.id,
                platform=self.attempt.platform,
                time=at,
                index=index,
                agent=work.get("as") or self.attempt.conversation.get("agent"),
                name=work.get("call") or "plan",
                kind="tool" if "call" in work else "plan",
                reasoning=work.get("think"),
                actions=[self._action(work, failure)] if "call" in work else None,
                outputs=work.get("gives"),
                state_changes=work.get("state"),
                success=failure is None,
                error=failure,
                duration_ms=duration,
            )
            self.calls += 1
            at += timedelta(milliseconds=duration or 0)

    def _action(self, work: dict[str, Any], failure: Failure | None) -> Action:
        return Action(
            tool=work["call"],
            parameters=work["with"],
            result=work.get("gives"),
            success=failure is None,
            error=failure,
            duration_ms=work.get("ms"),
        )

    def _decisions(self) -> None:
        for work in self.said.get("work", ()):
            if "decision" in work:
                self.collector.log_decision(
                    interaction_id=self.id,
                    platform=self.attempt.platform,
                    time=self.attempt.time,
                    **work["decision"],
                )
                self.calls += 1

    def _validations(self) -> None:
        for check in self.said.get("validation", ()):
            about = {
                "platform": self.attempt.platform,
                "conversation_id": self.attempt.conversation["id"],
                "time": self.attempt.time + timedelta(seconds=check["after_s"]),
            }
            self.collector.log_workflow_validation(
                self.id,
                passed=check["passed"],
                score=check["score"],
                errors=check.get("errors"),
                warnings=check.get("warnings"),
                user_edited=False,
                validation_time_ms=check["ms"],
                validator="flowbench",
                **about,
            )
            self.calls += 1
            if "edit" in check:
                about["time"] = self.attempt.time + timedelta(seconds=check["edited_after_s"])
                self.collector.log_workflow_validation(
                    self.id,
                    passed=True,
                    score=100,
                    original_workflow=self.said["artifact"],
                    edited_workflow=check["edit"],
                    validation_time_ms=check["ms"],
                    validator="flowbench",
                    **about,
                )
                self.calls += 1

    def _feedback(self, given: Any) -> None:
        for feedback in given:
            left = {key: value for key, value in feedback.items() if key not in _FEEDBACK_WORDS}
            self._log_feedback(
                feedback["type"],
                feedback["after_s"],
                by_text=feedback.get("by_text", False),
                annotator_kind=feedback.get("annotator"),
                identifier=feedback.get("by"),
                **left,
            )

    def _log_feedback(self, kind: str, after_s: float, *, by_text: bool = False, **fields: Any) -> None:
        attempt = self.attempt
        link: dict[str, Any] = {"interaction_id": self.id}
        if by_text:
            answer = (attempt.response or {}).get("content")
            link = {"user_question": attempt.question, "llm_response": answer}
        by = fields.get("identifier")
        self.collector.log_user_feedback(
            kind,
            platform=attempt.platform,
            conversation_id=attempt.conversation["id"],
            user_id=by if by is not None and fields.get("annotator_kind") is None else attempt.conversation["user"],
            time=attempt.time + timedelta(milliseconds=self.said["ms"], seconds=after_s),
            **link,
            **fields,
        )
        self.calls += 1


_FEEDBACK_WORDS = {"type", "after_s", "early", "by_text", "annotator", "by"}
