"""How good an execution and its decisions are: eight measures from 0 to 1, each with the reason for its value.

A measure that nothing is known of is None and enters nothing: it is never guessed. ``docs/quality.md`` has every formula.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from tracemill.core.messages import ToolCall, role, text, tool_calls, trajectory
from tracemill.core.records import Decision, Interaction, Message, Option, Step
from tracemill.quality.text import TextQuality, measure_text, words

MeasureName: TypeAlias = Literal[
    "success",
    "efficiency",
    "accuracy",
    "satisfaction",
    "appropriateness",
    "clarity",
    "alignment",
    "learning",
    "text",
]
WEIGHTS: dict[MeasureName, float] = {
    "success": 3.0,
    "accuracy": 2.0,
    "satisfaction": 2.0,
    "text": 2.0,
    "efficiency": 1.0,
    "appropriateness": 1.0,
    "clarity": 1.0,
    "alignment": 1.0,
}
"""Weights of the score. Learning value is none of it: a failure can teach much."""
DEFECT_CAP = 0.5
"""The highest score of what has a defect."""
_WHY = re.compile(
    r"\b(?:because|since|so that|in order to|need(?:s|ed)? to|need|therefore|thus|worth|critical|required?|as the|due to|to "
    r"(?:ensure|avoid|get|find|check|confirm|determine|make sure))\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|not sure|unsure|no idea|random(?:ly)?|guess(?:ing)?|whatever|somehow|i don['’]t know|unclear)\b",
    re.IGNORECASE,
)
_FAILED_RESULT = re.compile(
    r"\s*(?:error\b|exception\b|traceback \(most recent|failed\b|failure\b"
    r"|\{\s*\"(?:error|exception)\"\s*:\s*+(?!null|false|\"\"))",
    re.IGNORECASE,
)
SHORTEST_REASON, LONGEST_REASON = 5, 400


class Measure(msgspec.Struct, frozen=True):
    """A value from 0 to 1, or None when nothing is known, and the reason as a sentence."""

    value: float | None
    reason: str


UNKNOWN = Measure(None, "nothing is known of it")


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What people and programs said of an interaction: thumbs, ratings (1 to 5), validations and scores, all 0 to 1.

    ``checks`` are validations: the score as a share where there is one, else 1 for passed and 0 for not. ``corrected``:
    somebody gave what should have been answered.
    """

    thumbs: tuple[bool, ...] = ()
    ratings: tuple[int, ...] = ()
    checks: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    corrected: bool = False


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution of this kind usually takes, for instance the median of its platform: US dollars, milliseconds."""

    cost_usd: float | None = None
    duration_ms: float | None = None


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table: every measure of one record, what is wrong with it, and the score.

    ``score`` is the mean of the known measures by :data:`WEIGHTS`, at most 0.5 when there is a defect; None when nothing but
    the text is known.
    """

    id: str
    measures: dict[MeasureName, Measure]
    defects: tuple[str, ...]
    score: float | None
    reasons: tuple[str, ...]

    def value(self, name: MeasureName) -> float | None:
        """The value of one measure; None when it is not known."""
        return self.measures.get(name, UNKNOWN).value


NOTHING_SAID = Said()
NOTHING_EXPECTED = Expected()


def measure(
    interaction: Interaction,
    *,
    said: Said = NOTHING_SAID,
    expected: Expected = NOTHING_EXPECTED,
    steps: Sequence[Step] = (),
    decisions: Sequence[Decision] = (),
    measured: TextQuality | None = None,
) -> Quality:
    """Every measure of one interaction, with its steps and decisions where they were recorded. A pure function.

    ``measured`` is what :func:`measure_text` gives of it, where that is known already.
    """
    quality = measure_text(interaction) if measured is None else measured
    messages = trajectory(interaction)
    judged = [measure_decision(decision) for decision in decisions]
    reasons_given = [*_reasonings(interaction, messages), *(step.reasoning for step in steps if step.reasoning)]
    measures: dict[MeasureName, Measure] = {
        "success": _success(interaction, steps),
        "efficiency": efficiency(interaction.cost_usd, interaction.duration_ms, expected),
        "accuracy": _mean([*said.checks, *said.scores], "of validations and scores"),
        "satisfaction": _satisfaction(said, quality),
        "appropriateness": _mean_of([_calls(messages), *(one["appropriateness"] for one in judged)]),
        "clarity": _mean_of([*map(clarity, reasons_given), *(one["clarity"] for one in judged)]),
        "alignment": _mean_of([one["alignment"] for one in judged]),
        "learning": _learning(interaction, messages, said, quality, decisions),
        "text": _text(quality),
    }
    return _row(interaction.id, measures, quality.defects())


