"""Features: numbers, flags and short words computed of an interaction, which stand beside an example as columns.

A feature says how long, how costly, how good or of what kind an interaction was, and never what was said in it. What is not
known is left out, never guessed. :data:`FEATURES` has those a recipe can name; one of its author's own is written
``module:function``, takes the interaction and says by its annotation what it returns::

    def asks_for_refund(interaction: Interaction) -> bool:
        return "refund" in interaction.tags

A preference of two trials has the features of the better one.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tracemill.core.errors import DatasetError, RecipeError
from tracemill.core.examples import FeatureColumn, FeatureKind, FeatureValue
from tracemill.core.messages import ToolCall, role, text, tool_calls, trajectory
from tracemill.core.records import Interaction, Message
from tracemill.dataset.rules import judge_quality
from tracemill.dataset.steps import describe_step, import_step
from tracemill.feedback.attach import Attached, Scale
from tracemill.quality.metrics import Quality, calls_with_results, is_failure
from tracemill.quality.text import dominant_script, words

LONGEST_WORD = 64
"""Letters of a word feature; what is longer is cut."""
INTEGERS = range(-(2**63), 2**63)
"""Integers that every reader of columns holds; one beyond them is left out."""
_KINDS: dict[type, FeatureKind] = {bool: "flag", int: "integer", float: "number", str: "word"}


class Facts:
    """One interaction as features look at it. What several features need is computed once, and only if one asks."""

    def __init__(
        self, interaction: Interaction, attached: Attached, scales: Mapping[str, Scale], score_name: str
    ) -> None:
        self.interaction, self.attached = interaction, attached
        self._scales, self._score_name = scales, score_name

    @cached_property
    def messages(self) -> list[Message]:
        """The whole trajectory."""
        return trajectory(self.interaction)

    def count(self, kind: str) -> int:
        """How many messages have a role."""
        return sum(role(message) == kind for message in self.messages)

    @cached_property
    def turns(self) -> int:
        """Messages of users, and of the assistant."""
        return self.count("user") + self.count("assistant")

    @cached_property
    def said(self) -> list[str]:
        """What users and the assistant said."""
        return [text(message) for message in self.messages if role(message) in ("user", "assistant")]

    @cached_property
    def words(self) -> int:
        """Words of all that was said."""
        return sum(len(words(content)) for content in self.said)

    def words_of(self, kind: str) -> int:
        """Words of the messages of one role."""
        return sum(len(words(text(message))) for message in self.messages if role(message) == kind)

    @cached_property
    def script(self) -> str:
        """The script of most letters the assistant wrote."""
        written = (text(message) for message in self.messages if role(message) == "assistant")
        return dominant_script(" ".join(written)).lower()

    @cached_property
    def calls(self) -> list[tuple[ToolCall, str | None]]:
        """Every tool call with its result."""
        return list(calls_with_results(self.messages))

    @cached_property
    def tools_called(self) -> list[str | None]:
        """The names of the tools that were called, one a call."""
        return [call.name for message in self.messages if role(message) == "assistant" for call in tool_calls(message)]

    @cached_property
    def failures(self) -> list[int]:
        """The places of calls whose result says that they failed."""
        return [at for at, (_, result) in enumerate(self.calls) if result is not None and is_failure(result)]

    @cached_property
    def recoveries(self) -> int:
        """Failed calls after which a later call of the same tool went well."""
        return sum(
            any(
                call.name == self.calls[at][0].name and result is not None and not is_failure(result)
                for call, result in self.calls[at + 1 :]
            )
            for at in self.failures
        )

    @cached_property
    def quality(self) -> Quality:
        """The measures of the quality room."""
        return judge_quality(self.interaction, self.attached)

    @property
    def outcome(self) -> str | None:
        """How it ended: the completion status, else what the success flag or an error says."""
        interaction = self.interaction
        if interaction.completion_status is not None:
            return interaction.completion_status
        if interaction.success is not None:
            return "successful" if interaction.success else "failed"
        return "failed" if interaction.error is not None else None

    @cached_property
    def labels(self) -> list[bool]:
        """Which way each label points."""
        return [label.positive for label in self.attached.labels(self._scales)]

    @property
    def label(self) -> str | None:
        """Which way the labels point together."""
        sides = set(self.labels)
        if not sides:
            return None
        return "mixed" if len(sides) == 2 else "positive" if True in sides else "negative"

    @property
    def score(self) -> float | None:
        """The mean of the scores the recipe compares trials by; the success flag where it compares by that."""
        if self._score_name == "success":
            return None if self.interaction.success is None else float(self.interaction.success)
        return self.attached.score(self._score_name)

    @property
    def tokens(self) -> int | None:
        """Tokens read and written, where both are known."""
        read, written = self.interaction.input_tokens, self.interaction.output_tokens
        return None if read is None or written is None else read + written

    @property
    def model(self) -> str | None:
        """The model that answered, else the one that was asked for."""
        for model in (self.interaction.model, self.interaction.model_requested):
            if model is not None and model.name:
                return model.name
        return None


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: what kind of value it is, what it means (units included), and how it is computed.

    ``compute`` is None for those of :mod:`tracemill.dataset.seen`, which are known once all records are read.
    """

    name: str
    kind: FeatureKind
    meaning: str
    compute: Callable[[Facts], Any] | None

    def column(self) -> FeatureColumn:
        """The feature as a manifest describes it."""
        return FeatureColumn(kind=self.kind, meaning=self.meaning)


