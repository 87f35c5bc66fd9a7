"""Bad records planted among the real trajectories are found, and the real ones are left alone."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import tau_bench
from tracemill.core.ids import derived_id
from tracemill.core.messages import text, tool_calls, trajectory
from tracemill.core.records import Interaction, Message
from tracemill.quality.documents import document
from tracemill.quality.duplicates import Document, DuplicateIndex
from tracemill.quality.text import measure_text

REFUSED = (
    "I'm sorry, but I can't assist with that.",
    "I cannot fulfill this request.",
    "Sorry, I am unable to help with that request.",
    "As an AI language model, I do not have the ability to make bookings.",
    "I apologize, but I won't be able to help you with this.",
    "I can’t help with that. Is there anything else on your mind?",
    "I'm not able to provide that information.",
    "I must respectfully decline.",
    "Unfortunately I can't comply with your request, as it goes against my guidelines.",
    "I'm sorry, I cannot discuss this topic.",
    "I don't feel comfortable continuing this conversation.",
    "I'm just an AI and cannot do this.",
)
FOUND, DROPPED = 0.95, 0.02


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[Interaction]:
    path = shared_data / "tau_bench_airline_gpt4o.json"
    return [record for record in tau_bench(path) if isinstance(record, Interaction)]


def _with(record: Interaction, messages: list[Message], what: str, **fields: Any) -> Interaction:
    return msgspec.structs.replace(record, id=derived_id(what, record.id), messages=messages, **fields)


def _spoken(messages: list[Message]) -> list[int]:
    """The places of the assistant's turns to the user that have something to cut."""
    return [
        at
        for at, message in enumerate(messages)
        if message["role"] == "assistant" and not message.get("tool_calls") and len(text(message).split()) >= 12
    ]


# -- what is planted


def cut_in_a_sentence(record: Interaction, draw: random.Random) -> Interaction:
    at = draw.choice(_spoken(record.messages))
    content = text(record.messages[at])
    cut = draw.randrange(len(content) // 4, len(content) - 10)
    while not content[cut - 1].isalpha() or not content[cut].isalpha():  # the limit fell inside a word
        cut += 1
    return _with(record, [*record.messages[:at], {"role": "assistant", "content": content[:cut]}], "cut")


def cut_anywhere_with_a_finish_reason(record: Interaction, draw: random.Random) -> Interaction:
    at = draw.choice(_spoken(record.messages))
    content = text(record.messages[at])
    answer = {"role": "assistant", "content": content[: draw.randrange(1, len(content))]}
    return _with(record, record.messages[:at], "limit", response=answer, finish_reason="length")


def stopped_after_a_question(record: Interaction, draw: random.Random) -> Interaction:
    asked = [at for at, message in enumerate(record.messages) if message["role"] == "user"][:-1]
    return _with(record, record.messages[: draw.choice(asked[: max(1, len(asked) // 2)]) + 1], "asked")


def stopped_after_a_call(record: Interaction, draw: random.Random) -> Interaction:
    calls = [at for at, message in enumerate(record.messages) if list(tool_calls(message))]
    return _with(record, record.messages[: draw.choice(calls) + 1], "called")


def without_a_result(record: Interaction, draw: random.Random) -> Interaction:
    results = [at for at, message in enumerate(record.messages) if message["role"] == "tool"]
    at = draw.choice(results)
    return _with(record, record.messages[:at] + record.messages[at + 1 :], "lost result")


def without_a_call(record: Interaction, draw: random.Random) -> Interaction:
    calls = [at for at, message in enumerate(record.messages) if list(tool_calls(message))]
    at = draw.choice(calls)
    return _with(record, record.messages[:at] + record.messages[at + 1 :], "lost call")


def with_broken_arguments(record: Interaction, draw: random.Random) -> Interaction:
    calls = [at for at, message in enumerate(record.messages) if list(tool_calls(message))]
    messages = json.loads(json.dumps(record.messages))
    function = messages[draw.choice(calls)]["tool_calls"][0]["function"]
    function["arguments"] = function["arguments"][: draw.randrange(1, len(function["arguments"]))]
    return _with(record, messages, "broken arguments")


def refused(record: Interaction, draw: random.Random) -> Interaction:
    at = draw.choice(_spoken(record.messages))
    return _with(record, [*record.messages[:at], {"role": "assistant", "content": draw.choice(REFUSED)}], "refused")


def nearly_the_same(record: Interaction, draw: random.Random) -> Interaction:
    """A copy with up to one word in fifty of what was said exchanged, and other call ids."""
    messages = json.loads(json.dumps(record.messages).replace("call_", "call_x"))
    vocabulary = document(record.messages).split()
    for message in messages:
        if message["role"] in ("user", "assistant") and message["content"]:
            message["content"] = " ".join(
                draw.choice(vocabulary) if draw.random() < 0.02 else word for word in message["content"].split(" ")
            )
    return _with(record, messages, "copy", conversation_id=None)


PLANTS: tuple[Callable[[Interaction, random.Random], Interaction], ...] = (
    cut_in_a_sentence,
    cut_anywhere_with_a_finish_reason,
    stopped_after_a_question,
    stopped_after_a_call,
    without_a_result,
    without_a_call,
    with_broken_arguments,
    refused,
)


def fit(record: Interaction) -> bool:
    """Whether every kind of damage can be done to a record."""
    tools = sum(message["role"] == "tool" for message in record.messages)
    return tools >= 2 and len(_spoken(record.messages)) >= 2


def test_planted_defects_are_found_and_the_real_are_left_alone(real: list[Interaction]) -> None:
    found: Counter[str] = Counter()
    missed: list[str] = []
    planted: Counter[str] = Counter()
    for record, seed in product(filter(fit, real), (1, 2)):
        for plant in PLANTS:
            bad = plant(record, random.Random(f"{record.id} {seed}"))
            planted[plant.__name__] += 1
            if measure_text(bad).defects():
                found[plant.__name__] += 1
            else:
                missed.append(f"{plant.__name__}: …{text(trajectory(bad)[-1])[-100:]!r}")
    assert min(planted.values()) >= 100
    assert found.total() / planted.total() >= FOUND, missed
    for name, count in planted.items():
        assert found[name] / count >= 0.85, (name, missed)
    dropped = [record.id for record in real if measure_text(record).defects()]
    assert len(dropped) / len(real) <= DROPPED


def test_planted_copies_are_found_and_the_real_are_left_alone(real: list[Interaction]) -> None:
    draw = random.Random(29)
    chosen = draw.sample(real, 100)
    copies = {nearly_the_same(record, draw).id: record.id for record in chosen}
    draw.seed(29)
    draw.sample(real, 100)
    documents = [Document(record.id, document(record.messages), 1.0) for record in real]
    documents += [
        Document(bad.id, document(bad.messages)) for bad in (nearly_the_same(record, draw) for record in chosen)
    ]
    draw.shuffle(documents)
    index = DuplicateIndex()
    index.add(documents)
    dropped = {duplicate.id: duplicate.kept for duplicate in index.duplicates()}
    assert sum(dropped.get(copy) == source for copy, source in copies.items()) / len(copies) >= FOUND
    assert sum(record.id in dropped for record in real) / len(real) <= DROPPED
