"""How fast personal data is found and replaced, and how much of what was planted is found, beside Presidio's own rules.

`python -m benches.redaction`: the texts are those of the real trajectories (invented ones where they are not at hand), with
values of ten kinds planted into every fifth, whose places are known. Presidio runs its predefined pattern recognisers for
these kinds, without a language model, in the same process on the same texts; where it is not installed its columns are empty.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from time import process_time
from typing import Any

from stdnum import iban, luhn

from benches import results, trajectories
from tracemill.core.codec import encode
from tracemill.core.records import Interaction
from tracemill.privacy.detect import Detector
from tracemill.privacy.evaluate import Label, LabelledText
from tracemill.privacy.policies import STANDARD
from tracemill.privacy.redact import Redactor

RUNS = 3
Span = tuple[str, int, int]
Search = Callable[[str], list[Span]]
KINDS = {
    "email": "EMAIL_ADDRESS",
    "phone": "PHONE_NUMBER",
    "payment_card": "CREDIT_CARD",
    "iban": "IBAN_CODE",
    "ip_address": "IP_ADDRESS",
    "us_ssn": "US_SSN",
    "mac_address": "MAC_ADDRESS",
    "crypto_wallet": "CRYPTO",
    "uk_nhs": "UK_NHS",
    "es_nie": "ES_NIE",
}
"""Our kinds, and what Presidio calls them."""


def value(kind: str, drawn: random.Random) -> str:
    """A sentence with a value of a kind between signs, as it may stand in a chat."""

    def digits(count: int) -> str:
        return "".join(drawn.choice("0123456789") for _ in range(count))

    if kind == "payment_card":
        number = "4" + digits(14)
        number += luhn.calc_check_digit(number)
        return f"my card is «{' '.join(number[at : at + 4] for at in range(0, 16, 4))}»"
    if kind == "iban":
        bare = digits(18)
        return f"IBAN «DE{iban.calc_check_digits(f'DE00{bare}')}{bare}»"
    social = f"{drawn.randrange(100, 600)}-{drawn.randrange(10, 99)}-{drawn.randrange(1000, 9999)}"
    plain: dict[str, Callable[[], str]] = {
        "email": lambda: f"write to «user.{digits(4)}@mail{digits(2)}.example.com»",
        "phone": lambda: f"call me at «+1 212 555 {digits(4)}»",
        "ip_address": lambda: (
            f"my address is «{drawn.randrange(128, 200)}.{drawn.randrange(1, 255)}.7.{drawn.randrange(1, 255)}»"
        ),
        "us_ssn": lambda: f"my social security number is «{social}»",
        "mac_address": lambda: f"the card is «00:1B:44:{digits(2)}:3A:{digits(2)}»",
        "crypto_wallet": lambda: "pay to «1BoatSLRHtKNngkdXEeobR76b53LETtpyT»",
        "uk_nhs": lambda: "my NHS number is «943 476 5919»",
        "es_nie": lambda: "mi NIE es «X2482300W»",
    }
    return plain[kind]()


def texts() -> list[LabelledText]:
    """The texts with their labels; those of what was planted, not of what the real ones hold by themselves."""
    drawn = random.Random(5)
    records: Iterator[Interaction] = (
        trajectories.whole() if trajectories.REAL.exists() else iter(list(trajectories.single_turns(1000)))
    )
    found: list[LabelledText] = []
    for record in records:
        for message in record.messages:
            text = message.get("content")
            if not isinstance(text, str):
                continue
            if len(found) % 5:
                found.append(LabelledText(text))
                continue
            kind = drawn.choice(list(KINDS))
            planted = f"{text}\n{value(kind, drawn)}."
            start, end = planted.rindex("«"), planted.rindex("»") - 1
            found.append(LabelledText(planted.replace("«", "").replace("»", ""), [Label(kind, start, end)]))
    return found


def presidio(kinds: Sequence[str]) -> tuple[Search, str] | None:
    """Presidio's pattern recognisers for the kinds, and its version."""
    try:
        from presidio_analyzer import predefined_recognizers as known
    except ImportError:
        return None
    from importlib.metadata import version as version_of

    names = (
        "EmailRecognizer PhoneRecognizer CreditCardRecognizer IbanRecognizer IpRecognizer UsSsnRecognizer MacAddressRecognizer "
        "CryptoRecognizer NhsRecognizer EsNieRecognizer"
    )
    recognisers = [getattr(known, name)() for name in names.split() if hasattr(known, name)]
    ours = {KINDS[kind]: kind for kind in kinds}
    recognisers = [one for one in recognisers if ours.keys() & set(one.supported_entities)]

    def search(text: str) -> list[Span]:
        found: list[Span] = []
        for one in recognisers:
            results_ = one.analyze(text, one.supported_entities, None) or []
            found.extend((ours[hit.entity_type], hit.start, hit.end) for hit in results_ if hit.entity_type in ours)
        return found

    return search, version_of("presidio-analyzer")