def _row(identity: str, measures: dict[MeasureName, Measure], defects: Sequence[str]) -> Quality:
    score = score_of({name: one.value for name, one in measures.items()}, defective=bool(defects))
    reasons = [f"{name}: {one.reason}" for name, one in measures.items() if one.value is not None]
    return Quality(id=identity, measures=measures, defects=tuple(defects), score=score, reasons=(*reasons, *defects))


def score_of(values: Mapping[MeasureName, float | None], *, defective: bool = False) -> float | None:
    """The weighted mean of the known values, at most 0.5 for what has a defect; None when only the text is known."""
    known = {name: value for name, value in values.items() if value is not None and name in WEIGHTS}
    if not known.keys() - {"text"}:
        return None
    total = math.fsum(WEIGHTS[name] for name in known)
    score = math.fsum(WEIGHTS[name] * value for name, value in known.items()) / total
    return min(score, DEFECT_CAP) if defective else score


def table(rows: Sequence[Quality]) -> Iterator[dict[str, Any]]:
    """Rows as flat mappings: the id, the score, a column for each measure and one for its reason, the defects."""
    for row in rows:
        flat: dict[str, Any] = {"id": row.id, "score": row.score, "defects": ",".join(row.defects)}
        for name, one in row.measures.items():
            flat[name] = one.value
            flat[f"{name}_reason"] = one.reason
        yield flat


# -- executions


def _success(interaction: Interaction, steps: Sequence[Step]) -> Measure:
    if interaction.success is not None:
        return Measure(float(interaction.success), "marked successful" if interaction.success else "marked failed")
    by_status = {"successful": 1.0, "failed": 0.0, "interrupted": 0.0, "partial": 0.5}
    if interaction.completion_status is not None:
        return Measure(by_status[interaction.completion_status], f"completion is {interaction.completion_status}")
    if interaction.error is not None:
        return Measure(0.0, "it ended with an error")
    known = [step.success for step in steps if step.success is not None]
    return Measure(sum(known) / len(known), f"{sum(known)} of {len(known)} steps") if known else UNKNOWN


def efficiency(cost_usd: float | None, duration_ms: float | None, expected: Expected) -> Measure:
    """The mean of min(1, expected / actual) over cost and time, where both sides are known."""
    parts = []
    for name, actual, usual in (
        ("cost", cost_usd, expected.cost_usd),
        ("time", duration_ms, expected.duration_ms),
    ):
        if actual is not None and usual is not None and actual >= 0 and usual > 0:
            parts.append((name, min(1.0, usual / actual) if actual > 0 else 1.0))
    if not parts:
        return UNKNOWN
    value = math.fsum(part for _, part in parts) / len(parts)
    return Measure(value, ", ".join(f"{name} {part:.2f}" for name, part in parts))


def _satisfaction(said: Said, quality: TextQuality) -> Measure:
    values = [*map(float, said.thumbs), *((rating - 1) / 4 for rating in said.ratings)]
    if values:
        return Measure(math.fsum(values) / len(values), f"mean of {len(values)} thumbs and ratings")
    if quality.corrections and quality.user_turns:
        share = quality.corrections / quality.user_turns
        return Measure(1 - share, f"the user corrected {quality.corrections} of {quality.user_turns} turns")
    return UNKNOWN


def _text(quality: TextQuality) -> Measure:
    defects = quality.defects()
    value = 0.5 ** len(defects)
    return Measure(value, f"defects: {', '.join(defects)}" if defects else "no defect")


# -- decisions


def measure_decision(decision: Decision) -> dict[MeasureName, Measure]:
    """Appropriateness, clarity, alignment and learning value of one recorded decision."""
    return {
        "appropriateness": _chosen_well(decision),
        "clarity": clarity(decision.reasoning or "", decision),
        "alignment": alignment(decision),
        "learning": _teaches(decision),
    }


