"""How Hugging Face ``datasets`` reads a number out of a JSON Lines file, so that a change can be listed beforehand.

Columns of type ``json`` go through ujson as pandas carries it (``datasets`` 4.7 to 5.2, pandas 2.2 to 3.1): each number is
parsed, written with ten decimals and parsed again, and its parser adds ``digits * 10**-n`` to the whole part without
rounding correctly. So 0.94922 arrives as 0.9492200000000001, and a chat template writes that out.
"""

from __future__ import annotations

_DECIMALS = 15
_WRITTEN = 10
_POWERS = [float(f"1e-{count}") for count in range(_DECIMALS + 1)]
_LARGE, _SMALL = 1e16 - 1, 1e-15


def as_loaded(value: float) -> float:
    """The number that a finite number in a file becomes when it is loaded."""
    return _parsed(_written(_parsed(repr(value))))


def _parsed(text: str) -> float:
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction[:_DECIMALS]
    value = int(whole) + int(fraction or "0") * _POWERS[len(fraction)]
    if exponent:
        value *= 10.0 ** int(exponent)
    return -value if text.startswith("-") else value


def _written(value: float) -> str:
    sign, size = ("-", -value) if value < 0 else ("", value)
    if size > _LARGE or 0 < size < _SMALL:
        return f"{value:.{_WRITTEN}g}"
    whole = int(size)
    fraction = round((size - whole) * 10**_WRITTEN)
    if fraction >= 10**_WRITTEN:
        whole, fraction = whole + 1, 0
    return f"{sign}{whole}.{fraction:0{_WRITTEN}d}".rstrip("0") + ("0" if fraction == 0 else "")
