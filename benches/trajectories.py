"""Records to measure with: the real trajectories where they are at hand, and single turns made of words."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tracemill.core.ids import derived_id, new_id, now
from tracemill.core.records import Interaction, Model, User

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "tau_bench_airline_gpt4o.json"
_MODEL = Model(provider="openai", name="gpt-4o")


def _base(number: int) -> dict[str, Any]:
    return {"id": new_id(), "time": now(), "schema_version": 1, "producer": "bench", "sequence": number}


def whole() -> Iterator[Interaction]:
    """The 200 real trajectories, one record each."""
    for number, run in enumerate(json.loads(REAL.read_bytes())):
        yield Interaction(
            **_base(number),
            platform="airline",
            kind="agent",
            conversation_id=f"airline-{run['task_id']}-{run['trial']}",
            model=_MODEL,
            messages=run["traj"],
            success=run["reward"] >= 1,
            task_id=str(run["task_id"]),
            trial=run["trial"],
        )


def logged_calls() -> Iterator[Interaction]:
    """The same as a proxy logs them: one record a model call, each with its whole history."""
    number = 0
    for run in json.loads(REAL.read_bytes()):
        for turn, message in enumerate(run["traj"]):
            if message["role"] != "assistant":
                continue
            number += 1
            yield Interaction(
                **_base(number),
                platform="airline",
                kind="agent",
                conversation_id=f"airline-{run['task_id']}-{run['trial']}",
                turn=turn,
                model=_MODEL,
                messages=run["traj"][:turn],
                response=message,
                success=True,
                duration_ms=400.0 + 13 * turn,
                input_tokens=900 + 60 * turn,
                output_tokens=40,
            )


def real_turns() -> Iterator[Interaction]:
    """Every question of the real trajectories with the answer to it, each as a conversation of its own."""
    number = 0
    for run in json.loads(REAL.read_bytes()):
        for asked, answer in pairwise(run["traj"]):
            if asked["role"] == "user" and answer["role"] == "assistant":
                number += 1
                yield Interaction(
                    **_base(number),
                    platform="airline",
                    conversation_id=derived_id("turn", number),
                    model=_MODEL,
                    messages=[asked],
                    response=answer,
                    success=True,
                    duration_ms=400.0 + number % 700,
                    input_tokens=90 + number % 60,
                    output_tokens=40,
                )


def single_turns(count: int, seed: int = 7) -> Iterator[Interaction]:
    """Single turns of about 2 KB each, of random words: the worst case for sharing and compression."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(8000)]
    for number in range(count):
        yield Interaction(
            **_base(number),
            platform="support",
            conversation_id=derived_id("bench", number),
            user=User(pseudonym=f"{number % 1000:064x}", key_id="00000000"),
            model=_MODEL,
            messages=[
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": " ".join(draw.choices(words, k=125))},
            ],
            response={"role": "assistant", "content": " ".join(draw.choices(words, k=125))},
            success=True,
            duration_ms=812.5,
            input_tokens=230,
            output_tokens=210,
        )