def _ratio(total: float, parts: int) -> float | None:
    return total / parts if parts else None


def _features() -> Iterable[Feature]:
    integer: list[tuple[str, str, Callable[[Facts], Any]]] = [
        ("messages", "messages of the whole trajectory, of every role", lambda facts: len(facts.messages)),
        ("turns", "messages of users and of the assistant", lambda facts: facts.turns),
        ("user_turns", "messages of users", lambda facts: facts.count("user")),
        ("assistant_turns", "messages of the assistant", lambda facts: facts.count("assistant")),
        ("tool_calls", "tool calls the assistant asked for", lambda facts: len(facts.tools_called)),
        ("distinct_tools", "different tools it called", lambda facts: len(set(facts.tools_called))),
        ("tools_offered", "tools it could have called", lambda facts: len(facts.interaction.tools)),
        ("failures", "tool calls whose result says that they failed", lambda facts: len(facts.failures)),
        ("recoveries", "failed calls after which the same tool went well", lambda facts: facts.recoveries),
        ("characters", "characters that users and the assistant wrote", lambda facts: sum(map(len, facts.said))),
        ("words", "words that users and the assistant wrote", lambda facts: facts.words),
        ("user_words", "words that users wrote", lambda facts: facts.words_of("user")),
        ("assistant_words", "words that the assistant wrote", lambda facts: facts.words_of("assistant")),
        ("question_marks", "question marks in what was said (?, ؟, ？)", lambda facts: _questions(facts.said)),
        ("code_blocks", "fenced blocks of code in what was said", lambda facts: _fences(facts.said)),
        ("input_tokens", "tokens the model read", lambda facts: facts.interaction.input_tokens),
        ("output_tokens", "tokens the model wrote", lambda facts: facts.interaction.output_tokens),
        ("tokens", "tokens the model read and wrote", lambda facts: facts.tokens),
        ("hour", "hour of the day it took place, 0 to 23, UTC", lambda facts: facts.interaction.time.hour),
        ("weekday", "day of the week, 1 (Monday) to 7, UTC", lambda facts: facts.interaction.time.isoweekday()),
        ("trial", "number of the attempt at its task", lambda facts: facts.interaction.trial),
        ("defects", "rules of the quality room that found a defect", lambda facts: len(facts.quality.defects)),
        ("labels", "thumbs, ratings and scores that are labels", lambda facts: len(facts.labels)),
    ]
    number: list[tuple[str, str, Callable[[Facts], Any]]] = [
        ("mean_words", "words a turn", lambda facts: _ratio(facts.words, facts.turns)),
        ("duration_ms", "how long it took, milliseconds", lambda facts: facts.interaction.duration_ms),
        ("cost_usd", "what it cost, US dollars", lambda facts: facts.interaction.cost_usd),
        ("score", "mean of the scores named by `trial_score`", lambda facts: facts.score),
        ("rating", "mean rating, 1 to 5", lambda facts: facts.attached.score("rating")),
        ("quality", "score of the quality room, 0 to 1", lambda facts: facts.quality.score),
    ]
    word: list[tuple[str, str, Callable[[Facts], Any]]] = [
        ("platform", "the platform", lambda facts: facts.interaction.platform),
        ("kind", "chat, query, workflow or agent", lambda facts: facts.interaction.kind),
        ("model", "the model that answered, else the one asked for", lambda facts: facts.model),
        ("language", "the script most letters of the assistant belong to (latin, cjk…)", lambda facts: facts.script),
        ("outcome", "completion status; else by success or error", lambda facts: facts.outcome),
        ("label", "where the labels point: positive, negative, mixed", lambda facts: facts.label),
    ]
    yield from (Feature(name, "integer", meaning, compute) for name, meaning, compute in integer)
    yield from (Feature(name, "number", meaning, compute) for name, meaning, compute in number)
    yield from (Feature(name, "word", meaning, compute) for name, meaning, compute in word)
    yield Feature("success", "flag", "whether it succeeded", lambda facts: facts.interaction.success)
    yield Feature("conversation_age_days", "number", "days since the conversation's first interaction read", None)
    yield Feature("conversation_interactions", "integer", "interactions of its conversation that were read", None)
    yield Feature("user_interactions", "integer", "interactions of its user that were read", None)
    yield Feature("user_share", "number", "share of all interactions read that are its user's, 0 to 1", None)