def quality_of_decision(decision: Decision) -> Quality:
    """A decision as a row of the table. Its success is its outcome's, its accuracy the outcome's quality."""
    outcome = decision.outcome
    measures = measure_decision(decision)
    if outcome is not None and outcome.success is not None:
        measures["success"] = Measure(float(outcome.success), "the outcome's success")
    if outcome is not None and outcome.quality is not None:
        measures["accuracy"] = Measure(_clip(outcome.quality), "the outcome's quality")
    return _row(decision.id, measures, ())


def _chosen_well(decision: Decision) -> Measure:
    """The share of the other options that are not better in every known respect (cheaper, quicker, more for than against)."""
    chosen = next((option for option in decision.options if option.name == decision.choice), None)
    if decision.choice is None or not decision.options:
        return UNKNOWN
    if chosen is None:
        return Measure(0.0, f"{decision.choice!r} was none of the options")
    others = [option for option in decision.options if option is not chosen]
    better = [option.name for option in others if _dominates(option, chosen)]
    if better:
        return Measure(1 - len(better) / len(others), f"better in every respect: {', '.join(better)}")
    return Measure(1.0, "no option is better in every respect")


def _dominates(one: Option, other: Option) -> bool:
    pairs: list[tuple[float, float]] = [(len(one.cons) - len(one.pros), len(other.cons) - len(other.pros))]
    for name in ("estimated_cost_usd", "estimated_time_ms"):
        left, right = getattr(one, name), getattr(other, name)
        if left is not None and right is not None:
            pairs.append((left, right))
    return all(left <= right for left, right in pairs) and any(left < right for left, right in pairs)


def clarity(reasoning: str, decision: Decision | None = None) -> Measure:
    """How clearly a reasoning explains: the share of the tests it passes. 0 for an empty reasoning.

    Tests: it has 5 to 400 words; it justifies (because, since, to ensure…); it does not hedge (maybe, not sure…); with a
    decision, it shares a word of four letters or more with the context, the choice or the arguments for and against.
    """
    found = words(reasoning)
    if not found:
        return Measure(0.0, "there is no reasoning")
    tests = {
        "length": SHORTEST_REASON <= len(found) <= LONGEST_REASON,
        "justifies": _WHY.search(reasoning) is not None,
        "does not hedge": _HEDGE.search(reasoning) is None,
    }
    if decision is not None:
        matter = json.dumps(
            [decision.context, decision.choice, [[o.pros, o.cons] for o in decision.options]], default=str
        )
        tests["refers"] = bool({word for word in found if len(word) > 3} & set(words(matter.replace("_", " "))))
    failed = [name for name, passed in tests.items() if not passed]
    return Measure(1 - len(failed) / len(tests), f"fails: {', '.join(failed)}" if failed else "clear")


def alignment(decision: Decision) -> Measure:
    """How far the outcome is what was expected: the mean of what is known of cost, time and confidence.

    Cost and time: 1 − |actual − estimated| / max(actual, estimated). Confidence c with success s: 1 − (c − s)² (Brier).
    """
    outcome = decision.outcome
    if outcome is None:
        return UNKNOWN
    chosen = next((option for option in decision.options if option.name == decision.choice), Option(name=""))
    parts: list[tuple[str, float]] = []
    for name, estimated, actual in (
        ("cost", chosen.estimated_cost_usd, outcome.actual_cost_usd),
        ("time", chosen.estimated_time_ms, outcome.actual_time_ms),
    ):
        if estimated is not None and actual is not None and estimated >= 0 and actual >= 0:
            larger = max(estimated, actual)
            parts.append((name, 1 - abs(actual - estimated) / larger if larger else 1.0))
    if decision.confidence is not None and outcome.success is not None:
        parts.append(("confidence", 1 - (_clip(decision.confidence) - outcome.success) ** 2))
    if not parts:
        return UNKNOWN
    value = math.fsum(part for _, part in parts) / len(parts)
    return Measure(value, ", ".join(f"{name} {part:.2f}" for name, part in parts))


def _teaches(decision: Decision) -> Measure:
    weighed = sum(bool(option.pros or option.cons) for option in decision.options)
    return _any(
        {
            "several options weighed": 0.4 if weighed >= 2 else 0.0,
            "its outcome is known": 0.3 if decision.outcome is not None else 0.0,
            "clear reasoning": 0.3 * (clarity(decision.reasoning or "", decision).value or 0.0),
        }
    )


