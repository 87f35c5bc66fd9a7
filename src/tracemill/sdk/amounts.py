"""Amounts as people and models write them ("$0.15", "45s", "02:30:00") as numbers.

What cannot be read for certain gives None: the caller keeps the original text either way.
"""

from __future__ import annotations

import math
import re

_MONEY = re.compile(
    r"^(?P<sign>[-+]?)\s*(?:(?:us)?\$|usd)?\s*(?P<inner>-?)(?P<number>\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)\s*"
    r"(?P<unit>\$|usd|us dollars?|dollars?|¢|cents?)?$",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"^(?:(?P<days>\d+)\s*(?:d|days?),?\s+)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d+)?)$"
)
_ISO = re.compile(
    r"^P(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?$",
    re.IGNORECASE,
)
_PIECE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zµμ]+)\.?\s*,?(?:\s*and\b)?", re.IGNORECASE)
_MILLISECONDS = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-6),
    **dict.fromkeys(("us", "µs", "μs", "microsecond", "microseconds"), 1e-3),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1e3),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60e3),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600e3),
    **dict.fromkeys(("d", "day", "days"), 86400e3),
}
_LONGEST = 64
"""Longer texts are sentences, not amounts."""


def dollars(value: object) -> float | None:
    """US dollars of a number, or of text such as ``$0.15``, ``0.15 USD``, ``15 cents``. Other currencies give None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value)
    found = _MONEY.match(value.strip()) if isinstance(value, str) and len(value) <= _LONGEST else None
    if found is None or (found["sign"] and found["inner"]):
        return None
    amount = float(found["number"].replace(",", ""))
    if (found["unit"] or "").lower() in ("¢", "cent", "cents"):
        amount /= 100
    return -amount if "-" in (found["sign"], found["inner"]) else amount


def milliseconds(value: object) -> float | None:
    """Milliseconds of a duration; None for a negative one.

    A bare number counts **seconds**, as in the traces that write ``"45s"``. Text may carry units (``1.2s``, ``500 ms``,
    ``1h 30m``), be a clock (``02:30:00``, ``01:30`` is a minute and a half), or ISO 8601 (``PT2H30M``).
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = _finite(value)
        return None if number is None or number < 0 else number * 1e3
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    text = value.strip()
    try:
        return milliseconds(float(text))
    except ValueError:
        pass  # not a bare number: one of the written forms
    found = _CLOCK.match(text) or (_ISO.match(text) if any(sign.isdigit() for sign in text) else None)
    if found is not None:
        parts = {unit: float(number or 0) for unit, number in found.groupdict().items()}
        return 1e3 * (parts["days"] * 86400 + parts["hours"] * 3600 + parts["minutes"] * 60 + parts["seconds"])
    return _with_units(text)


def _with_units(text: str) -> float | None:
    total, position = 0.0, 0
    while position < len(text):
        piece = _PIECE.match(text, position)
        factor = _MILLISECONDS.get(piece[2].lower()) if piece else None
        if piece is None or factor is None:
            return None
        total, position = total + float(piece[1]) * factor, piece.end()
    return total if text else None


def _finite(value: int | float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