def _questions(said: Sequence[str]) -> int:
    return sum(content.count(mark) for content in said for mark in "?؟？")


def _fences(said: Sequence[str]) -> int:
    """Fences that are opened; one that is never closed is a block too."""
    return sum((sum(line.lstrip().startswith("```") for line in content.splitlines()) + 1) // 2 for content in said)


FEATURES: dict[str, Feature] = {feature.name: feature for feature in _features()}
"""Features by the name a recipe gives them, those that need all records among them."""

EXECUTION_FEATURES = frozenset({"quality"})
"""Those that look at steps and decisions too."""


def find_feature(name: str) -> Feature:
    """The feature a recipe means by a name, or by ``module:function``. Raises RecipeError."""
    if name in FEATURES:
        return FEATURES[name]
    if ":" not in name:
        raise RecipeError(f"features: {name}: unknown feature", hint=f"Known: {', '.join(FEATURES)}.")
    function: Any = import_step(name, {})
    kind = _kind_of(function, name)
    meaning = (inspect.getdoc(function) or "").partition("\n")[0] or "a feature of one's own"
    return Feature(column_of(name), kind, meaning, lambda facts: _own(function, name, kind, facts.interaction))


def _own(function: Any, name: str, kind: FeatureKind, interaction: Interaction) -> Any:
    try:
        value = function(interaction)
    except Exception as error:  # a feature is its author's code and may raise anything
        raise DatasetError(
            f"feature {name} failed on record {interaction.id}: {type(error).__name__}: {error}",
            hint="Correct the feature; the build goes on where it stopped.",
        ) from error
    whole_as_number = kind == "number" and type(value) is int
    if value is not None and _KINDS.get(type(value)) != kind and not whole_as_number:
        raise DatasetError(
            f"feature {name} gave {type(value).__name__}, but its annotation says {kind} (record {interaction.id})",
            hint="Correct the feature or its annotation.",
        )
    return value


def _kind_of(function: Any, name: str) -> FeatureKind:
    try:
        returned = typing.get_type_hints(function).get("return")
    except (NameError, TypeError) as error:
        raise RecipeError(f"features: {name}: its annotations cannot be read: {error}") from error
    choices = typing.get_args(returned) if isinstance(returned, types.UnionType) else (returned,)
    kinds = {_KINDS.get(choice) for choice in choices if choice is not types.NoneType}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is None:
        raise RecipeError(
            f"features: {name}: its annotation does not say what it returns",
            hint="Annotate it with -> bool, int, float or str, with | None where it may not know.",
        )
    return kind


def column_of(name: str) -> str:
    """The column of a feature: its name, without the module of one's own."""
    return name.rpartition(":")[2]


def of_all(name: str) -> bool:
    """Whether a feature is known only once all records are read (:mod:`tracemill.dataset.seen`)."""
    return name in FEATURES and FEATURES[name].compute is None


def describe_feature(name: str) -> Any:
    """What identifies a feature in a recipe's hash: its name, and for one's own the SHA-256 of its source too."""
    if name in FEATURES:
        return name
    return {"feature": name, "sha256": describe_step(import_step(name, {}))["sha256"]}


def check_features(names: Sequence[str]) -> None:
    """Raises RecipeError for names that no feature has, that stand twice, or that two features share."""
    found: dict[str, str] = {}
    for name in names:
        column = find_feature(name).name
        if column in found:
            raise RecipeError(f"features: {name} and {found[column]} are one column, {column}")
        if ":" in name and column in FEATURES:
            raise RecipeError(f"features: {name} would take the name of the feature {column}", hint="Rename it.")
        found[column] = name


def computed(names: Iterable[str], facts: Facts) -> dict[str, FeatureValue]:
    """The known values of features of one interaction, by column. Raises DatasetError when one's own fails."""
    values: dict[str, FeatureValue] = {}
    for name in names:
        feature = find_feature(name)
        if feature.compute is not None and (value := plain_value(feature.compute(facts), feature.kind)) is not None:
            values[feature.name] = value
    return values


def plain_value(value: Any, kind: FeatureKind) -> FeatureValue | None:
    """A value as every reader of columns holds it; None for what is not known, not finite, or too large."""
    if value is None:
        return None
    if kind == "word":
        return str(value)[:LONGEST_WORD].encode("utf-8", "replace").decode() or None
    if kind == "flag":
        return bool(value)
    if kind == "integer":
        return int(value) if int(value) in INTEGERS else None
    return float(value) if math.isfinite(value) else None
