"""Next actions: the state an agent was in, the tools it had, the action it took, and what came of it.

Of messages, every assistant message that calls tools is one, with the history before it as the state; calls that failed,
or that repeat the round before, are left out. Where the messages call no tools but steps were recorded, every step with an
action is one: its state (inputs, the outputs of the step before) is put as a message of JSON, the action as a tool call.

Executions that are not to be imitated (see :func:`tracemill.dataset.signals.supervised.objection`) give none; where
nobody knows whether one succeeded, confidence is lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracemill.core.examples import ActionExample
from tracemill.core.messages import trajectory
from tracemill.core.records import Action, Interaction, Message, Step
from tracemill.core.steps import Drop
from tracemill.dataset.identity import identified
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.carried import same
from tracemill.dataset.signals.confidence import SUCCESS_FLAG, UNKNOWN_OUTCOME, by_human, of_labels
from tracemill.dataset.signals.parts import Round, as_json, goal_of, parameters_of, reasoning_of, rounds, tool_names
from tracemill.dataset.signals.supervised import objection
from tracemill.feedback.attach import Attached


def actions(interaction: Interaction, attached: Attached, recipe: Recipe) -> list[ActionExample] | Drop:
    """One example for every action worth imitating, or why there is none.

    Reasons: those of ``supervised`` but ``success_unknown``; ``no_action``, ``no_good_action``.
    """
    labels = attached.labels(recipe.scales)
    reason = objection(interaction, attached, labels)
    if reason is not None and reason != "success_unknown":
        return Drop(reason)
    common: dict[str, Any] = {
        "id": "",
        "confidence": UNKNOWN_OUTCOME if reason else of_labels(labels, SUCCESS_FLAG),
        "human_validated": by_human(labels),
        "platform": interaction.platform,
        "task_id": interaction.task_id,
        "goal": goal_of(interaction),
        "available_tools": tool_names(interaction),
    }
    sources = [interaction.id, *(label.id for label in labels)]
    messages = trajectory(interaction)
    found = list(rounds(messages))
    if found:
        examples = [
            _of_round(messages, one, {**common, "sources": sorted(sources), "tools": interaction.tools})
            for number, one in enumerate(found)
            if one.at and not one.failed() and not (number and _repeats(found[number - 1], one))
        ]
        return examples or Drop("no_good_action")
    if common["goal"] is None and (stated := _stated_goal(attached.steps)) is not None:
        common["goal"] = stated.inputs["goal"]
        sources.append(stated.id)
    acted = [(number, step) for number, step in enumerate(attached.steps) if step.actions]
    examples = [
        _of_step(interaction, attached.steps[number - 1] if number else None, step, {**common, "sources": sources})
        for number, step in acted
        if _went_well(step)
    ]
    return examples or Drop("no_good_action" if acted else "no_action")


def _repeats(before: Round, one: Round) -> bool:
    if len(before.calls) != len(one.calls):
        return False
    pairs = zip(before.calls, one.calls, strict=True)
    return all(mine.name == theirs.name and same(parameters_of(mine), parameters_of(theirs)) for mine, theirs in pairs)


def _of_round(messages: list[Message], one: Round, common: dict[str, Any]) -> ActionExample:
    first = one.calls[0]
    outcome: dict[str, Any] = {"success": True, "results": list(one.results)} if one.results else {}
    example = ActionExample(
        **common,
        signal="next_action",
        prompt=messages[: one.at],
        completion=[messages[one.at]],
        action="tool_request",
        tool=first.name,
        parameters=parameters_of(first),
        reasoning=reasoning_of(messages[one.at]),
        outcome=outcome,
    )
    return identified(example)


def _stated_goal(steps: Sequence[Step]) -> Step | None:
    """The first step whose inputs state the ``goal`` in words: what was asked for, where no user's message says it."""
    stated = (step for step in steps if isinstance(step.inputs, dict) and isinstance(step.inputs.get("goal"), str))
    return next(stated, None)


def _went_well(step: Step) -> bool:
    failed = step.success is False or step.error is not None
    return not failed and all(action.success is not False and action.error is None for action in step.actions)


def _of_step(interaction: Interaction, before: Step | None, step: Step, common: dict[str, Any]) -> ActionExample:
    state: dict[str, Any] = {"step": step.name, "agent": step.agent, "inputs": step.inputs}
    if before is not None:
        state |= {"previous_step": before.name, "previous_outputs": before.outputs}
    state = {key: value for key, value in state.items() if value is not None}
    asked = {} if common["goal"] is None else {"goal": common["goal"]}
    first = step.actions[0]
    message: Message = {"role": "assistant", "content": step.reasoning}
    message["tool_calls"] = [_call(number, action) for number, action in enumerate(step.actions, 1)]
    outcome = {"success": step.success, "outputs": step.outputs, "state_changes": step.state_changes}
    names = sorted({action.tool for action in step.actions if action.tool})
    example = ActionExample(
        **{**common, "sources": sorted({*common["sources"], step.id, *([before.id] if before is not None else [])})},
        signal="step",
        prompt=[{"role": "user", "content": as_json(asked | state)}],
        completion=[message],
        action="tool_request",
        tool=first.tool,
        parameters=first.parameters,
        reasoning=step.reasoning,
        state=state,
        agent=step.agent,
        tools=interaction.tools or [{"type": "function", "function": {"name": name}} for name in names],
        outcome={key: value for key, value in outcome.items() if value is not None},
    )
    return identified(example)


def _call(number: int, action: Action) -> dict[str, Any]:
    arguments = action.parameters if isinstance(action.parameters, str) else as_json(action.parameters or {})
    function = {"name": action.tool or action.type, "arguments": arguments}
    return {"id": action.call_id or f"call_{number}", "type": "function", "function": function}
