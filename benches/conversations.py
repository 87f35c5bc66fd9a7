"""Conversations by the million to measure builds with: about 4 KB each, words with the frequencies of English.

Of every hundred, some are planted to be left out: copies and changed copies of others, answers cut off or refused, answers
that go round in circles, conversations too short to learn from, runs that failed. The words are made up, their frequencies
those of Zipf's law with the lengths of English words, so that texts compress and share runs of words as prose does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from tracemill.core.codec import encode
from tracemill.core.ids import derived_id
from tracemill.core.records import Feedback, Interaction, Model, User

WORDS = 30_000
STREAM_WORDS = 4_000_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SYSTEM = (
    "You help the customers of a shop for household goods. Be brief and kind, ask when something is unclear, and never "
    "promise what the shop's terms do not say. Refunds go back to the card that was charged within five working days."
)
EXACT, NEAR, CUT, REFUSED, LOOPING, SHORT, FAILED = 0.02, 0.05, 0.02, 0.02, 0.01, 0.02, 0.04
TURNS = [(60, 160), (30, 180), (25, 160)]
SHORT_TURNS = [(3, 4)]
"""Words of each question and of its answer."""
_REFUSAL = "I'm sorry, but I can't help with that request."


class Prose:
    """Sentences cut out of one long stream of made-up words, each place of it as likely as any other."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        lengths = draw.choice(np.arange(1, 13), WORDS, p=_LENGTHS)
        shares = 1 / np.arange(2, len(letters) + 2)
        drawn = draw.choice(list(letters), int(lengths.sum()), p=shares / shares.sum())
        ends = np.cumsum(lengths)
        words = ["".join(drawn[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
        frequencies = 1 / np.arange(1, WORDS + 1) ** 1.05
        chosen = draw.choice(WORDS, STREAM_WORDS, p=frequencies / frequencies.sum())
        stops = draw.random(STREAM_WORDS) < 1 / 14
        made = [
            words[word] + (". " if stop else " ") for word, stop in zip(chosen.tolist(), stops.tolist(), strict=True)
        ]
        self.stream = "".join(made)
        self.begins = np.cumsum([0, *map(len, made)]).tolist()

    def text(self, draw: random.Random, words: int) -> str:
        """Some words that begin with a capital and end with a stop."""
        at = int(draw.random() * (STREAM_WORDS - words - 1))
        cut = self.stream[self.begins[at] : self.begins[at + words]].strip(" .")
        return f"{cut[:1].upper()}{cut[1:]}."


_LENGTHS = np.array([3, 17, 21, 16, 11, 9, 8, 6, 4, 3, 1, 1]) / 100
"""Shares of English words by their number of letters, from 1 to 12."""


def interactions(count: int, seed: int = 7) -> Iterator[Interaction]:
    """Conversations of three questions and answers. The first of more are the same as those of fewer."""
    prose = Prose(seed)
    recent: list[list[dict[str, Any]]] = []
    for number in range(count):
        draw = random.Random(seed * 1_000_003 + number)
        messages = _messages(prose, draw, recent)
        fields: dict[str, Any] = {}
        if draw.random() < CUT:
            fields["finish_reason"] = "length"
        yield Interaction(
            id=derived_id("bench", seed, number),
            time=BEGIN + timedelta(seconds=number),
            schema_version=1,
            producer="bench",
            sequence=number,
            platform=f"shop-{number % 4}",
            conversation_id=f"conversation-{number}",
            user=User(pseudonym=f"{number * 7919 % (count // 5 + 1):064x}", key_id="00000000"),
            model=Model(provider="openai", name="gpt-4o"),
            messages=messages[:-1],
            response=messages[-1],
            success=draw.random() >= FAILED,
            duration_ms=812.5,
            input_tokens=600,
            output_tokens=400,
            **fields,
        )


def _messages(prose: Prose, draw: random.Random, recent: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    kind = draw.random()
    if recent and kind < EXACT + NEAR:
        messages = recent[draw.randrange(len(recent))]
        if kind >= EXACT:
            at = draw.randrange(1, len(messages))
            changed = {**messages[at], "content": messages[at]["content"] + " " + prose.text(draw, 8)}
            messages = [*messages[:at], changed, *messages[at + 1 :]]
        return messages
    messages = [{"role": "system", "content": SYSTEM}]
    short = (kind := kind - EXACT - NEAR) < SHORT
    for asked, answered in SHORT_TURNS if short else TURNS:
        messages.append({"role": "user", "content": prose.text(draw, asked)})
        messages.append({"role": "assistant", "content": prose.text(draw, answered)})
    if (kind := kind - SHORT) < 0:
        return messages
    if kind < REFUSED:
        messages[-1] = {"role": "assistant", "content": _REFUSAL}
    elif kind < REFUSED + LOOPING:
        messages[-1] = {"role": "assistant", "content": (prose.text(draw, 6) + " ") * 20}
    elif len(recent) < 2000:
        recent.append(messages)
    else:
        recent[draw.randrange(len(recent))] = messages
    return messages


def encoded(count: int, seed: int = 7) -> Iterator[bytes]:
    """The conversations as a store takes them, with the thumb that one in twenty was given."""
    for number, record in enumerate(interactions(count, seed)):
        yield encode(record)
        if number % 20 == 0:
            yield encode(
                Feedback(
                    id=derived_id("bench feedback", seed, number),
                    time=record.time,
                    schema_version=1,
                    producer="bench",
                    sequence=count + number,
                    platform=record.platform,
                    interaction_id=record.id,
                    kind="thumbs_up" if number % 100 else "thumbs_down",
                )
            )
