"""Bad records planted among the real trajectories, on two halves of them: `python -m benches.planted`.

The halves are by task, so that no task is in both. On the first half other values of the limits are tried; those in force are
measured on the second. Refusals are planted in the first half in wordings that the phrases were written for, in the second in
others, which they were not.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Literal, TypeAlias

import msgspec

from benches import results
from benches.trajectories import whole
from tracemill.core.ids import derived_id
from tracemill.core.messages import text, tool_calls
from tracemill.core.records import Interaction, Message
from tracemill.core.steps import Drop
from tracemill.dataset.privacy_rule import PrivacyViolations
from tracemill.quality import endings
from tracemill.quality import text as rules
from tracemill.quality.documents import document
from tracemill.quality.duplicates import Document, DuplicateIndex

Half: TypeAlias = Literal["looked at", "held out"]
HALVES: tuple[Half, ...] = ("looked at", "held out")
SEEDS = (1, 2)
KNOWN_REFUSALS = (
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
    "I'm going to have to pass on this one.",
    "I'm afraid that is outside of my capabilities.",
    "I don't have the ability to do that.",
    "I am not authorized to handle that.",
    "I won't be doing that.",
    "This is not something I'm able to support.",
    "I'm sorry, but I have no way of doing that.",
    "It would not be appropriate for me to help with this.",
    "Your request can't be completed by me.",
    "No, I will not help you with that.",
    "As an assistant I am not allowed to answer such questions.",
    "I cannot be of assistance here.",
)
OTHER_REFUSALS = (
    "That isn't something I can do for you.",
    "Regrettably, this request falls outside what I am permitted to do.",
    "Sorry, but that's not possible for me.",
    "My apologies, but I can't continue with this.",
    "I'd rather not answer that.",
    "I need to stop here, as this request isn't appropriate.",
    "I can't do that.",
    "I'm not in a position to assist you further with this matter.",
    "I'm sorry, but I must refuse.",
    "I'm sorry, I'm afraid I can't do what you are asking.",
    "Unfortunately, I'm unable to proceed with what you've asked.",
    "Apologies, this goes beyond what I'm able to offer.",
)
"""Wordings that no phrase was written for. They are here to measure that, and must stay so."""
SECRETS = PrivacyViolations()


def half_of(record: Interaction) -> Half:
    """The half that a record's task belongs to: by a digest, so that it is no choice of anybody's."""
    digest = hashlib.sha256(f"task {record.task_id}".encode()).digest()
    return HALVES[digest[0] % 2]


def real() -> list[Interaction]:
    """The real trajectories, with the same ids in every run."""
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        msgspec.structs.replace(record, id=derived_id("planted", str(record.conversation_id)), time=time)
        for record in whole()
    ]


def _with(record: Interaction, messages: list[Message], what: str, **fields: Any) -> Interaction:
    return msgspec.structs.replace(record, id=derived_id(what, record.id), messages=messages, **fields)


def spoken(messages: Sequence[Message]) -> list[int]:
    """The places of the assistant's turns to the user that have something to cut."""
    return [
        at
        for at, message in enumerate(messages)
        if message["role"] == "assistant" and not message.get("tool_calls") and len(text(message).split()) >= 12
    ]


def _calls(messages: Sequence[Message]) -> list[int]:
    return [at for at, message in enumerate(messages) if list(tool_calls(message))]


def fit(record: Interaction) -> bool:
    """Whether every kind of damage can be done to a record."""
    tools = sum(message["role"] == "tool" for message in record.messages)
    return tools >= 2 and len(spoken(record.messages)) >= 2


# -- what is planted