def timed(search: Search, sample: list[LabelledText]) -> tuple[float, list[list[Span]]]:
    """Seconds of the processor for all texts (median), and what was found."""
    seconds, found = [], [search(one.text) for one in sample[:50]]  # what is loaded on first use is loaded
    for _ in range(RUNS):
        began = process_time()
        found = [search(one.text) for one in sample]
        seconds.append(process_time() - began)
    return results.middle(seconds), found


def line(name: str, search: Search, sample: list[LabelledText]) -> dict[str, Any]:
    """One line of the table."""
    size = sum(len(one.text.encode()) for one in sample) / 1e6
    seconds, found = timed(search, sample)
    planted = [(one, hits) for one, hits in zip(sample, found, strict=True) if one.spans]
    right = sum((one.spans[0].kind, one.spans[0].start, one.spans[0].end) in hits for one, hits in planted)
    touched = sum(
        any(start <= one.spans[0].start and end >= one.spans[0].end for _, start, end in hits) for one, hits in planted
    )
    return {
        "what": name,
        "MB": size,
        "MB/s": size / seconds,
        "planted": len(planted),
        "found exactly": right,
        "covered": touched,
        "recall": right / len(planted),
    }


def main() -> None:
    """Measure and write benches/results/redaction.*"""
    sample = texts()
    kinds, fewer = list(KINDS), [kind for kind in KINDS if kind != "phone"]

    def search(detector: Detector) -> Search:
        return lambda text: [(one.kind, one.start, one.end) for one in detector.find(text)]

    table = [line("tracemill, all kinds", search(Detector()), sample)]
    peer = presidio(kinds)
    without = [one for one in sample if not one.spans or one.spans[0].kind in fewer]
    for name, chosen, texts_ in (
        (f"{len(kinds)} kinds", kinds, sample),
        (f"{len(fewer)} kinds, no telephones", fewer, without),
    ):
        table.append(line(f"tracemill, {name}", search(Detector(chosen)), texts_))
        if (theirs := presidio(chosen)) is not None:
            table.append(line(f"Presidio, {name}", theirs[0], texts_))
    redactor = Redactor(STANDARD, bytes(32))
    records = list(trajectories.whole() if trajectories.REAL.exists() else trajectories.single_turns(1000))
    size = sum(len(encode(one)) for one in records) / 1e6
    seconds = []
    for _ in range(RUNS):
        began = process_time()
        for one in records:
            redactor.record(one)
        seconds.append(process_time() - began)
    table.append({"what": f"{len(records)} whole records redacted", "MB": size, "MB/s": size / results.middle(seconds)})
    results.write(
        "redaction",
        "Finding and replacing personal data",
        "python -m benches.redaction",
        table,
        [
            f"Median of {RUNS} runs, one thread, seconds of the processor. Found exactly: with its kind and both ends.",
            (
                f"presidio-analyzer {peer[1]}: its predefined pattern recognisers for these kinds, called one by one, "
                "without a language model. Its recogniser of telephone numbers takes most of its time."
                if peer
                else "presidio-analyzer is not installed here."
            ),
            "Whole records: two readings, JSON inside of text, known people, invented values, and the seal.",
        ],
    )


if __name__ == "__main__":
    main()
