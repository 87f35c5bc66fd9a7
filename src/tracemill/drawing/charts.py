"""Small charts as inline SVG. Each function takes numbers and texts and returns markup in which every text is escaped.

A chart is an image to a screen reader: its ``title`` names it and its ``desc`` says in a sentence what it shows; the page
puts the same numbers in a table beside it. Colours come from classes that the page defines for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from tracemill.drawing.measures import Bin, Rate
from tracemill.drawing.wording import percent, short_count, visible

WIDTH = 460
_ROW, _TEXT, _CHARACTER = 24, 12, 6.6
_LABEL, _VALUE = 176, 96


@dataclass(frozen=True, slots=True)
class Series:
    """One layer of stacked columns: its name in the legend, its CSS class, one value a column."""

    name: str
    style: str
    values: Sequence[float]


def bars(items: Sequence[tuple[str, float, str]], *, title: str, style: str = "first") -> Markup:
    """Horizontal bars of (label, value, the value as text); longest = full width. Negative values count as zero."""
    most = max((value for _, value, _ in items), default=0.0)
    room = WIDTH - _LABEL - _VALUE
    rows = []
    for index, (label, value, shown) in enumerate(items):
        y = index * _ROW
        length = room * max(0.0, value) / most if most > 0 else 0.0
        rows.append(_label(label, y))
        rows.append(_rectangle(_LABEL, y + 5, max(length, 1 if value > 0 else 0), 14, style, f"{label}: {shown}"))
        rows.append(_text(_LABEL + length + 6, y + 16, shown, "value"))
    what = ", ".join(f"{label} {shown}" for label, _, shown in items[:3])
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return _figure(title, f"{what}{more}.", len(items) * _ROW, rows)


def rates(items: Sequence[tuple[str, Rate]], *, title: str) -> Markup:
    """A dot for each rate with its 95 % interval as a line, on an axis from 0 to 100 %. Unknown rates have neither."""
    left, room = _LABEL, WIDTH - _LABEL - _VALUE
    height = len(items) * _ROW
    rows = [_line(left + room * at / 4, 0, left + room * at / 4, height, "grid") for at in range(5)]
    for index, (label, rate) in enumerate(items):
        middle = index * _ROW + 12
        rows.append(_label(label, index * _ROW))
        if rate.value is None or rate.low is None or rate.high is None:
            rows.append(_text(left + room + 10, middle + 4, "–", "value"))
            continue
        rows.append(_line(left + room * rate.low, middle, left + room * rate.high, middle, "whisker"))
        hint = escape(f"{visible(label)}: {rate.successes:,} of {rate.total:,}")
        rows.append(
            Markup('<circle cx="{}" cy="{}" r="5" class="dot"><title>{}</title></circle>').format(
                _at(left + room * rate.value), _at(middle), hint
            )
        )
        rows.append(_text(left + room + 10, middle + 4, f"{percent(rate.value)} of {short_count(rate.total)}", "value"))
    rows.extend(
        _text(left + room * at / 4, height + 14, f"{at * 25}%", "axis", anchor="middle") for at in range(0, 5, 2)
    )
    what = "; ".join(f"{label} {percent(rate.value)}" for label, rate in items[:4])
    return _figure(title, f"Share that succeeded with its 95% interval: {what}.", height + 20, rows)


def histogram(bins: Sequence[Bin], *, title: str, edge: str = "{}", marks: Sequence[tuple[str, float]] = ()) -> Markup:
    """Columns of counts. ``edge`` formats a bin's lower end, as ``"{} ms"``; ``marks`` are named values on the axis."""
    if not bins:
        return _figure(title, "No values.", 40, [_text(WIDTH / 2, 24, "no values", "axis", anchor="middle")])
    most = max(each.count for each in bins)
    top, base, left = 34.0, 150.0, 6.0
    column = (WIDTH - 2 * left) / len(bins)
    rows = [_line(left, base, WIDTH - left, base, "grid")]
    for index, each in enumerate(bins):
        x, height = left + index * column, (base - top) * each.count / most
        upper = "or more" if each.high is None else f"to {short_count(each.high)}"
        hint = f"{short_count(each.low)} {upper}: {each.count:,}"
        rows.append(_rectangle(x + 1, base - height, max(column - 2, 1), height, "first", hint))
        if each.count and column > 22:
            rows.append(_text(x + column / 2, base - height - 4, short_count(each.count), "value", anchor="middle"))
        if column > 30 or index % 2 == 0:
            rows.append(_text(x, base + 14, edge.format(short_count(each.low)), "axis"))
    for at, (name, value) in enumerate(sorted(marks, key=lambda mark: mark[1])):
        x = left + column * _position(bins, value)
        rows.append(_line(x, 2, x, base, "mark"))
        before = at == 0 and x > 60  # the first name stands left of its line, so that two marks close by stay readable
        rows.append(_text(x - 4 if before else x + 4, 11, name, "axis", anchor="end" if before else "start"))
    peak = max(bins, key=lambda each: each.count)
    described = f"{sum(each.count for each in bins):,} values, most of them from {short_count(peak.low)}" + (
        "." if peak.high is None else f" to {short_count(peak.high)}."
    )
    return _figure(title, described, base + 22, rows)


