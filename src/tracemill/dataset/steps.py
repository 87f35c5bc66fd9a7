"""The steps a recipe can name, and how any step is described so that a recipe can be hashed.

A step is any callable from an :class:`~tracemill.core.records.Interaction` to a verdict (:mod:`tracemill.core.steps`).
Those below, and those of :mod:`tracemill.dataset.rules`, are frozen Structs, so that their arguments are data. In Python
any function, ``functools.partial`` or callable object will do, as long as it is pure: what it answers may depend on the
interaction only.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import textwrap
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from tracemill.core.codec import encode_plain
from tracemill.core.errors import RecipeError, RecordError
from tracemill.core.messages import problems, role, trajectory
from tracemill.core.records import Interaction, Kind, Message
from tracemill.core.steps import KEEP, Change, Drop, Verdict
from tracemill.dataset.privacy_rule import PrivacyViolations
from tracemill.dataset.rules import RULES, NamedStep

InteractionStep: TypeAlias = Callable[[Interaction], Verdict[Interaction]]


class MinimumMessages(NamedStep, frozen=True):
    """Drop (``too_few_messages``) what has fewer messages than ``count``, the response included."""

    count: Annotated[int, Meta(ge=1)]

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        return KEEP if len(trajectory(interaction)) >= self.count else Drop("too_few_messages")


class MaximumMessages(NamedStep, frozen=True):
    """Drop (``too_many_messages``) what has more messages than ``count``, the response included."""

    count: Annotated[int, Meta(ge=1)]

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        return KEEP if len(trajectory(interaction)) <= self.count else Drop("too_many_messages")


class MaximumBytes(NamedStep, frozen=True):
    """Drop (``too_large``) what takes more than ``bytes`` when its messages are encoded as MessagePack."""

    bytes: Annotated[int, Meta(ge=1)]

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        return KEEP if len(encode_plain(trajectory(interaction))) <= self.bytes else Drop("too_large")


class Kinds(NamedStep, frozen=True):
    """Drop (``other_kind``) what is not of one of the ``kinds``."""

    kinds: tuple[Kind, ...]

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        return KEEP if interaction.kind in self.kinds else Drop("other_kind")


class Tagged(NamedStep, frozen=True):
    """Drop (``not_tagged``) what has none of the tags in ``any``; drop (``tagged``) what has one of those in ``none``."""

    any: tuple[str, ...] = ()
    none: tuple[str, ...] = ()

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        if self.any and not set(self.any) & set(interaction.tags):
            return Drop("not_tagged")
        return Drop("tagged") if set(self.none) & set(interaction.tags) else KEEP


class Completed(NamedStep, frozen=True):
    """Drop (``not_completed``) what is marked interrupted, partial, or cut off at the token limit."""

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        cut = interaction.truncated is True or interaction.finish_reason == "length"
        return Drop("not_completed") if cut or interaction.completion_status in _UNFINISHED else KEEP


_UNFINISHED = ("interrupted", "partial")


class ValidQuery(NamedStep, frozen=True):
    """Drop (``invalid_query``) what the application marked as not a valid question."""

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        return Drop("invalid_query") if interaction.query_is_valid is False else KEEP


class WellFormed(NamedStep, frozen=True):
    """Drop what no chat template accepts, by the first problem :func:`tracemill.core.messages.problems` finds.

    Calls of the last assistant message may be unanswered, and a conversation may begin with the assistant.
    """

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        messages = trajectory(interaction)
        last = max((at for at, message in enumerate(messages) if role(message) == "assistant"), default=-1)
        for problem in problems(messages):
            open_end = problem.reason == "unanswered_call" and problem.index == last
            if not open_end and problem.reason != "starts_with_assistant":
                return Drop(problem.reason)
        return KEEP


class Sample(NamedStep, frozen=True):
    """Keep a ``fraction`` (0 to 1) of all interactions, drawn by a hash of ``seed`` and id; drop the rest (``not_sampled``)."""

    fraction: Annotated[float, Meta(ge=0, le=1)]
    seed: int = 0

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        drawn = hashlib.sha256(f"sample:{self.seed}:{interaction.id}".encode()).digest()
        return KEEP if int.from_bytes(drawn[:8], "big") < self.fraction * 2**64 else Drop("not_sampled")


class WithoutFields(NamedStep, frozen=True):
    """Take message fields such as ``reasoning_content`` out of every message (change ``removed_fields``)."""

    fields: tuple[str, ...]

    def __call__(self, interaction: Interaction) -> Verdict[Interaction]:
        if not any(name in message for message in trajectory(interaction) for name in self.fields):
            return KEEP
        response = interaction.response
        changed = msgspec.structs.replace(
            interaction,
            messages=[self._strip(message) for message in interaction.messages],
            response=None if response is None else self._strip(response),
        )
        return Change(changed, "removed_fields")

    def _strip(self, message: Message) -> Message:
        return {key: value for key, value in message.items() if key not in self.fields}


STEPS: dict[str, type[NamedStep]] = {
    "minimum_messages": MinimumMessages,
    "maximum_messages": MaximumMessages,
    "maximum_bytes": MaximumBytes,
    "kinds": Kinds,
    "tagged": Tagged,
    "completed": Completed,
    "valid_query": ValidQuery,
    "well_formed": WellFormed,
    "sample": Sample,
    "without_fields": WithoutFields,
    **RULES,
    "privacy_violations": PrivacyViolations,
}
"""Steps by the name a recipe file gives them."""
_NAMES = {step: name for name, step in STEPS.items()}


def import_step(name: str, arguments: dict[str, Any]) -> InteractionStep:
    """The step that ``module:name`` means, as a recipe file writes it for a step of one's own.

    A class is made with the arguments; a function is given them as keywords with every interaction. Raises RecipeError.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
        made: Any = found(**arguments) if inspect.isclass(found) else found
    except Exception as error:  # importing runs the recipe author's code, which may raise anything
        raise RecipeError(
            f"{name} cannot be imported: {type(error).__name__}: {error}",
            hint="Write module:name, with the module on Python's path.",
        ) from error
    if not callable(made):
        raise RecipeError(f"{name} is not callable")
    step: InteractionStep = made if inspect.isclass(found) or not arguments else functools.partial(made, **arguments)
    return step


