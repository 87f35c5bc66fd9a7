"""What Lightspeed's clients send, with the checks the real service makes (lightspeed-stack, ``models/api/requests``).

Keys nobody knows are refused. Scalars are read as leniently as there: ``"1"`` is a number and ``"true"`` a boolean.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

JSON, TEXT = "application/json", "text/plain"
"""The two media types of an answer."""
IMAGE_SIGNATURES = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff"}
ATTACHMENT_TYPES = frozenset(
    {"alert", "api object", "configuration", "error message", "event", "image", "log", "stack trace"}
)
CONTENT_TYPES = frozenset({"text/plain", "application/json", "application/yaml", "application/xml", *IMAGE_SIGNATURES})
Category: TypeAlias = Literal["incorrect", "not_relevant", "incomplete", "outdated_information", "unsafe", "other"]
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_CONVERSATION = re.compile(r"(conv_)?[0-9a-f]{48}", re.IGNORECASE)

T = TypeVar("T")


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body."""


class Attachment(_Body, frozen=True):
    """A file or excerpt sent with a question: text, or an image in base64. The three fields are the service's."""

    attachment_type: str
    content_type: str
    content: str

    def __post_init__(self) -> None:
        signature = IMAGE_SIGNATURES.get(self.content_type)
        if (signature is not None) != (self.attachment_type == "image"):
            raise ValueError(
                f"attachment_type {self.attachment_type!r} and content_type {self.content_type!r} are inconsistent"
            )
        _one_of("attachment type", self.attachment_type, ATTACHMENT_TYPES)
        _one_of("attachment content type", self.content_type, CONTENT_TYPES)
        if signature is None:
            return
        try:
            decoded = base64.b64decode(self.content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"invalid base64 content for an image attachment: {error}") from None
        if not decoded.startswith(signature):
            raise ValueError(f"image content does not match the declared content_type {self.content_type!r}")

    @property
    def is_image(self) -> bool:
        """Whether the content is an image in base64."""
        return self.content_type in IMAGE_SIGNATURES


class SolrSearch(_Body, frozen=True):
    """How to search a Solr index: ``mode``, and filters passed through."""

    mode: Literal["semantic", "hybrid", "lexical", "keyword"] | None = None
    filters: dict[str, Any] | None = None


class QueryRequest(_Body, frozen=True):
    """The body of ``/query`` and ``/streaming_query``."""

    query: str
    conversation_id: str | None = None
    provider: str | None = None
    model: str | None = None
    system_prompt: str | None = None
    attachments: list[Attachment] | None = None
    no_tools: bool | None = False
    generate_topic_summary: bool | None = True
    media_type: str | None = None
    vector_store_ids: list[str] | None = None
    shield_ids: list[str] | None = None
    solr: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.conversation_id and not is_conversation_id(self.conversation_id):
            raise ValueError("improper conversation ID")
        if self.model and not self.provider:
            raise ValueError("provider must be specified if model is specified")
        if self.provider and not self.model:
            raise ValueError("model must be specified if provider is specified")
        if self.media_type and self.media_type not in (JSON, TEXT):
            raise ValueError(f"media_type must be either {JSON!r} or {TEXT!r}")
        if self.solr is not None and ("filters" in self.solr or "mode" in self.solr):
            msgspec.convert(self.solr, SolrSearch)  # without either it is the older form: filters alone

    @property
    def conversation(self) -> str | None:
        """The conversation as it is stored, without the prefix ``conv_``; None for a new one."""
        return normal_conversation_id(self.conversation_id) if self.conversation_id else None

    @property
    def as_text(self) -> bool:
        """Whether the answer is to be bare text."""
        return self.media_type == TEXT


class InterruptRequest(_Body, frozen=True):
    """The body of ``/streaming_query/interrupt``: the ``request_id`` that the stream's first event named."""

    request_id: str

    def __post_init__(self) -> None:
        if not is_conversation_id(self.request_id):
            raise ValueError("improper request ID")


class FeedbackRequest(_Body, frozen=True):
    """The body of ``/feedback``. Of sentiment, text and categories there is at least one."""

    conversation_id: str
    user_question: str
    llm_response: str
    sentiment: Literal[-1, 1] | None = None
    user_feedback: Annotated[str, Meta(max_length=4096)] | None = None
    categories: list[Category] | None = None

    def __post_init__(self) -> None:
        if not is_conversation_id(self.conversation_id):
            raise ValueError("improper conversation ID")
        if self.sentiment is None and not self.user_feedback and not self.categories:
            raise ValueError(
                "at least one form of feedback must be provided: 'sentiment', 'user_feedback', or 'categories'"
            )

    @property
    def conversation(self) -> str:
        """The conversation as it is stored."""
        return normal_conversation_id(self.conversation_id)

    @property
    def unique_categories(self) -> list[Category]:
        """The categories, each once, in their order."""
        return list(dict.fromkeys(self.categories or ()))


class FeedbackStatusRequest(_Body, frozen=True):
    """The body of ``PUT /feedback/status``: whether feedback is taken from now on. Empty: it is not, as there."""

    status: bool = False


def is_conversation_id(text: str) -> bool:
    """Whether a text is an id as the service makes them: a UUID, 48 hex digits, or those behind ``conv_``."""
    return _UUID.fullmatch(text) is not None or _CONVERSATION.fullmatch(text) is not None


def normal_conversation_id(text: str) -> str:
    """An id without the prefix ``conv_``: both forms name the same conversation."""
    return text.removeprefix("conv_")


def checked(value: Any, kind: type[T]) -> T:
    """Parsed JSON as one of the bodies above. Raises msgspec.ValidationError, which names the field."""
    return msgspec.convert(value, kind, strict=False)


def _one_of(what: str, value: str, allowed: frozenset[str]) -> None:
    if value not in allowed:
        raise ValueError(f"invalid {what} {value!r}: must be one of {', '.join(sorted(allowed))}")
