"""Trajectories: what was done, step after step, in each piece of work.

A trajectory is the steps of one interaction or, where none were kept, the assistant's messages of one conversation. An
application that logs the whole history with every call repeats it, and it must count once: an interaction whose messages
begin with everything its conversation's last trajectory holds continues that one. An interaction that parts from it (another
answer to the same question) is a trajectory of its own, its history included.

Records of one piece of work are stored near each other, so trajectories are put together as records stream past. At most
:data:`OPEN_TRAJECTORIES` are open at a time: the one that was touched longest ago is closed first, and should more of it
come, that counts as another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tracemill.core.messages import role, text, tool_calls, trajectory, written
from tracemill.core.records import Interaction, Message, Step
from tracemill.quality.metrics import is_failure

OPEN_TRAJECTORIES = 5_000
LONGEST_TRAJECTORY = 2_000
"""Calls of one trajectory that are looked at; one that goes on and on is a loop and says nothing new."""
_TYPICAL_KEYS = 24


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of a trajectory. What messages do not state (time, success) is None; ``keys`` are its parameters' names."""

    tool: str
    keys: tuple[str, ...] = ()
    success: bool | None = None
    duration_ms: float | None = None
    error: str | None = None


@dataclass(slots=True)
class Trajectory:
    """One piece of work. ``success`` is its last interaction's; ``from_steps`` says where the calls were read."""

    platform: str
    success: bool | None
    calls: list[Call]
    length: int
    reasoned: int
    acted: int
    both: int
    from_steps: bool


@dataclass(slots=True)
class _Open:
    """A trajectory under way: the longest messages seen, and the steps by interaction."""

    platform: str = ""
    success: bool | None = None
    known: bool = False
    prefixes: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    length: int = 0
    reasoned: int = 0
    acted: int = 0
    both: int = 0
    steps: list[Step] = field(default_factory=list)


class TrajectoryStream:
    """Puts trajectories together and hands each to ``done`` when it is closed.

    With ``judge_results``, a call in messages succeeded when its result is no failure by
    :func:`tracemill.quality.metrics.is_failure`; else messages state nothing of that.
    """

    def __init__(
        self, done: Callable[[Trajectory], None], room: int = OPEN_TRAJECTORIES, *, judge_results: bool = False
    ) -> None:
        self._done = done
        self._room = room
        self._judge_results = judge_results
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._latest: OrderedDict[tuple[str, str], str] = OrderedDict()

    def interaction(self, record: Interaction) -> list[Message]:
        """Take an interaction: it continues a trajectory of its conversation, or begins one.

        Returns its new messages: those after what it has in common with its conversation's last trajectory.
        """
        messages = trajectory(record)
        prefixes = _prefixes(messages)
        place = (record.platform, record.conversation_id or record.id)
        own = self._open.pop(record.id, None) or _Open()
        before = self._open.get(self._latest.get(place, ""))
        common = _common(before.prefixes, prefixes) if before is not None else 0
        start = 0
        if before is not None and 0 < common == len(before.prefixes):
            start = common
            if not before.steps and not own.steps:
                own = self._open.pop(self._latest[place])
        own.platform, own.success, own.known = record.platform, record.success, True
        own.prefixes = prefixes
        for message in messages[start:]:
            _count_message(own, message)
            if self._judge_results and role(message) in ("tool", "function"):
                _judge_result(own, message)
        if not any(True for message in messages for _ in tool_calls(message)):
            own.calls.extend(Call(tool) for tool in record.tools_used[:LONGEST_TRAJECTORY])
        self._latest[place] = record.id
        if len(self._latest) > self._room:
            self._latest.popitem(last=False)
        self._keep(record.id, own)
        return messages[common:]

    def step(self, record: Step) -> None:
        """Take a step of an interaction, before or after it. A step of none belongs to no trajectory."""
        if record.interaction_id is None:
            return
        trail = self._open.pop(record.interaction_id, None) or _Open(platform=record.platform or "")
        if len(trail.steps) < LONGEST_TRAJECTORY:
            trail.steps.append(_narrow(record))
        self._keep(record.interaction_id, trail)

    def close(self) -> None:
        """Hand over every trajectory still open."""
        while self._open:
            _, trail = self._open.popitem(last=False)
            self._hand_over(trail)

    def _keep(self, key: str, trail: _Open) -> None:
        self._open[key] = trail
        if len(self._open) > self._room:
            _, oldest = self._open.popitem(last=False)
            self._hand_over(oldest)

    def _hand_over(self, trail: _Open) -> None:
        made = _from_steps(trail) if trail.steps else _from_messages(trail)
        if made is not None:
            self._done(made)


def _common(before: list[int], prefixes: list[int]) -> int:
    """How many leading messages two trajectories have in common."""
    low, high = 0, min(len(before), len(prefixes))
    while low < high:  # equal prefixes of a length imply equal ones of every shorter length
        middle = (low + high + 1) // 2
        low, high = (middle, high) if before[middle - 1] == prefixes[middle - 1] else (low, middle - 1)
    return low


def _prefixes(messages: list[Message]) -> list[int]:
    """A number for each prefix of the messages; equal within one process for equal messages."""
    numbers, last = [], 0
    for message in messages:
        calls = tuple((call.id, call.name, written(call.arguments)) for call in tool_calls(message))
        last = hash((last, role(message), text(message), str(message.get("tool_call_id")), calls))
        numbers.append(last)
    return numbers


def _count_message(trail: _Open, message: Message) -> None:
    """An assistant message is a step: it acts when it calls tools, and reasons when it says why, or carries reasoning."""
    if role(message) != "assistant":
        return
    calls = list(tool_calls(message))
    reasons = any(message.get(key) for key in ("reasoning", "reasoning_content")) or bool(calls and text(message))
    trail.length += 1
    trail.reasoned += reasons
    trail.acted += bool(calls)
    trail.both += bool(reasons and calls)
    room = LONGEST_TRAJECTORY - len(trail.calls)
    for call in calls[: max(0, room)]:
        if call.name:
            if call.id is not None:
                trail.asked[call.id] = len(trail.calls)
            trail.calls.append(Call(call.name, _keys(call.arguments)))


def _judge_result(trail: _Open, message: Message) -> None:
    """Note on the call that a result answers whether it failed. What the result says is not kept."""
    at = trail.asked.pop(str(message.get("tool_call_id")), None)
    if at is not None:
        failed = is_failure(text(message))
        trail.calls[at] = replace(trail.calls[at], success=not failed, error="failed result" if failed else None)


def _narrow(record: Step) -> Step:
    """A step without the values that nothing here reads, so that an open trajectory stays small."""
    actions = [
        msgspec.structs.replace(action, parameters=dict.fromkeys(_keys(action.parameters)), result=None, mapping=None)
        for action in record.actions[:LONGEST_TRAJECTORY]
    ]
    reasoning = "…" if record.reasoning else None
    return msgspec.structs.replace(
        record, inputs=None, outputs=None, state_changes=None, extra={}, reasoning=reasoning, actions=actions
    )


def _from_steps(trail: _Open) -> Trajectory:
    ordered = sorted(trail.steps, key=lambda step: (step.index, step.time, step.id))
    acted = [step for step in ordered if step.actions]
    calls = [
        Call(
            action.tool,
            tuple(action.parameters or ()),
            action.success,
            action.duration_ms,
            action.error.type or "(no type)" if action.error is not None else None,
        )
        for step in acted
        for action in step.actions
        if action.tool is not None and action.type != "finish"  # DSPy's way to say that an agent is done
    ]
    return Trajectory(
        trail.platform,
        trail.success,
        calls[:LONGEST_TRAJECTORY],
        len(ordered),
        sum(1 for step in ordered if step.reasoning),
        len(acted),
        sum(1 for step in acted if step.reasoning),
        True,
    )


def _from_messages(trail: _Open) -> Trajectory | None:
    if not trail.known or not (trail.length or trail.calls):
        return None
    return Trajectory(
        trail.platform,
        trail.success,
        trail.calls,
        trail.length,
        trail.reasoned,
        trail.acted,
        trail.both,
        False,
    )


def _keys(arguments: Any) -> tuple[str, ...]:
    return tuple(_iterate_keys(arguments))


def _iterate_keys(arguments: Any) -> Iterator[str]:
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
            return
    if isinstance(arguments, dict):
        yield from (key for key in list(arguments)[:_TYPICAL_KEYS] if isinstance(key, str))
