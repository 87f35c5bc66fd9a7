"""What an agent did after a tool had failed, where that worked: the history up to the failing results, and the next turn.

The very next assistant message (calls of a tool ``think`` in between are passed over) must call tools again, every one of
its calls must have a result, and none of them a failure. ``signal`` says what it did:

* ``corrected_arguments``: it called the tool that had failed, with other arguments;
* ``retried``: it made the very same call again;
* ``other_tool``: it turned to a tool that had not failed.

Only the recovering turn is the completion. The failing call stands in the prompt, so that nobody learns to make it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracemill.core.examples import ActionExample
from tracemill.core.messages import ToolCall, trajectory
from tracemill.core.records import Interaction, Message
from tracemill.core.steps import Drop
from tracemill.dataset.identity import identified
from tracemill.dataset.signals.carried import same
from tracemill.dataset.signals.confidence import RECOVERED
from tracemill.dataset.signals.parts import Round, goal_of, parameters_of, reasoning_of, rounds, tool_names

THINK = "think"
"""The tool agents are given to reason aloud; it does nothing, and so mends nothing."""


def recoveries(interaction: Interaction) -> list[ActionExample] | Drop:
    """One example for every recovery, or why there is none: ``no_failed_call``, ``no_recovery``."""
    messages = trajectory(interaction)
    found = list(rounds(messages))
    if not any(one.failed() for one in found):
        return Drop("no_failed_call")
    examples = [_example(interaction, messages, before, after) for before, after in _recovered(found)]
    return examples or Drop("no_recovery")


def _recovered(found: list[Round]) -> Iterator[tuple[Round, Round]]:
    """Each failing round with the round that recovers from it; thinking aloud in between is passed over."""
    failing: Round | None = None
    end = -1
    for one in found:
        if one.at == end and failing is not None and one.answered() and not one.failed() and not _thinks(one):
            yield failing, one
        if one.failed():
            failing, end = one, one.end
        elif one.at == end and _thinks(one):
            end = one.end
        else:
            failing = None


def _thinks(one: Round) -> bool:
    return all(call.name == THINK for call in one.calls)


def kind_of_recovery(before: Round, after: Round) -> str:
    """How a turn goes on from a failure: see the module."""
    failed = before.failed()
    again = [(one, other) for one in failed for other in after.calls if one.name == other.name]
    if not again:
        return "other_tool"
    return "retried" if all(_same_call(one, other) for one, other in again) else "corrected_arguments"


def _same_call(one: ToolCall, other: ToolCall) -> bool:
    return same(parameters_of(one), parameters_of(other))


def _example(interaction: Interaction, messages: list[Message], before: Round, after: Round) -> ActionExample:
    kind = kind_of_recovery(before, after)
    first = after.calls[0]
    example = ActionExample(
        id="",
        sources=[interaction.id],
        signal=kind,
        confidence=RECOVERED[kind] * (0.5 if interaction.success is False else 1.0),
        platform=interaction.platform,
        task_id=interaction.task_id,
        tools=interaction.tools,
        prompt=messages[: after.at],
        completion=[messages[after.at]],
        action="tool_request",
        tool=first.name,
        parameters=parameters_of(first),
        reasoning=reasoning_of(messages[after.at]),
        goal=goal_of(interaction),
        state={"failed_tools": sorted({call.name for call in before.failed() if call.name})},
        available_tools=tool_names(interaction),
        outcome={"success": True, "results": list(after.results)},
    )
    return identified(example)
