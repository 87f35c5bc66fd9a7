"""Chat templates: a conversation as the text a model reads, and which of it is the assistant's.

Templates are Jinja, with what Hugging Face ``transformers`` gives them («Writing a chat template»): ``messages``, ``tools``,
``add_generation_prompt``, the special tokens by name, ``raise_exception``, ``strftime_now``, ``tojson`` without escapes for
HTML, ``{% break %}``, and ``{% generation %}`` around what the assistant says. They run in Jinja's sandbox.

A field that is null is left out, and reasoning is there under both of its names, as ``transformers`` (5) does it. Different is
the clock: ``strftime_now`` answers with the day of :data:`TODAY`, so that an export does not depend on when it is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls  # noqa: N812 - a class
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tracemill.core.errors import ExportError
from tracemill.core.records import Message
from tracemill.export.losses import RefusedError

TODAY = datetime(2024, 7, 26, tzinfo=UTC)
"""The day that templates are told; the one that Llama's templates take where there is no clock."""
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Marks put into a text while it is rendered: code points that Unicode keeps from ever being characters."""
_FAULTS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a template can raise: it is a program of somebody else."""
_REASONING = ("reasoning_content", "thinking")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation's text, and the places ``(begin, end)`` of what stood in ``{% generation %}`` blocks."""

    text: str
    generated: tuple[tuple[int, int], ...] = ()


class ChatTemplate:
    """A compiled chat template. ``variables`` are the special tokens by name.

    ``marks_answers`` says that it has ``{% generation %}`` blocks. Raises ExportError for text that is no template.
    """

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControls]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _raise, "strftime_now": TODAY.strftime}
        self._variables = dict(variables)
        try:
            self._template = environment.from_string(source)
            parsed = environment.parse(source)
        except TemplateError as error:
            raise ExportError(f"the chat template is none: {error}", hint="It has to be Jinja.") from error
        calls = (call for call in parsed.find_all(nodes.ExtensionAttribute))
        self.marks_answers = any(call.name == _Generation.marked.__name__ for call in calls)

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, prompt: bool = False
    ) -> Rendered:
        """The text of a conversation; with ``prompt``, and with what invites the assistant to speak.

        Raises RefusedError where the template refuses the conversation.
        """
        try:
            told = json.dumps([messages, tools], ensure_ascii=False, default=str)
            text = self._template.render(
                messages=[_plain(message) for message in messages],
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=prompt,
                **self._variables,
            )
        except _FAULTS as error:
            raise RefusedError("template_refuses", f"{type(error).__name__}: {error}") from error
        if _OPEN in told or _CLOSE in told:
            raise RefusedError("template_refuses", "a text holds U+FDD0 or U+FDD1, which are no characters")
        return _unmarked(text)


class _Generation(Extension):
    """``{% generation %} … {% endgeneration %}``."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method(self.marked.__name__), [], [], body).set_lineno(line)

    def marked(self, caller: Callable[[], str]) -> str:
        """What stands in the block, between two marks."""
        return f"{_OPEN}{caller()}{_CLOSE}"


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _plain(message: Message) -> Message:
    plain = {key: value for key, value in message.items() if value is not None}
    reasoning = next((plain[key] for key in _REASONING if key in plain), None)
    if reasoning is not None:
        plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
    return plain


def _unmarked(text: str) -> Rendered:
    """The text without marks, and where they were."""
    if _OPEN not in text:
        return Rendered(text)
    pieces, spans, begin, length = [], [], 0, 0
    for piece in text.replace(_CLOSE, _OPEN).split(_OPEN):
        pieces.append(piece)
        if len(pieces) % 2 == 0:
            spans.append((begin, length + len(piece)))
        length += len(piece)
        begin = length
    return Rendered("".join(pieces), tuple(spans))
