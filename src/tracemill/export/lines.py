"""Single interactions as training lines, for a quick download beside dataset versions."""

from __future__ import annotations

from tracemill.core.codec import encode_json_plain
from tracemill.core.examples import SupervisedExample
from tracemill.core.messages import trajectory
from tracemill.core.records import Interaction
from tracemill.dataset.history import split_tail
from tracemill.export.formats import FORMATS
from tracemill.export.losses import RefusedError


def openai_line(interaction: Interaction) -> bytes | None:
    """One line of OpenAI chat JSONL; None for an interaction without an answer or one the format cannot hold.

    An answer that is an artifact alone becomes the assistant's message, as JSON text.
    """
    messages = trajectory(interaction)
    if interaction.response is None and interaction.artifact is not None:
        messages = [*messages, {"role": "assistant", "content": encode_json_plain(interaction.artifact).decode()}]
    kept, _ = split_tail(messages)
    if not kept:
        return None
    example = SupervisedExample(
        id=interaction.id,
        sources=[interaction.id],
        signal="success" if interaction.success else "unjudged",
        confidence=1.0,
        platform=interaction.platform,
        tools=interaction.tools,
        messages=kept,
    )
    try:
        row, _ = FORMATS["openai-chat"].row(example)
    except RefusedError:
        return None
    return encode_json_plain(row) + b"\n"
