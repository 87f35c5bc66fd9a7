"""Queries with a passage that the answer used, and one that was retrieved for it and not used.

Passages are an interaction's ``retrieved_chunks``, asked for by its last user message, and the results of tools that give
a list of texts, asked for by the call's ``query``. A passage is **used** when the answer shares at least :data:`FEWEST`
runs of three words with it, and these are at least :data:`SHARE` of the runs of whichever is shorter; **not used** when
it shares none. What lies between is neither. Runs that stand in the query, or in every passage, tell nothing and are left
out. Where a person corrected the answer, their text is the answer: what only the corrected one used is not used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tracemill.core.examples import RetrievalExample
from tracemill.core.messages import role, text, tool_calls, trajectory
from tracemill.core.records import AnyRecord, Feedback, Interaction, Message
from tracemill.core.steps import Drop
from tracemill.dataset.identity import identified
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.signals.confidence import BY_ANNOTATOR, USED_PASSAGE
from tracemill.dataset.signals.parts import parameters_of, rounds
from tracemill.feedback.attach import Attached
from tracemill.quality.text import words

FEWEST, SHARE = 3, 0.15
RUN = 3
"""Words of a run."""
MOST_PASSAGES, MOST_NEGATIVES = 50, 4
"""Passages of one retrieval that are looked at, and unused ones that a used one is put beside."""
SHORTEST = 5
"""Words of a passage."""
_TEXTS = ("text", "content", "page_content", "passage", "chunk", "snippet", "body", "document")
_LISTS = ("results", "documents", "chunks", "passages", "hits", "items", "matches", "data")
_QUERIES = ("query", "q", "question", "search_query", "search", "keywords")


@dataclass(frozen=True, slots=True)
class _Retrieved:
    """What was asked, what was found, and what was answered with it."""

    query: str
    passages: list[str]
    answer: str
    signal: str


def retrieval(
    interaction: Interaction, attached: Attached, recipe: Recipe, get: Callable[[str], AnyRecord | None]
) -> list[RetrievalExample] | Drop:
    """The examples of what was retrieved, or why there is none.

    Reasons: ``nothing_retrieved``, ``no_answer_given``, ``negative_feedback`` (without a correction), ``nothing_used``.
    """
    correction = _correction(attached, get)
    labels = attached.labels(recipe.scales)
    retrieved = list(_of_tools(trajectory(interaction)))
    if interaction.retrieved_chunks:
        retrieved.append(_of_chunks(interaction))
    retrieved = [one for one in retrieved if one.passages and one.query.strip()]
    if not retrieved:
        return Drop("nothing_retrieved")
    if correction is None and any(not label.positive for label in labels):
        return Drop("negative_feedback")
    examples: list[RetrievalExample] = []
    answered = False
    for one in retrieved:
        answer = correction.text if correction is not None and one is retrieved[-1] else one.answer
        answered = answered or bool(answer.strip())
        sources = [interaction.id, *([correction.id] if correction is not None and one is retrieved[-1] else [])]
        used, unused = judge_passages(one.query, one.passages, answer)
        confidence = correction.confidence if len(sources) > 1 and correction is not None else USED_PASSAGE
        negatives: list[str | None] = [*unused[:MOST_NEGATIVES]]
        for positive in used:
            for negative in negatives or [None]:
                example = RetrievalExample(
                    id="",
                    sources=sorted(sources),
                    signal=one.signal,
                    confidence=confidence,
                    human_validated=len(sources) > 1 and correction is not None and correction.human,
                    platform=interaction.platform,
                    task_id=interaction.task_id,
                    query=one.query,
                    positive=positive,
                    negative=negative,
                )
                examples.append(identified(example))
    return examples or Drop("nothing_used" if answered else "no_answer_given")


def judge_passages(query: str, passages: Sequence[str], answer: str) -> tuple[list[str], list[str]]:
    """The passages that the answer used, and those it did not; see the module."""
    found = {passage: _runs(passage) for passage in passages}
    telling_nothing = _runs(query) | (set.intersection(*found.values()) if len(found) > 1 else set())
    said = _runs(answer) - telling_nothing
    used, unused = [], []
    for passage, runs in found.items():
        rest = runs - telling_nothing
        shared = len(rest & said)
        if shared >= FEWEST and shared >= SHARE * min(len(rest), len(said)):
            used.append(passage)
        elif not shared:
            unused.append(passage)
    return used, unused


def _runs(value: str) -> set[tuple[str, ...]]:
    found = words(value)
    return {tuple(found[at : at + RUN]) for at in range(len(found) - RUN + 1)}


@dataclass(frozen=True, slots=True)
class _Corrected:
    id: str
    text: str
    human: bool
    confidence: float


def _correction(attached: Attached, get: Callable[[str], AnyRecord | None]) -> _Corrected | None:
    """The latest corrected text of the answer."""
    for record_id in reversed(attached.corrections()):
        record = get(record_id)
        if isinstance(record, Feedback) and isinstance(record.correction, str) and record.correction.strip():
            human = record.annotator_kind == "HUMAN"
            return _Corrected(
                record.id, record.correction, human, min(USED_PASSAGE, BY_ANNOTATOR[record.annotator_kind])
            )
    return None


def _of_chunks(interaction: Interaction) -> _Retrieved:
    messages = trajectory(interaction)
    query = next((text(message) for message in reversed(interaction.messages) if role(message) == "user"), "")
    answer = text(messages[-1]) if messages and role(messages[-1]) == "assistant" else ""
    return _Retrieved(query, _passages(interaction.retrieved_chunks), answer, "retrieved_chunks")


def _of_tools(messages: Sequence[Message]) -> Iterator[_Retrieved]:
    for one in rounds(messages):
        answer = _answer_after(messages, one.end)
        for call in one.calls:
            found, parameters = one.result(call), parameters_of(call)
            if found is None or not isinstance(parameters, dict):
                continue
            query = next((parameters[name] for name in _QUERIES if isinstance(parameters.get(name), str)), "")
            if query:
                yield _Retrieved(query, _passages(_as_list(text(found))), answer, "tool_result")


def _answer_after(messages: Sequence[Message], start: int) -> str:
    """The first text without tool calls that the assistant says before a user speaks again."""
    for message in messages[start:]:
        if role(message) == "user":
            break
        if role(message) == "assistant" and not any(tool_calls(message)):
            return text(message)
    return ""


def _as_list(content: str) -> list[Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, dict):
        value = next((value[name] for name in _LISTS if isinstance(value.get(name), list)), [])
    return value if isinstance(value, list) else []


def _passages(chunks: Sequence[Any]) -> list[str]:
    """The different texts of some chunks, each long enough to be told apart, in order."""
    found: dict[str, None] = {}
    for chunk in chunks[:MOST_PASSAGES]:
        said = chunk
        if isinstance(chunk, dict):
            said = next((chunk[name] for name in _TEXTS if isinstance(chunk.get(name), str)), None)
        if isinstance(said, str) and len(words(said)) >= SHORTEST:
            found[said] = None
    return list(found)