# -- tool calls, reasoning and learning value of an interaction


def _calls(messages: Sequence[Message]) -> Measure:
    """The share of tool calls that did not fail and do not repeat the very call before them."""
    total, good, failed, repeated = 0, 0, 0, 0
    before: ToolCall | None = None
    for call, result in calls_with_results(messages):
        total += 1
        again = before is not None and (before.name, before.arguments) == (call.name, call.arguments)
        bad = result is not None and is_failure(result)
        failed += bad
        repeated += again
        good += not (bad or again)
        before = call
    if not total:
        return UNKNOWN
    return Measure(good / total, f"{total} calls, {failed} failed, {repeated} repeated")


def calls_with_results(messages: Sequence[Message]) -> Iterator[tuple[ToolCall, str | None]]:
    """Every tool call with the text of its result; None where there is none. A result belongs to the last call of its id."""
    open_calls: list[tuple[ToolCall, str | None]] = []
    for message in messages:
        if role(message) == "assistant":
            yield from open_calls
            open_calls = [(call, None) for call in tool_calls(message)]
        elif role(message) == "tool":
            for at, (call, result) in enumerate(open_calls):
                if result is None and call.id == message.get("tool_call_id"):
                    open_calls[at] = call, text(message)
                    break
    yield from open_calls


def is_failure(result: str) -> bool:
    """Whether a tool's result says that it failed: it begins with an error's word, or is JSON with an error."""
    return _FAILED_RESULT.match(result) is not None


def _reasonings(interaction: Interaction, messages: Sequence[Message]) -> Iterator[str]:
    if isinstance(interaction.reasoning, str) and interaction.reasoning.strip():
        yield interaction.reasoning
    for message in messages:
        if role(message) != "assistant":
            continue
        for name in ("reasoning_content", "reasoning"):
            if isinstance(found := message.get(name), str) and found.strip():
                yield found
                break
        for call in tool_calls(message):
            if call.name == "think":
                yield from _thought(call.arguments)


def _thought(arguments: Any) -> Iterator[str]:
    """The text of a "think" tool, which agents are given to reason aloud."""
    try:
        plain = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return
    if isinstance(plain, dict):
        yield from (value for value in plain.values() if isinstance(value, str) and value.strip())


def _learning(
    interaction: Interaction,
    messages: Sequence[Message],
    said: Said,
    quality: TextQuality,
    decisions: Sequence[Decision],
) -> Measure:
    pairs = list(calls_with_results(messages))
    failures = [at for at, (_, result) in enumerate(pairs) if result is not None and is_failure(result)]
    recovered = any(
        call.name == pairs[at][0].name and result is not None and not is_failure(result)
        for at in failures
        for call, result in pairs[at + 1 :]
    )
    corrected = said.corrected or bool(quality.corrections)
    return _any(
        {
            "recovers from a failed call": 0.6 if recovered else 0.0,
            "a failure that is named": 0.3 if failures or interaction.error is not None else 0.0,
            "a correction": 0.5 if corrected else 0.0,
            "several tools": 0.2 if len({call.name for call, _ in pairs}) >= 2 else 0.0,
            "recorded decisions": 0.3 * max((_teaches(one).value or 0.0 for one in decisions), default=0.0),
        }
    )


def _any(parts: Mapping[str, float]) -> Measure:
    """1 − Π(1 − w): each reason to learn from adds to what is missing."""
    value = 1 - math.prod(1 - weight for weight in parts.values())
    there = [name for name, weight in parts.items() if weight]
    return Measure(value, ", ".join(there) if there else "nothing particular")


def _mean(values: Sequence[float], what: str) -> Measure:
    if not values:
        return UNKNOWN
    return Measure(_clip(math.fsum(values) / len(values)), f"mean of {len(values)} {what}")


def _mean_of(measures: Sequence[Measure]) -> Measure:
    known = [one for one in measures if one.value is not None]
    if not known:
        return UNKNOWN
    if len(known) == 1:
        return known[0]
    value = math.fsum(one.value or 0.0 for one in known) / len(known)
    worst = min(known, key=lambda one: one.value or 0.0)
    return Measure(value, f"mean of {len(known)}; the lowest: {worst.reason}")


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))
