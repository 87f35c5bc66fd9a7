"""Corrections as preferences: what was answered is rejected, what should have been answered is chosen.

The correction comes from feedback (text, an assistant message, or an artifact) or from a validation that its user edited
(an artifact). Both sides answer the same prompt. An artifact is put back the way the answer carried it:

* ``artifact_in_text``: the answer's text holds the original artifact as JSON; it is exchanged in place, in its style;
* ``artifact_in_tool_call``: a tool call's arguments are, or hold, the artifact; it is exchanged there;
* ``artifact_as_content``: the answer does not hold it; both sides are an assistant message that is the artifact alone.

``signal`` names which it was; for text and messages it is ``corrected_text`` and ``corrected_message``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tracemill.core.examples import PreferenceExample
from tracemill.core.messages import role, text, tool_calls
from tracemill.core.records import AnyRecord, Feedback, Interaction, Message, Validation
from tracemill.core.steps import Drop
from tracemill.dataset.history import shared_length
from tracemill.dataset.identity import identified
from tracemill.dataset.signals.carried import exchange, same, written
from tracemill.dataset.signals.confidence import BY_ANNOTATOR
from tracemill.dataset.signals.parts import prompt_and_answer
from tracemill.feedback.attach import Attached


@dataclass(frozen=True, slots=True)
class _Sides:
    """What becomes of one correction."""

    signal: str
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


def edits(
    interaction: Interaction, attached: Attached, get: Callable[[str], AnyRecord | None]
) -> list[PreferenceExample] | Drop:
    """One preference for every correction of an interaction, or why there is none. ``get`` reads a record by its id.

    Reasons: ``no_correction``; and, when no correction gave an example, why the first did not: ``unchanged``,
    ``no_answer_to_correct`` (the interaction does not end with an assistant message), ``correction_not_assistant`` (a
    message of another role), ``no_original_artifact``, ``no_prompt``.
    """
    examples: list[PreferenceExample] = []
    reasons: list[Drop] = []
    for record_id in attached.corrections():
        record = get(record_id)
        if isinstance(record, Feedback):
            sides, confidence = _of_feedback(interaction, record), BY_ANNOTATOR[record.annotator_kind]
            human = record.annotator_kind == "HUMAN"
        elif isinstance(record, Validation):
            sides, confidence, human = _of_validation(interaction, record), BY_ANNOTATOR["HUMAN"], True
        else:
            continue  # erased since it was joined
        if isinstance(sides, Drop):
            reasons.append(sides)
            continue
        example = PreferenceExample(
            id="",
            sources=sorted([interaction.id, record.id]),
            signal=sides.signal,
            confidence=confidence,
            human_validated=human,
            platform=interaction.platform,
            task_id=interaction.task_id,
            tools=interaction.tools,
            prompt=sides.prompt,
            chosen=sides.chosen,
            rejected=sides.rejected,
        )
        examples.append(identified(example))
    return examples or next(iter(reasons), Drop("no_correction"))


def _of_feedback(interaction: Interaction, record: Feedback) -> _Sides | Drop:
    correction = record.correction
    messages = _as_messages(correction)
    if messages is not None:
        return _replaced(interaction, messages, "corrected_message")
    if isinstance(correction, str):
        parsed = _as_artifact(interaction, correction)
        if parsed is None:
            return _replaced(interaction, [{"role": "assistant", "content": correction}], "corrected_text")
        correction = parsed
    return _exchanged(interaction, interaction.artifact, correction)


def _of_validation(interaction: Interaction, record: Validation) -> _Sides | Drop:
    original = record.original if record.original is not None else interaction.artifact
    return _exchanged(interaction, original, record.edited)


def _as_messages(correction: Any) -> list[Message] | None:
    """The correction as messages, when it is one message or a list of them."""
    entries = correction if isinstance(correction, list) else [correction]
    if entries and all(isinstance(entry, dict) and isinstance(entry.get("role"), str) for entry in entries):
        return entries
    return None


def _as_artifact(interaction: Interaction, correction: str) -> Any:
    """A corrected artifact that was sent as JSON text: only where there is an artifact of that kind to correct."""
    if not isinstance(interaction.artifact, (dict, list)):
        return correction if isinstance(interaction.artifact, str) else None
    try:
        parsed = json.loads(correction)
    except (ValueError, RecursionError):
        return None
    return parsed if type(parsed) is type(interaction.artifact) else None


def _replaced(interaction: Interaction, chosen: list[Message], signal: str) -> _Sides | Drop:
    prompt, answer = prompt_and_answer(interaction)
    if answer is None or role(answer) != "assistant":
        return Drop("no_answer_to_correct")
    if not prompt:
        return Drop("no_prompt")
    if role(chosen[0]) != "assistant":
        return Drop("correction_not_assistant")
    if len(chosen) == 1 and _says_the_same(answer, chosen[0]):
        return Drop("unchanged")
    return _Sides(signal, prompt, chosen, [answer])


def _says_the_same(answer: Message, correction: Message) -> bool:
    calls, corrected = list(tool_calls(answer)), list(tool_calls(correction))
    if text(answer) == text(correction) and calls == corrected:
        return True
    return shared_length([answer], [correction]) == 1  # whatever the ids of its calls are


def _exchanged(interaction: Interaction, original: Any, edited: Any) -> _Sides | Drop:
    prompt, answer = prompt_and_answer(interaction)
    if original is None:
        return Drop("no_original_artifact")
    if same(original, edited):
        return Drop("unchanged")
    if not prompt:
        return Drop("no_prompt")
    answer = answer if answer is not None and role(answer) == "assistant" else None
    carried = exchange(answer, original, edited) if answer is not None else None
    if answer is not None and carried is not None:
        return _Sides(f"artifact_{carried.how}", prompt, [carried.message], [answer])
    sides = ({"role": "assistant", "content": written(artifact)} for artifact in (edited, original))
    chosen, rejected = sides
    return _Sides("artifact_as_content", prompt, [chosen], [rejected])
