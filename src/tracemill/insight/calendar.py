"""Days put together into a number of columns that can be looked at: days, weeks, months or years."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from tracemill.insight.figures import Day

_MOST_DAYS, _MOST_WEEKS, _MOST_MONTHS = 62, 78, 60


@dataclass(slots=True)
class Period:
    """One column: the interactions of a day, a week (``label`` is its Monday), a month or a year."""

    label: str
    succeeded: int = 0
    failed: int = 0
    unknown: int = 0


def periods(days: Sequence[Day]) -> tuple[str, list[Period]]:
    """What a column is (``day``, ``week``, ``month``, ``year``), and the columns.

    Days, weeks and months without interactions have a column too; years without any are left out.
    """
    if not days:
        return "day", []
    unit = _unit((days[-1].day - days[0].day).days + 1)
    found: dict[date, Period] = {}
    if unit != "year":
        at, end = _start(days[0].day, unit), _start(days[-1].day, unit)
        while at < end:
            found[at] = Period(_name(at, unit))
            at = _following(at, unit)
    for day in days:
        start = _start(day.day, unit)
        period = found.setdefault(start, Period(_name(start, unit)))
        period.succeeded += day.succeeded
        period.failed += day.failed
        period.unknown += day.unknown
    return unit, list(found.values())


def _unit(span: int) -> str:
    if span <= _MOST_DAYS:
        return "day"
    if span <= _MOST_WEEKS * 7:
        return "week"
    return "month" if span <= _MOST_MONTHS * 31 else "year"


def _start(day: date, unit: str) -> date:
    if unit == "week":
        return day - timedelta(days=min(day.weekday(), day.toordinal() - 1))
    if unit == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if unit == "year" else day


def _following(day: date, unit: str) -> date:
    if unit == "month":
        return (day + timedelta(days=32)).replace(day=1)
    return day + timedelta(days=7 if unit == "week" else 1)


def _name(day: date, unit: str) -> str:
    return day.isoformat()[: {"month": 7, "year": 4}.get(unit, 10)]
