"""Numbers as people read them. Plain text, the same in the terminal and on the page."""

from __future__ import annotations

import re

from tracemill.drawing.measures import Rate

NOT_KNOWN = "–"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
_BYTE_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def visible(value: str) -> str:
    """Text of a record with every character shown as ``�`` that would steer a terminal or hide or reorder what is read."""
    return _CONTROL.sub("�", value)


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return NOT_KNOWN if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """A number with three significant digits, or whole from 100 on."""
    if value is None:
        return NOT_KNOWN
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(value: float | None) -> str:
    """A share (0 to 1) in per cent; what is not quite all or not quite nothing is never shown as 100 % or 0 %."""
    if value is None:
        return NOT_KNOWN
    if 0 < value < 0.001:
        return "<0.1%"
    if 0.999 < value < 1:
        return ">99.9%"
    shown = f"{value * 100:.1f}"
    return f"{shown.removesuffix('.0')}%"


def interval(rate: Rate) -> str:
    """The 95 % interval of a rate, as ``35–49%``."""
    if rate.low is None or rate.high is None:
        return NOT_KNOWN
    low, high = round(rate.low * 100), round(rate.high * 100)
    return f"{low}–{high}%" if low != high else f"{low}%"


def outcome(rate: Rate) -> str:
    """A rate with its interval and what it was counted from, as ``42% (35–49%, 84 of 200)``."""
    if rate.value is None:
        return "not known"
    return f"{percent(rate.value)} ({interval(rate)}, {rate.successes:,} of {rate.total:,})"


def duration(milliseconds: float | None) -> str:
    """A duration in the unit that suits it: ``840 ms``, ``1.8 s``, ``2.4 min``, ``3.1 h``, ``2.5 days``."""
    if milliseconds is None:
        return NOT_KNOWN
    for unit, size, limit in (("ms", 1, 1000), ("s", 1000, 60_000), ("min", 60_000, 3_600_000), ("h", 3.6e6, 8.64e7)):
        if milliseconds < limit * 0.9995:
            return f"{_trimmed(milliseconds / size)} {unit}"
    return f"{_trimmed(milliseconds / 8.64e7)} days"


def size(value: float | None) -> str:
    """Bytes in the unit that suits them (1 KB = 1000 bytes)."""
    if value is None:
        return NOT_KNOWN
    unit = 0
    while value >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:,.0f} bytes" if unit == 0 else f"{_trimmed(value)} {_BYTE_UNITS[unit]}"


def money(value: float | None) -> str:
    """US dollars; small amounts keep two significant digits."""
    if value is None:
        return NOT_KNOWN
    if value == 0 or abs(value) >= 0.095:
        return f"${value:,.2f}"
    return f"${value:.2g}" if abs(value) >= 0.0001 else f"${value:.1e}"


def short_count(value: float) -> str:
    """A count that fits a chart's axis: ``950``, ``1.2k``, ``3M``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{_trimmed(value / limit)}{unit}"
    return f"{value:g}"


def _trimmed(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}".removesuffix(".0")


def records(tag: str, number: int) -> str:
    """How many records of a type, as ``1 interaction`` or ``3 session ends``."""
    name = tag.replace("_", " ")
    return f"{number:,} {name}" + ("" if number == 1 or tag == "feedback" else "s")
