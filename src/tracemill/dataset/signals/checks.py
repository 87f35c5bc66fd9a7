"""Answers that a validation did not pass, as completions that are not wanted (KTO).

What its user made of a failed answer is a preference of its own (``edits``), and so is another answer to the same history
that passed (``regenerations``).
"""

from __future__ import annotations

from tracemill.core.examples import LabelledExample
from tracemill.core.messages import role
from tracemill.core.records import Interaction
from tracemill.core.steps import Drop
from tracemill.dataset.identity import identified
from tracemill.dataset.signals.confidence import FAILED_CHECK
from tracemill.dataset.signals.parts import prompt_and_answer
from tracemill.feedback.attach import Attached


def checks(interaction: Interaction, attached: Attached) -> list[LabelledExample] | Drop:
    """The example of an answer that failed a check, or why there is none.

    Reasons: ``no_failed_check``, ``checks_disagree`` (another one passed), ``no_answer``, ``no_prompt``. Several
    failed checks give one example; its score is the lowest of theirs (0 to 100).
    """
    failed = [check for check in attached.validations if check.passed is False]
    if not failed:
        return Drop("no_failed_check")
    if any(check.passed is True for check in attached.validations):
        return Drop("checks_disagree")
    prompt, answer = prompt_and_answer(interaction)
    if answer is None or role(answer) != "assistant":
        return Drop("no_answer")
    if not prompt:
        return Drop("no_prompt")
    example = LabelledExample(
        id="",
        sources=sorted([interaction.id, *(check.id for check in failed)]),
        signal="failed_check",
        confidence=FAILED_CHECK,
        platform=interaction.platform,
        task_id=interaction.task_id,
        tools=interaction.tools,
        prompt=prompt,
        completion=[answer],
        label=False,
        label_source="validation",
        score=min((check.score for check in failed if check.score is not None), default=None),
    )
    return [identified(example)]
