"""The HTML report: everything is in it, nothing outside is asked for, and records cannot do more than be read."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.dataset.support import base, calls, feedback, interaction, open_store, record_id, result, says
from tracemill.core.errors import ExportError
from tracemill.core.records import Action, Channel, Decision, Failure, Model, Option, SessionEnd, Step, Validation
from tracemill.drawing import wording
from tracemill.insight.figures import Statistics
from tracemill.insight.report import SECTIONS, render_html, write_html
from tracemill.insight.statistics import collect_statistics

MADE = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}{% raw %}</style></title><a href="javascript:x">\u202e'
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """What a browser would make of the page: elements, ids, addresses, text; and whether tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def ids(self) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get("id")) is not None]

    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def safe(page: str) -> Page:
    """The page has no script, no address but its own sections, no handler, and allows nothing but its own style."""
    found = Page(page)
    tags = {tag for tag, _ in found.elements}
    assert not tags & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "link",
        "form",
        "base",
        "image",
        "use",
        "foreignobject",
    }
    for tag, attributes in found.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "action", "style", "srcset", "data", "xlink:href")
            if name == "href":
                assert value is not None
                assert value.startswith("#")
    outside = re.sub(r"xmlns=\S+", "", page)
    assert "url(" not in outside
    assert "@import" not in outside
    policy = next(
        attributes["content"]
        for tag, attributes in found.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return found


def test_every_section_is_there_and_linked(sample: Statistics) -> None:
    page = safe(render_html(sample, title="Sample", made=MADE))
    ids = page.ids()
    assert [name for name in ids if name in dict(SECTIONS)] == [name for name, _ in SECTIONS]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert links == {f"#{name}" for name, _ in SECTIONS}
    for text in (
        wording.outcome(sample.outcomes.succeeded),
        "support-chat",
        "alder-large",
        "track_parcel",
        "ToolTimeout",
        "load_table",
        "prompt: checked",
        "Frequent sequences of tools",
        "unknown_variable",
        "overviews, then raw where needed",
        "handed over",
        "2026-03-02 to 2026-03-13",
        "Made 2026-03-14 09:30 UTC",
        "68 interactions",
    ):
        assert text in page.text(), text


def test_every_chart_says_what_it_shows_and_every_table_has_heads(sample: Statistics) -> None:
    page = Page(render_html(sample, title="Sample", made=MADE))
    charts = [index for index, (tag, _) in enumerate(page.elements) if tag == "svg"]
    assert len(charts) >= 10
    for index in charts:
        assert page.elements[index][1]["role"] == "img"
        assert [tag for tag, _ in page.elements[index + 1 : index + 3]] == ["title", "desc"]
    heads = [attributes for tag, attributes in page.elements if tag == "th"]
    assert heads
    assert all(attributes.get("scope") == "col" for attributes in heads)
    scrolled = [attributes for _, attributes in page.elements if attributes.get("class") == "scroll"]
    assert all(attributes.get("aria-label") for attributes in scrolled)


def test_an_empty_store_has_a_report_too(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    page = safe(render_html(collect_statistics(store), title="Empty", made=MADE))
    assert "Nothing is stored yet." in page.text()
    store.close()


def test_records_cannot_do_more_than_be_read(tmp_path: Path) -> None:
    work = interaction(
        "work",
        [says("user", HOSTILE), calls(HOSTILE, '{"' + "<b>" + '": 1}', "1"), result("1", HOSTILE, HOSTILE)],
        response=says("assistant", HOSTILE),
        platform=HOSTILE,
        model=Model(name=HOSTILE),
        channel=Channel(type=HOSTILE),
        error=Failure(type=HOSTILE, message=HOSTILE),
        intent=HOSTILE,
        scenario=HOSTILE,
        finish_reason=HOSTILE,
        success=False,
        duration_ms=5.0,
    )
    steps = [
        Step(
            **base(f"step {index}"),
            interaction_id=record_id("work"),
            index=index,
            actions=[Action(tool=HOSTILE, parameters={HOSTILE: 1}, success=False, error=Failure(type=HOSTILE))],
        )
        for index in range(3)
    ]
    store = open_store(
        tmp_path,
        [
            work,
            *steps,
            feedback("said", "work", kind="score", name=HOSTILE, score=1.0, categories=[HOSTILE], comment=HOSTILE),
            Validation(**base("check"), interaction_id=record_id("work"), score=5.0, errors=[HOSTILE], passed=False),
            Decision(**base("decision"), choice=HOSTILE, options=[Option(name=HOSTILE)]),
            SessionEnd(**base("end"), session_id=HOSTILE, reason=HOSTILE),
        ],
    )
    statistics = collect_statistics(store, patterns=5)
    page = render_html(statistics, title=HOSTILE, made=MADE)
    found = safe(page)
    assert found.text().count("{{7*7}}") > 10
    assert "\u202e" not in page
    store.close()


def test_the_file_is_whole_or_absent(sample: Statistics, tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    write_html(sample, target, title="Sample")
    assert target.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]
    with pytest.raises(ExportError, match=r"report\.html"):
        write_html(sample, target / "below" / "report.html")


def test_the_same_statistics_give_the_same_page(sample: Statistics) -> None:
    first, second = (render_html(sample, title="Sample", made=MADE) for _ in range(2))
    assert first == second
    assert len(first) < 200_000
