"""Recorded decisions as examples of deciding, and those a person overrode as preferences.

A decision's state is put as one user message of JSON (``context``, ``available_options``), the choice as one assistant
message of JSON (``decision``, ``reasoning``). Nothing is added to what was recorded.

A decision is overridden where a person's feedback names it (``step_id`` is the decision's id, or that of a step with no
other decision) and corrects it, or where the application recorded it as ``extra["override"]``. Either is the name of the
option, or a mapping with ``choice`` (or ``decision``, ``option``) and perhaps ``reasoning``. In the preference both sides
have reasoning only where both have it, so that its mere presence does not tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tracemill.core.examples import ActionExample, PreferenceExample
from tracemill.core.records import AnyRecord, Decision, Feedback, Interaction, Message
from tracemill.core.steps import Drop
from tracemill.dataset.identity import identified
from tracemill.dataset.signals.confidence import BY_ANNOTATOR, SUCCESS_FLAG, UNKNOWN_OUTCOME
from tracemill.dataset.signals.parts import as_json
from tracemill.feedback.attach import Attached
from tracemill.quality.metrics import quality_of_decision

_CHOICE = ("choice", "decision", "option")


@dataclass(frozen=True, slots=True)
class _Override:
    """What should have been chosen, why, who said so, and the record that says it where it is another one."""

    choice: str
    reasoning: str | None
    human: bool
    confidence: float
    source: str | None = None


def decisions(
    interaction: Interaction, attached: Attached, get: Callable[[str], AnyRecord | None]
) -> list[ActionExample] | Drop:
    """One example for every decision that was not overridden and did not fail, or why there is none.

    Reasons: ``no_decision``; and, when no decision gave an example, why the first did not: ``no_choice``,
    ``choice_not_offered``, ``decision_failed``, ``overridden``.
    """
    examples: list[ActionExample] = []
    reasons: list[Drop] = []
    for decision in attached.decisions:
        reason = _objection(decision)
        if reason is None and next(_overrides(decision, attached, get), None) is not None:
            reason = "overridden"
        if reason is not None:
            reasons.append(Drop(reason))
        else:
            examples.append(_example(interaction, decision))
    return examples or next(iter(reasons), Drop("no_decision"))


def overrides(
    interaction: Interaction, attached: Attached, get: Callable[[str], AnyRecord | None]
) -> list[PreferenceExample] | Drop:
    """One preference for every override of a decision, or why there is none. ``get`` reads a record by its id.

    Reasons: ``no_decision``, ``no_override``, ``unchanged``.
    """
    if not attached.decisions:
        return Drop("no_decision")
    examples: list[PreferenceExample] = []
    unchanged = False
    for decision in attached.decisions:
        for override in _overrides(decision, attached, get):
            if override.choice == decision.choice or decision.choice is None:
                unchanged = True
                continue
            examples.append(_preference(interaction, decision, override))
    return examples or Drop("unchanged" if unchanged else "no_override")


def _objection(decision: Decision) -> str | None:
    if decision.choice is None:
        return "no_choice"
    if decision.options and decision.choice not in {option.name for option in decision.options}:
        return "choice_not_offered"
    if decision.outcome is not None and decision.outcome.success is False:
        return "decision_failed"
    return None


def _overrides(decision: Decision, attached: Attached, get: Callable[[str], AnyRecord | None]) -> Iterator[_Override]:
    recorded = decision.extra.get("override")
    if (said := _choice(recorded)) is not None:
        yield _Override(*said, human=True, confidence=BY_ANNOTATOR["HUMAN"])
    names = {decision.id}
    if decision.step_id is not None and sum(one.step_id == decision.step_id for one in attached.decisions) == 1:
        names.add(decision.step_id)
    for mark in attached.feedback:
        if not mark.corrects or mark.step_id not in names or mark.annotator_kind != "HUMAN":
            continue
        record = get(mark.id)
        if isinstance(record, Feedback) and (said := _choice(record.correction)) is not None:
            yield _Override(*said, human=True, confidence=BY_ANNOTATOR["HUMAN"], source=record.id)


def _choice(value: Any) -> tuple[str, str | None] | None:
    """The choice and the reasoning of an override; None where it names no choice."""
    if isinstance(value, str):
        return (value, None) if value else None
    if not isinstance(value, dict):
        return None
    choice = next((value[name] for name in _CHOICE if isinstance(value.get(name), str) and value[name]), None)
    reasoning = value.get("reasoning")
    return None if choice is None else (choice, reasoning if isinstance(reasoning, str) and reasoning else None)


def _state(decision: Decision) -> dict[str, Any]:
    options = [_option(option) for option in msgspec.to_builtins(decision.options)]
    state = {"context": decision.context, "available_options": options or None}
    return {key: value for key, value in state.items() if value is not None}


def _option(plain: dict[str, Any]) -> dict[str, Any]:
    return {"option": plain["name"], **{key: value for key, value in plain.items() if key != "name"}}


def _prompt(decision: Decision) -> list[Message]:
    return [{"role": "user", "content": as_json(_state(decision))}]


def _answer(choice: str, reasoning: str | None) -> Message:
    said = {"decision": choice} if reasoning is None else {"decision": choice, "reasoning": reasoning}
    return {"role": "assistant", "content": as_json(said)}


def _example(interaction: Interaction, decision: Decision) -> ActionExample:
    outcome: dict[str, Any] = {} if decision.outcome is None else msgspec.to_builtins(decision.outcome)
    known = decision.outcome is not None and decision.outcome.success is True
    state = _state(decision)
    example = ActionExample(
        id="",
        sources=sorted({interaction.id, decision.id}),
        signal="decision",
        confidence=SUCCESS_FLAG if known else UNKNOWN_OUTCOME,
        platform=interaction.platform,
        task_id=interaction.task_id,
        prompt=_prompt(decision),
        completion=[_answer(str(decision.choice), decision.reasoning)],
        action="decision",
        parameters={"choice": decision.choice},
        reasoning=decision.reasoning,
        state=decision.context,
        options=state.get("available_options", []),
        stated_confidence=decision.confidence,
        outcome=outcome,
        quality_score=quality_of_decision(decision).score,
        execution_successful=None if decision.outcome is None else decision.outcome.success,
    )
    return identified(example)


def _preference(interaction: Interaction, decision: Decision, override: _Override) -> PreferenceExample:
    reasoned = bool(decision.reasoning and override.reasoning)
    sources = {interaction.id, decision.id, *([override.source] if override.source else [])}
    example = PreferenceExample(
        id="",
        sources=sorted(sources),
        signal="override",
        confidence=override.confidence,
        human_validated=override.human,
        platform=interaction.platform,
        task_id=interaction.task_id,
        prompt=_prompt(decision),
        chosen=[_answer(override.choice, override.reasoning if reasoned else None)],
        rejected=[_answer(str(decision.choice), decision.reasoning if reasoned else None)],
    )
    return identified(example)