def cut_in_a_sentence(record: Interaction, draw: random.Random) -> Interaction:
    """The last answer ends inside a word, with nothing to say so."""
    at = draw.choice(spoken(record.messages))
    content = text(record.messages[at])
    cut = draw.randrange(len(content) // 4, len(content) - 10)
    while not content[cut - 1].isalpha() or not content[cut].isalpha():  # the limit fell inside a word
        cut += 1
    return _with(record, [*record.messages[:at], {"role": "assistant", "content": content[:cut]}], "cut")


def cut_anywhere_with_a_finish_reason(record: Interaction, draw: random.Random) -> Interaction:
    """The response ends anywhere, and the model said that it reached its limit."""
    at = draw.choice(spoken(record.messages))
    content = text(record.messages[at])
    answer = {"role": "assistant", "content": content[: draw.randrange(1, len(content))]}
    return _with(record, record.messages[:at], "limit", response=answer, finish_reason="length")


def stopped_after_a_question(record: Interaction, draw: random.Random) -> Interaction:
    """Nothing comes after a question of the first half."""
    asked = [at for at, message in enumerate(record.messages) if message["role"] == "user"][:-1]
    return _with(record, record.messages[: draw.choice(asked[: max(1, len(asked) // 2)]) + 1], "asked")


def stopped_after_a_call(record: Interaction, draw: random.Random) -> Interaction:
    """Nothing comes after a call."""
    return _with(record, record.messages[: draw.choice(_calls(record.messages)) + 1], "called")


def without_a_result(record: Interaction, draw: random.Random) -> Interaction:
    """A tool's result is lost."""
    at = draw.choice([at for at, message in enumerate(record.messages) if message["role"] == "tool"])
    return _with(record, record.messages[:at] + record.messages[at + 1 :], "lost result")


def without_a_call(record: Interaction, draw: random.Random) -> Interaction:
    """A call is lost, its result is there."""
    at = draw.choice(_calls(record.messages))
    return _with(record, record.messages[:at] + record.messages[at + 1 :], "lost call")


def with_broken_arguments(record: Interaction, draw: random.Random) -> Interaction:
    """The arguments of a call end too early."""
    messages = json.loads(json.dumps(record.messages))
    function = messages[draw.choice(_calls(messages))]["tool_calls"][0]["function"]
    function["arguments"] = function["arguments"][: draw.randrange(1, len(function["arguments"]))]
    return _with(record, messages, "broken arguments")


def refused(record: Interaction, draw: random.Random) -> Interaction:
    """The last answer is a refusal, in wordings by the half."""
    at = draw.choice(spoken(record.messages))
    wordings = KNOWN_REFUSALS if half_of(record) == "looked at" else OTHER_REFUSALS
    return _with(record, [*record.messages[:at], {"role": "assistant", "content": draw.choice(wordings)}], "refused")


def said_again(record: Interaction, draw: random.Random) -> Interaction:
    """An answer that falls into a loop: its end comes again, eight times or more."""
    at = draw.choice([at for at in spoken(record.messages) if len(text(record.messages[at]).split()) >= 12])
    said = text(record.messages[at]).split(" ")
    loop = " ".join(said[-draw.randrange(6, 12) :])
    content = " ".join([*said, *[loop] * draw.randrange(8, 16)])
    return _with(record, [*record.messages[:at], {"role": "assistant", "content": content}], "again")


def called_again(record: Interaction, draw: random.Random) -> Interaction:
    """A call that is made three times more, with the same result."""
    messages = record.messages
    answered = [at for at in _calls(messages) if at + 1 < len(messages) and messages[at + 1]["role"] == "tool"]
    at = draw.choice(answered)
    again: list[Message] = []
    for number in range(3):
        pair = json.loads(json.dumps(messages[at : at + 2]))
        pair[1]["tool_call_id"] = pair[0]["tool_calls"][0]["id"] = f"again_{number}"
        again += pair
    return _with(record, [*messages[: at + 2], *again, *messages[at + 2 :]], "loop")


def with_a_secret(record: Interaction, draw: random.Random) -> Interaction:
    """A key, a password or a token that a user or a tool lets slip."""
    characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    random_text = "".join(draw.choices(characters, k=36))
    key_id = "".join(draw.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))  # as Amazon writes them
    kinds = (
        f"my password is {random_text[:12]}!",
        f"api_key={random_text}",
        f"use ghp_{random_text} for it",
        f"AKIA{key_id}",
        f"postgresql://agent:{random_text[:14]}@db.example.com/bookings",
        f"Authorization: Bearer {random_text}",
    )
    messages = json.loads(json.dumps(record.messages))
    message = messages[draw.choice([at for at, one in enumerate(messages) if one["role"] == "user"])]
    message["content"] = f"{text(message)} {draw.choice(kinds)}"
    return _with(record, messages, "secret")


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
    said_again,
    called_again,
)
"""What the text rules should find."""


# -- what is found


class Found(msgspec.Struct, kw_only=True):
    """How many of each kind were planted and found, what was missed, and how many real ones have a defect."""

    planted: Counter[str]
    found: Counter[str]
    missed: list[tuple[str, Interaction]]
    real: int
    dropped: list[str]

    def share(self, *without: str) -> float:
        """The share of planted records that were found, some kinds left out."""
        names = self.planted.keys() - set(without)
        return sum(self.found[name] for name in names) / sum(self.planted[name] for name in names)


def is_found(record: Interaction) -> bool:
    """Whether the text rules find a defect."""
    return bool(rules.measure_text(record).defects())


def has_secret(record: Interaction) -> bool:
    """Whether the step ``privacy_violations`` drops a record."""
    return isinstance(SECRETS(record), Drop)


def bad_records(
    records: Sequence[Interaction], plants: Sequence[Callable[[Interaction, random.Random], Interaction]] = PLANTS
) -> list[tuple[str, Interaction]]:
    """Each kind of damage done to each record that can take it, once a seed."""
    return [
        (plant.__name__, plant(record, random.Random(f"{record.id} {seed}")))
        for record in filter(fit, records)
        for seed in SEEDS
        for plant in plants
    ]


def measure(
    bad: Sequence[tuple[str, Interaction]],
    good: Sequence[Interaction],
    finds: Callable[[Interaction], bool] = is_found,
) -> Found:
    """What a rule finds among bad and good records."""
    hits = [finds(record) for _, record in bad]
    return Found(
        planted=Counter(name for name, _ in bad),
        found=Counter(name for (name, _), hit in zip(bad, hits, strict=True) if hit),
        missed=[one for one, hit in zip(bad, hits, strict=True) if not hit],
        real=len(good),
        dropped=[record.id for record in good if finds(record)],
    )


def measure_copies(records: Sequence[Interaction], threshold: float = 0.8) -> Found:
    """A copy of every second record among all of them: found where the record itself stands for it."""
    chosen = records[::2]
    copies = [nearly_the_same(record, random.Random(f"{record.id} copy")) for record in chosen]
    documents = [Document(record.id, document(record.messages), 1.0) for record in records]
    documents += [Document(copy.id, document(copy.messages)) for copy in copies]
    random.Random(29).shuffle(documents)
    index = DuplicateIndex(threshold)
    index.add(documents)
    kept = {duplicate.id: duplicate.kept for duplicate in index.duplicates()}
    pairs = list(zip(copies, chosen, strict=True))
    return Found(
        planted=Counter({"nearly_the_same": len(copies)}),
        found=Counter({"nearly_the_same": sum(kept.get(copy.id) == record.id for copy, record in pairs)}),
        missed=[("nearly_the_same", copy) for copy, record in pairs if kept.get(copy.id) != record.id],
        real=len(records),
        dropped=[record.id for record in records if record.id in kept],
    )


# -- other limits, on the first half

OTHERS: tuple[tuple[ModuleType, str, tuple[Any, ...]], ...] = (
    (endings, "FRAGMENT", (2, 3, 6, 10)),
    (endings, "SHORTEST", (4, 6, 12, 20)),
    (rules, "LONGEST_REFUSAL", (20, 40, 120)),
    (rules, "SHORTEST_JUDGED", (20, 100, 200)),
    (rules, "REPEATED_SHARE", (0.1, 0.2, 0.5)),
    (rules, "REPEATED_LINES", (0.2, 0.3, 0.8)),
    (rules, "TOP_NGRAMS", ({2: 0.1, 3: 0.09, 4: 0.08}, {2: 0.4, 3: 0.36, 4: 0.32})),
    (rules, "LOOP", (2, 4, 5)),
)
COPY_THRESHOLDS = (0.5, 0.7, 0.9)


@contextmanager
def other_limit(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """A limit with another value for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _row(half: Half, what: str, limit: str, measured: Found, name: str | None = None) -> dict[str, Any]:
    planted = measured.planted.total() if name is None else measured.planted[name]
    found = measured.found.total() if name is None else measured.found[name]
    row = {"half": half, "what": what, "limits": limit, "planted": planted, "found": found}
    dropped = f"{len(measured.dropped)} of {measured.real}" if name is None else ""
    return {**row, "% found": 100 * found / planted, "real ones dropped": dropped}


def main() -> None:
    """Measure both halves, and other limits on the first."""
    halves = {half: [record for record in real() if half_of(record) == half] for half in HALVES}
    rows: list[dict[str, Any]] = []
    for half, records in halves.items():
        texts = measure(bad_records(records), records)
        rows += [_row(half, name.replace("_", " "), "in force", texts, name) for name in texts.planted]
        rows.append(_row(half, "all of these", "in force", texts))
        rows.append(_row(half, "near duplicates", "in force", measure_copies(records)))
        secrets = measure(bad_records(records, (with_a_secret,)), records, has_secret)
        rows.append(_row(half, "with a secret", "in force", secrets))
    records = halves["looked at"]
    bad = bad_records(records)
    for module, name, values in OTHERS:
        for value in values:
            with other_limit(module, name, value):
                rows.append(_row("looked at", "all of these", f"{name} = {value}", measure(bad, records)))
    for threshold in COPY_THRESHOLDS:
        limit = f"threshold = {threshold}"
        rows.append(_row("looked at", "near duplicates", limit, measure_copies(records, threshold)))
    tasks = {half: len({record.task_id for record in records}) for half, records in halves.items()}
    sizes = " and ".join(f"{tasks[half]} tasks in {len(halves[half])} trajectories {half}" for half in HALVES)
    notes = [
        f"Halves by a digest of the task: {sizes}.",
        "Each kind of damage is done twice to each trajectory that can take every kind.",
        "Refusals of the half held out are in 12 wordings that no phrase was written for.",
    ]
    results.write("planted", "Bad records among real ones", "python -m benches.planted", rows, notes)


if __name__ == "__main__":
    main()