def columns(
    labels: Sequence[str], series: Sequence[Series], *, title: str, width: int = WIDTH, style: str = ""
) -> Markup:
    """Stacked columns, one for each label; as many labels stand below as have room.

    ``width`` is in the chart's units, ``style`` a class of the page.
    """
    if not labels:
        return _figure(title, "No days.", 40, [_text(width / 2, 24, "no days", "axis", anchor="middle")], width, style)
    totals = [sum(layer.values[index] for layer in series) for index in range(len(labels))]
    ceiling = _nice(max(totals))
    top, base, left = 12.0, 170.0, 40.0
    column = min((width - left - 8) / len(labels), 64.0)
    rows = []
    for at in (0.0, 0.5, 1.0):
        y = base - (base - top) * at
        rows.append(_line(left, y, width - 8, y, "grid"))
        rows.append(_text(left - 6, y + 4, short_count(ceiling * at), "axis", anchor="end"))
    gap = min(column * 0.2, 4.0)
    for index, label in enumerate(labels):
        y = base
        for layer in series:
            height = (base - top) * layer.values[index] / ceiling
            y -= height
            hint = f"{label} {layer.name}: {layer.values[index]:,.0f}"
            if height:
                rows.append(_rectangle(left + index * column + gap, y, column - 2 * gap, height, layer.style, hint))
    every = max(1, math.ceil(len(labels) / max(1, (width - left) // 90)))
    rows.extend(
        _text(left + index * column + gap, base + 16, labels[index], "axis") for index in range(0, len(labels), every)
    )
    sums = ", ".join(f"{sum(layer.values):,.0f} {layer.name}" for layer in series)
    return _figure(title, f"From {labels[0]} to {labels[-1]}: {sums}.", base + 24, rows, width, style)


def _position(bins: Sequence[Bin], value: float) -> float:
    """Where a value lies on an axis on which every bin is equally wide, in bins."""
    for index, each in enumerate(bins):
        if each.high is None or value < each.high:
            span = (each.high - each.low) if each.high is not None else 0.0
            return index + (min(max((value - each.low) / span, 0.0), 1.0) if span else 0.5)
    return float(len(bins))


def _nice(value: float) -> float:
    """The smallest of 1, 2, 4, 5, 10 times a power of ten that is not below the value, at least 1."""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)


def _figure(
    title: str, description: str, height: float, rows: Sequence[Markup], width: int = WIDTH, style: str = ""
) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" class="{}"><title>{}</title><desc>{}</desc>{}</svg>').format(
        *(width, _at(max(height, 1)), f"chart {style}".strip()),
        *(visible(title), visible(description), Markup("").join(rows)),
    )


def _label(label: str, y: float) -> Markup:
    shown, room = visible(label), int((_LABEL - 10) / _CHARACTER)
    cut = shown if len(shown) <= room else shown[: room - 1] + "…"
    return Markup('<text x="{}" y="{}" class="label" text-anchor="end">{}<title>{}</title></text>').format(
        _LABEL - 8, _at(y + 16), cut, shown
    )


def _text(x: float, y: float, value: str, style: str, anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        _at(x), _at(y), style, anchor, visible(value)
    )


def _rectangle(x: float, y: float, width: float, height: float, style: str, hint: str) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="2" class="{}"><title>{}</title></rect>').format(
        _at(x), _at(y), _at(width), _at(height), style, visible(hint)
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(
        _at(x1), _at(y1), _at(x2), _at(y2), style
    )


def _at(value: float) -> str:
    """A coordinate with at most one decimal; what is no number is zero, so that a chart is always well-formed."""
    return f"{value:.1f}".removesuffix(".0") if math.isfinite(value) else "0"
