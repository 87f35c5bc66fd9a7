"""Canaries: invented people whose data is sent the way of real data, to see what gets through.

A canary is an interaction that holds one invented value of each kind, in prose, in the arguments of a tool call and in its
result. The values have the shape and the check digits of real ones (:mod:`tracemill.privacy.invent`) and are drawn from a
seed, so that the same seed plants the same. What is looked for afterwards is the value itself, as it was planted.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tracemill.core.ids import EPOCH, derived_id
from tracemill.core.records import SCHEMA_VERSION, Interaction, Message

PRODUCER = "canary"
_KINDS: tuple[tuple[str, str, str, str], ...] = (
    ("person_name", "Orla Quist", "Hello, my name is {}.", "full_name"),
    ("email", "orla.quist@mail.example.com", "Write to {}.", "email"),
    ("phone", "+44 20 7946 0958", "You can call me at {} tomorrow.", "phone"),
    ("street_address", "742 Birch Hollow Lane", "I live at {} now.", "address"),
    ("date_of_birth", "12 March 1984", "I was born on {}.", "date_of_birth"),
    ("payment_card", "4111 1111 1111 1111", "Please charge card {}.", "card_number"),
    ("iban", "DE89 3704 0044 0532 0130 00", "My IBAN is {}.", "iban"),
    ("us_ssn", "536-90-4399", "My social security number is {}.", "ssn"),
    ("uk_nino", "AB 12 34 56 C", "My national insurance number is {}.", "nino"),
    ("es_dni", "54362315K", "Mi DNI es {}.", "dni"),
    ("ip_address", "84.17.52.9", "It came from {} last night.", "ip_address"),
    ("mac_address", "00:1B:44:11:3A:B7", "The network card is {}.", "mac_address"),
    ("vehicle_vin", "1M8GDM9AXKP042788", "The car has the VIN {}.", "vin"),
    ("passport", "X4471192", "My passport number is {}.", "passport_number"),
    ("customer_id", "K-99123", "My customer number is {}.", "customer_id"),
    ("medical_record_number", "A-4471-22", "The chart says MRN: {}.", "medical_record_number"),
    ("health_plan_number", "XEH123456789", "My member ID is {}.", "health_plan_number"),
    ("aws_access_key", "AKIA", "The key is {}.", "access_key_id"),
    ("github_token", "ghp_", "Use {} for the repository.", "token"),
    ("openai_key", "sk-proj-", "OPENAI_API_KEY={}", "api_key"),
    ("password", "Tr0ub4dor&3x", "My password is {}", "password"),
)
"""Kind, a value of its shape (of a key its beginning), the sentence it is said in, the field it stands in."""
_CAPITALS = string.ascii_uppercase + "234567"
_KEYS = {
    "aws_access_key": (16, _CAPITALS),
    "github_token": (36, string.ascii_letters + string.digits),
    "openai_key": (48, string.ascii_letters + string.digits),
}
"""How many letters follow the beginning of a provider's key, and which."""
KINDS: tuple[str, ...] = tuple(kind for kind, *_ in _KINDS)


@dataclass(frozen=True, slots=True)
class Canary:
    """An interaction, and the value of each kind that was planted in it."""

    interaction: Interaction
    planted: dict[str, str]


def canaries(count: int, seed: int) -> Iterator[Canary]:
    """So many canaries of a seed. Needs the packages of redaction: raises ImportError without them."""
    from tracemill.privacy.invent import Inventor  # noqa: PLC0415 - heavy, and an optional part

    key = hashlib.blake2b(f"canaries {seed}".encode(), digest_size=32).digest()
    for number in range(count):
        inventor = Inventor(key, f"canary {number}")
        planted: dict[str, str] = {}
        for kind, shape, _, _ in _KINDS:
            made = _key(key, number, kind, shape) if kind in _KEYS else inventor.invent(kind, shape)
            if made is not None:
                planted[kind] = made
        yield Canary(_interaction(number, seed, planted), planted)


def _key(key: bytes, number: int, kind: str, beginning: str) -> str:
    length, letters = _KEYS[kind]
    drawn = hashlib.shake_128(key + f"{number} {kind}".encode()).digest(length)
    return beginning + "".join(letters[byte % len(letters)] for byte in drawn)


def _interaction(number: int, seed: int, planted: dict[str, str]) -> Interaction:
    """Prose, arguments and result in turns, each kind in all three of them over three canaries."""
    said: list[str] = []
    arguments: dict[str, str] = {}
    result: dict[str, str] = {}
    for at, (kind, _, sentence, field) in enumerate(_KINDS):
        if kind in planted:
            place = (at + number) % 3
            if place == 0:
                said.append(sentence.format(planted[kind]))
            else:
                (arguments if place == 1 else result)[field] = planted[kind]
    call = {"name": "look_up_customer", "arguments": json.dumps(arguments)}
    messages: list[Message] = [
        {"role": "user", "content": " ".join(["I need some help with my account.", *said])},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"customer": result})},
    ]
    return Interaction(
        id=derived_id(PRODUCER, seed, number),
        time=EPOCH,
        schema_version=SCHEMA_VERSION,
        producer=PRODUCER,
        sequence=number,
        platform=PRODUCER,
        conversation_id=f"canary {seed} {number}",
        messages=messages,
        response={"role": "assistant", "content": "I have found your account and will look after it."},
        success=True,
    )


def measure(
    count: int, seed: int, through: Callable[[Interaction], Iterable[Any] | None]
) -> dict[str, tuple[int, int]]:
    """How many values of each kind got through and how many were planted, kinds in order.

    ``through`` sends an interaction the way of real ones and gives what comes out at its end: interactions or examples.
    None says that its way ended for a reason that is none of its content: such a canary tells nothing, and is not counted.
    """
    passed: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    for canary in canaries(count, seed):
        found = through(canary.interaction)
        came_out = "\n".join(_texts(msgspec.to_builtins(list(found or ()))))
        for kind, value in canary.planted.items():
            planted[kind] += found is not None
            passed[kind] += value in came_out
    return {kind: (passed[kind], planted[kind]) for kind in sorted(planted)}


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain data; of text that is JSON what it says, since JSON may write a letter in more than one way."""
    if isinstance(value, str):
        yield value
        if value[:1] in "{[":
            try:
                yield from _texts(json.loads(value))
            except (ValueError, RecursionError):
                return
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
