"""Charts are well-formed, say what they show, keep to their frame, and let nothing of a record through."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.drawing.charts import WIDTH, Series, bars, columns, histogram, rates
from tracemill.drawing.measures import Measure, rate

HOSTILE = "</title></svg><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\x00\x1b[31m\u202egnp.exe"
numbers = st.floats(0, 1e15) | st.integers(0, 10**9).map(float)


def parsed(chart: str) -> ElementTree.Element:
    root = ElementTree.fromstring(chart)
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert root[0].tag == "title"
    assert root[0].text
    assert root[1].tag == "desc"
    assert root[1].text
    return root


def inside(root: ElementTree.Element) -> None:
    """Every shape lies within the frame and every coordinate is a number."""
    _, _, width, height = map(float, (root.get("viewBox") or "").split())
    for shape in root.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            value = shape.get(name)
            if value is not None:
                assert math.isfinite(float(value))
                assert -0.1 <= float(value) <= max(width, height) + 0.1
        if shape.tag == "rect":
            assert float(shape.get("x", 0)) + float(shape.get("width", 0)) <= width + 0.1
            assert float(shape.get("y", 0)) + float(shape.get("height", 0)) <= height + 0.1


@given(st.lists(st.tuples(st.text(max_size=40), numbers), max_size=20))
def test_bars(items: list[tuple[str, float]]) -> None:
    root = parsed(bars([(label, value, f"{value:g}") for label, value in items], title="Calls"))
    inside(root)
    assert len(root.findall("rect")) == len(items)


def test_bars_are_as_long_as_their_values() -> None:
    widths = [
        float(each.get("width", 0))
        for each in parsed(bars([("a", 10, "10"), ("b", 5, "5")], title="t")).findall("rect")
    ]
    assert widths[0] == 2 * widths[1]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_rates(successes: list[int]) -> None:
    root = parsed(rates([(str(each), rate(each, 10**6)) for each in successes], title="Success"))
    inside(root)
    assert len(root.findall("circle")) == len(successes)


def test_an_unknown_rate_has_no_dot() -> None:
    root = parsed(rates([("a", rate(0, 0)), ("b", rate(1, 2))], title="Success"))
    assert len(root.findall("circle")) == 1
    assert [text.text for text in root.findall("text") if text.get("class") == "value"] == ["–", "50% of 2"]


@given(st.lists(numbers, max_size=60))
def test_histogram(values: list[float]) -> None:
    measure = Measure()
    for value in values:
        measure.add(value)
    found = measure.distribution()
    marks = [("median", found.median)] if found.median is not None else []
    root = parsed(histogram(found.bins, title="Times", marks=marks))
    inside(root)
    assert len(root.findall("rect")) == len(found.bins)


@given(
    st.lists(st.tuples(numbers, numbers), max_size=70).map(
        lambda rows: ([row[0] for row in rows], [row[1] for row in rows])
    )
)
def test_columns(layers: tuple[list[float], list[float]]) -> None:
    labels = [f"day {index}" for index in range(len(layers[0]))]
    series = [Series("well", "succeeded", layers[0]), Series("badly", "failed", layers[1])]
    root = parsed(columns(labels, series, title="Days"))
    inside(root)


def test_columns_stack_up_to_their_sum() -> None:
    root = parsed(columns(["d"], [Series("a", "succeeded", [3]), Series("b", "failed", [1])], title="Days"))
    first, second = root.findall("rect")
    assert float(first.get("height", 0)) == pytest.approx(3 * float(second.get("height", 0)), rel=0.01)
    assert float(second.get("y", 0)) + float(second.get("height", 0)) == pytest.approx(
        float(first.get("y", 0)), abs=0.2
    )
    assert "3 a, 1 b" in (root[1].text or "")


@pytest.mark.parametrize(
    "chart",
    [
        bars([(HOSTILE, 3, HOSTILE)], title=HOSTILE),
        rates([(HOSTILE, rate(1, 2))], title=HOSTILE),
        columns([HOSTILE], [Series(HOSTILE, "first", [1])], title=HOSTILE),
    ],
)
def test_hostile_texts_stay_texts(chart: str) -> None:
    parsed(chart)
    assert "<script" not in chart
    assert "<img" not in chart
    assert not re.search(r"[\x00-\x08\x1b\u202e]", chart)
    assert "&lt;script&gt;" in chart


def test_long_labels_are_cut_and_whole_in_the_hint() -> None:
    chart = bars([("x" * 500, 1, "1")], title="t")
    label = next(text for text in parsed(chart).findall("text") if text.get("class") == "label")
    assert label.text is not None
    assert len(label.text) < 40
    assert label.text.endswith("…")
    assert label.findtext("title") == "x" * 500


def test_nothing_to_show() -> None:
    for chart in (histogram([], title="t"), columns([], [], title="t"), bars([], title="t"), rates([], title="t")):
        parsed(chart)
    assert WIDTH > 0