def describe_step(step: InteractionStep) -> dict[str, Any]:
    """What identifies a step in a recipe's hash: its name, its arguments, and for foreign code the hash of its source.

    A named step is its name and arguments. Any other callable is its qualified name, the SHA-256 of its source and
    what it was made with: arguments of a ``functools.partial``, values a function closes over, attributes of an object.
    Code that it calls elsewhere is not covered. Raises RecipeError where one of these is not data or has no source.
    """
    if isinstance(step, NamedStep) and type(step) in _NAMES:
        return {"step": _NAMES[type(step)], "arguments": msgspec.to_builtins(step)}
    if isinstance(step, functools.partial):
        inner = describe_step(step.func)
        given = {"args": list(step.args), "keywords": dict(step.keywords)}
        return {**inner, "arguments": _plain(given, inner["step"])}
    if inspect.isfunction(step):
        names = step.__code__.co_freevars
        closed = {name: cell.cell_contents for name, cell in zip(names, step.__closure__ or (), strict=True)}
        defaults = {"defaults": list(step.__defaults__ or ()), **(step.__kwdefaults__ or {})}
        return _foreign(step, {**closed, **(defaults if any(defaults.values()) else {})})
    if inspect.isclass(step) or inspect.isroutine(step):
        return _foreign(step, {})
    return _foreign(type(step), _state(step))


def _state(step: object) -> dict[str, Any]:
    if isinstance(step, Struct):
        return msgspec.structs.asdict(step)
    slots = [name for name in getattr(type(step), "__slots__", ()) if hasattr(step, name)]
    return {**{name: getattr(step, name) for name in slots}, **getattr(step, "__dict__", {})}


def _foreign(code: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    name = f"{code.__module__}.{code.__qualname__}"
    try:
        source = textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError):
        raise RecipeError(
            f"step {name} has no source to hash",
            hint="Define it in a file, so that the recipe's hash changes when the step does.",
        ) from None
    return {
        "step": name,
        "arguments": _plain(arguments, name),
        "sha256": hashlib.sha256(source.encode()).hexdigest(),
    }


def _plain(arguments: Any, name: str) -> Any:
    try:
        plain = msgspec.to_builtins(arguments)
        encode_plain(plain)
    except (TypeError, ValueError, RecordError) as error:
        raise RecipeError(
            f"step {name} holds something that is not plain data: {error}",
            hint="Give it numbers, texts, lists and mappings only, or make it a frozen dataclass of such.",
        ) from None
    return plain
