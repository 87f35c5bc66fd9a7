"""The messages a question is put to the model with: system prompt, what was said before, the question with its attachments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracemill.capture.lightspeed.schemas import Attachment, QueryRequest
from tracemill.core.messages import role, text
from tracemill.core.records import Interaction, Message

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant"


def messages_of(request: QueryRequest, history: Sequence[Interaction]) -> list[Message]:
    """The whole of what the model is given, in the OpenAI chat shape."""
    said: list[Message] = [{"role": "system", "content": request.system_prompt or DEFAULT_SYSTEM_PROMPT}]
    for turn in history:
        said += _exchange(turn)
    return [*said, {"role": "user", "content": _content(request.query, request.attachments or ())}]


def _exchange(turn: Interaction) -> list[Message]:
    """The question of a turn as the model saw it, and what it answered; nothing of a turn without an answer.

    Calls of tools are left out: nobody ran them here, and a model refuses a history with calls nobody answered.
    """
    question = next((message for message in reversed(turn.messages) if role(message) == "user"), None)
    answer = "" if turn.response is None else text(turn.response)
    if question is None or not answer:
        return []
    return [{"role": "user", "content": question.get("content")}, {"role": "assistant", "content": answer}]


def _content(query: str, attachments: Sequence[Attachment]) -> str | list[dict[str, Any]]:
    """Text attachments stand under a label behind the question; images are parts of their own, as data URLs."""
    whole = query + "".join(
        f"\n\n[Attachment: {attachment.attachment_type}]\n{attachment.content}"
        for attachment in attachments
        if not attachment.is_image
    )
    images = [attachment for attachment in attachments if attachment.is_image]
    if not images:
        return whole
    parts: list[dict[str, Any]] = [{"type": "text", "text": whole}]
    for image in images:
        url = f"data:{image.content_type};base64,{image.content}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts
