"""Statistics of a store: sums from its daily roll-ups, everything else from one pass over the newest bodies.

Counts, success, tokens, costs, mean times and bytes come from sums the store maintains and cost nothing to read. Lengths,
quantiles, causes, contexts, trajectories and patterns need the bodies: one streaming pass, which can be limited to the
newest records or left out. See :mod:`tracemill.drawing.measures` for the formulas.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date

from tracemill.core.records import RECORD_TYPES
from tracemill.core.steps import Progress
from tracemill.drawing.measures import rate, shares
from tracemill.insight.figures import Day, Group, Outcomes, Scope, Statistics, ToolUse
from tracemill.insight.patterns import ToolPerformance
from tracemill.insight.reading import Reading
from tracemill.store.base import DailyRow, Filter, Store, ToolRow

__all__ = ["Statistics", "collect_statistics"]

_READ = tuple(tag for tag in RECORD_TYPES if tag != "consent")
_STAGE = "reading records"


def collect_statistics(
    store: Store,
    *,
    platform: str | None = None,
    bodies: bool = True,
    newest: int | None = None,
    patterns: int = 20,
    progress: Progress | None = None,
) -> Statistics:
    """The statistics of everything stored, or of one platform.

    ``bodies=False`` leaves out the pass over the content, ``newest`` limits it to that many places at the end of the order
    of storing. ``patterns`` is how many tool sequences to give. Under a platform, records that name no platform (feedback
    may) are not counted. Raises what the store raises.
    """
    watermark = store.watermark()
    days, tool_rows = store.daily(platform=platform), store.daily_tools(platform=platform)
    reading = Reading()
    if bodies:
        where = Filter(
            types=_READ,
            platforms=() if platform is None else (platform,),
            after=0 if newest is None else max(0, watermark - newest),
            up_to=watermark,
        )
        total = store.count(where) if progress is not None else None
        for done in reading.take(store.scan(where)):
            if progress is not None:
                progress(_STAGE, done, total)
    interactions = [row for row in days if row.type == "interaction"]
    return Statistics(
        scope=_scope(days, platform, reading.records, watermark),
        outcomes=_outcomes(interactions, reading),
        tools=_tools(tool_rows, reading.patterns.tools()),
        chats=reading.interactions.chats(),
        failures=reading.interactions.failures(),
        contexts=reading.interactions.context_rates(),
        trajectories=reading.trajectories.figures(),
        patterns=reading.patterns.patterns(patterns),
        feedback=reading.feedback.figures(reading.interactions.count),
        validations=reading.validations.figures(),
        decisions=reading.decisions.figures(),
        sessions=reading.sessions.figures(),
        platforms=_groups(interactions, "platform", reading),
        models=_groups(interactions, "label", reading),
        days=_days(days),
        notes=_notes(days, reading, bodies=bodies, newest=newest, platform=platform),
    )


def _scope(days: list[DailyRow], platform: str | None, read: int, watermark: int) -> Scope:
    records: Counter[str] = Counter()
    for row in days:
        records[row.type] += row.records
    return Scope(
        platform,
        min((row.day for row in days), default=None),
        max((row.day for row in days), default=None),
        {tag: records[tag] for tag in RECORD_TYPES if records[tag]},
        read,
        watermark,
        sum(row.raw_bytes for row in days),
        sum(row.stored_bytes for row in days),
    )


def _outcomes(rows: list[DailyRow], reading: Reading) -> Outcomes:
    total = sum(row.records for row in rows)
    succeeded = sum(row.succeeded for row in rows)
    known = succeeded + sum(row.failed for row in rows)
    return Outcomes(
        total,
        rate(succeeded, known),
        total - known,
        shares(reading.interactions.completion.counts),
        reading.interactions.refused,
        reading.interactions.truncated,
    )


def _tools(rows: list[ToolRow], seen: dict[str, ToolPerformance]) -> list[ToolUse]:
    called: Counter[str] = Counter()
    ran: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    timed: Counter[str] = Counter()
    duration: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        called[row.tool] += row.called
        ran[row.tool] += row.ran
        failed[row.tool] += row.failed
        timed[row.tool] += row.timed
        duration[row.tool] += row.duration_ms
    names = sorted(called | ran, key=lambda name: (-max(called[name], ran[name]), name))
    found = []
    for name in names:
        known = seen.get(name)
        found.append(
            ToolUse(
                name,
                called[name],
                ran[name],
                failed[name],
                known.succeeded if known is not None else rate(0, 0),
                known.trajectories if known is not None else rate(0, 0),
                duration[name] / timed[name] if timed[name] else None,
                known.parameters if known is not None else [],
                known.failures if known is not None else [],
            )
        )
    return found


def _groups(rows: Iterable[DailyRow], by: str, reading: Reading) -> list[Group]:
    grouped: defaultdict[str, list[DailyRow]] = defaultdict(list)
    for row in rows:
        grouped[getattr(row, by)].append(row)
    found = [_group(name, of_name, by, reading) for name, of_name in grouped.items()]
    return sorted(found, key=lambda group: (-group.interactions, group.name))


def _group(name: str, rows: list[DailyRow], by: str, reading: Reading) -> Group:
    succeeded = sum(row.succeeded for row in rows)
    timed = sum(row.timed for row in rows)
    measure = reading.interactions.durations.get(("platform" if by == "platform" else "model", name))
    times = measure.distribution() if measure is not None else None
    return Group(
        name or "(none)",
        sum(row.records for row in rows),
        rate(succeeded, succeeded + sum(row.failed for row in rows)),
        sum(row.input_tokens for row in rows),
        sum(row.output_tokens for row in rows),
        sum(row.cost_usd for row in rows),
        sum(row.duration_ms for row in rows) / timed if timed else None,
        times.median if times is not None else None,
        times.p95 if times is not None else None,
    )


def _days(rows: list[DailyRow]) -> list[Day]:
    grouped: defaultdict[date, list[DailyRow]] = defaultdict(list)
    for row in rows:
        if row.type in ("interaction", "feedback"):
            grouped[row.day].append(row)
    return [_day(day, grouped[day]) for day in sorted(grouped)]


def _day(day: date, rows: list[DailyRow]) -> Day:
    interactions = [row for row in rows if row.type == "interaction"]
    total = sum(row.records for row in interactions)
    succeeded, failed = sum(row.succeeded for row in interactions), sum(row.failed for row in interactions)
    thumbs = Counter({row.label: 0 for row in rows})
    for row in rows:
        if row.type == "feedback":
            thumbs[row.label] += row.records
    return Day(
        day,
        total,
        succeeded,
        failed,
        total - succeeded - failed,
        thumbs["thumbs_up"],
        thumbs["thumbs_down"],
        sum(row.input_tokens for row in interactions),
        sum(row.output_tokens for row in interactions),
        sum(row.cost_usd for row in interactions),
    )


def _notes(
    days: list[DailyRow], reading: Reading, *, bodies: bool, newest: int | None, platform: str | None
) -> list[str]:
    notes = []
    stored = sum(row.records for row in days if row.type in _READ)
    if not bodies:
        notes.append(
            "Only sums were read; lengths, quantiles, causes, contexts, trajectories and feedback are left out."
        )
    elif reading.records < stored and newest is not None:
        notes.append(
            f"Sums are of everything; lengths, quantiles, causes, contexts, trajectories and feedback are of the newest "
            f"{reading.records:,} of {stored:,} records."
        )
    if bodies and platform is not None:
        notes.append("Records that name no platform, as feedback may, are not counted under one.")
    if reading.patterns.error:
        notes.append(f"There are many tool sequences: a stated support may be up to {reading.patterns.error} too low.")
    return notes
