"""How far a judge and people agree where both said something of the same interaction.

People: ``opinion`` is thumbs, ratings (4 and 5 for, 1 and 2 against) by the majority, a tie left out; ``validation`` is whether
all validations passed. The judge: each measure, above one half for and below it against; exactly one half is neither.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from msgspec import Struct

from tracemill.core.records import Interaction
from tracemill.drawing.measures import Rate, rate
from tracemill.feedback.attach import NEGATIVE_RATING, POSITIVE_RATING, Attached, Attachments, Check, attach
from tracemill.quality.judge import RUBRIC
from tracemill.store.base import Filter, Store

RESAMPLES = 1000
_SEED = 20_260_301


class Agreement(Struct, frozen=True, kw_only=True):
    """One human source and one measure of the judge, over the records that both judged.

    ``table`` counts (for and for, people for alone, judge for alone, against and against). ``agree`` is the share of equal
    verdicts with its Wilson interval. ``kappa`` is Cohen's (1960): (p − e) / (1 − e) with p the share of equal verdicts and e
    the share expected when both keep their own rates and know nothing of each other; None where both always say one and the
    same thing. Its interval holds the middle 95 % of 1,000 bootstrap samples.
    """

    human: str
    judge: str
    both: int
    table: tuple[int, int, int, int]
    agree: Rate
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None


def cohen(table: tuple[int, int, int, int]) -> float | None:
    """Cohen's kappa of a table as :class:`Agreement` has it; None without records, or without any variation."""
    total = sum(table)
    if not total:
        return None
    both, people, judge, neither = table
    one, other = (both + people) / total, (both + judge) / total
    expected = one * other + (1 - one) * (1 - other)
    if math.isclose(expected, 1):
        return None
    return ((both + neither) / total - expected) / (1 - expected)


def agreement(human: str, judge: str, table: tuple[int, int, int, int]) -> Agreement:
    """Everything of one table; a pure function, whose resamples are the same every time."""
    low, high = _bootstrap(table)
    return Agreement(
        human=human,
        judge=judge,
        both=sum(table),
        table=table,
        agree=rate(table[0] + table[3], sum(table)),
        kappa=cohen(table),
        kappa_low=low,
        kappa_high=high,
    )


def _bootstrap(table: tuple[int, int, int, int]) -> tuple[float | None, float | None]:
    """The 2.5 % and 97.5 % quantiles of kappa over resampled tables; those without a kappa are left out."""
    total, source = sum(table), random.Random(_SEED)
    if cohen(table) is None:
        return None, None
    cells = [cell for cell, count in enumerate(table) for _ in range(count)]
    found = []
    for _ in range(RESAMPLES):
        drawn = [0, 0, 0, 0]
        for _ in range(total):
            drawn[cells[int(source.random() * total)]] += 1
        if (value := cohen((drawn[0], drawn[1], drawn[2], drawn[3]))) is not None:
            found.append(value)
    ordered = sorted(found)
    if not ordered:
        return None, None
    last = len(ordered) - 1
    return ordered[math.floor(0.025 * last)], ordered[math.ceil(0.975 * last)]


def agreements(store: Store, *, platform: str | None = None) -> list[Agreement]:
    """Every human source with every measure of the judge that they have records in common of, by their names."""
    tables: dict[tuple[str, str], list[int]] = {}
    attachments = attach(store)
    for identity in sorted(_wanted(store, attachments, platform)):
        attached = attachments.of(identity)
        judged = {name: value for name in RUBRIC if (value := _judged(attached, name)) is not None}
        for source, human in (("opinion", _opinion(attached)), ("validation", _validated(attached.validations))):
            if human is None:
                continue
            for name, verdict in judged.items():
                cells = tables.setdefault((source, name), [0, 0, 0, 0])
                cells[2 * (not human) + (not verdict)] += 1
    return [
        agreement(human, judge, (cells[0], cells[1], cells[2], cells[3]))
        for (human, judge), cells in sorted(tables.items())
    ]


def _wanted(store: Store, attachments: Attachments, platform: str | None) -> Iterator[str]:
    if platform is None:
        yield from attachments.targets()
        return
    for record in store.scan(Filter(types=("interaction",), platforms=(platform,))):
        if isinstance(record, Interaction):
            yield record.id


def _judged(attached: Attached, name: str) -> bool | None:
    values = [value for _, kind, value in attached.scored(f"judge.{name}") if kind == "LLM"]
    mean = math.fsum(values) / len(values) if values else 0.5
    return None if mean == 0.5 else mean > 0.5


def _opinion(attached: Attached) -> bool | None:
    votes = 0
    for mark in attached.feedback:
        if mark.annotator_kind != "HUMAN" or mark.about_step:
            continue
        if mark.kind in ("thumbs_up", "thumbs_down"):
            votes += 1 if mark.kind == "thumbs_up" else -1
        elif mark.rating is not None and not NEGATIVE_RATING < mark.rating < POSITIVE_RATING:
            votes += 1 if mark.rating >= POSITIVE_RATING else -1
    return None if votes == 0 else votes > 0


def _validated(checks: tuple[Check, ...]) -> bool | None:
    verdicts = [check.passed for check in checks if check.passed is not None]
    return all(verdicts) if verdicts else None
