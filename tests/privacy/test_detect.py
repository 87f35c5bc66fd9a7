"""Every kind is found where it stands, what only looks like one is not, and the laws of the search hold."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.labelled import EXAMPLES, NOTHING, labelled, spans
from tests.strategies import odd_text
from tracemill.privacy.detect import GROUPS, RULES, Detector, Finding, resolve

DETECTOR = Detector()
pieces = st.sampled_from([labelled(text, kind)[0] for kind, text in EXAMPLES]) | odd_text | st.sampled_from(NOTHING)
texts = st.lists(pieces, max_size=5).map("; ".join)


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(EXAMPLES)])
def test_every_kind_is_found_at_its_place(kind: str, text: str) -> None:
    plain, expected = labelled(text, kind)
    assert expected in spans(DETECTOR.find(plain)), DETECTOR.find(plain)


@pytest.mark.parametrize(("kind", "text"), EXAMPLES[:20], ids=[kind for kind, _ in EXAMPLES[:20]])
def test_places_are_in_characters_whatever_stands_before(kind: str, text: str) -> None:
    plain, (_, start, end) = labelled(text, kind)
    before = "Grüße 世界 \ud800 🎉: "
    assert (kind, start + len(before), end + len(before)) in spans(DETECTOR.find(before + plain))


@pytest.mark.parametrize("text", NOTHING)
def test_what_only_looks_like_something_is_nothing(text: str) -> None:
    assert DETECTOR.find(text) == []


def test_there_are_examples_of_every_kind_a_rule_finds() -> None:
    assert {rule.kind for rule in RULES} <= {kind for kind, _ in EXAMPLES}
    assert len({rule.kind for rule in RULES}) >= 100
    assert len({kind for kind, group in GROUPS.items() if group == "national"}) >= 20


def test_only_the_kinds_asked_for_are_found() -> None:
    text = "ada@example.com, +44 20 7946 0958, {'city': 'Graz'}"
    assert [one.kind for one in Detector(["email"]).find(text)] == ["email"]
    assert [one.kind for one in Detector(["city"]).find(text)] == ["city"]
    with pytest.raises(ValueError, match="e-mail"):
        Detector(["e-mail"])


def test_a_threshold_leaves_out_what_is_less_sure() -> None:
    text = "I'm Orla Quist, orla@example.com"
    assert [one.kind for one in Detector(threshold=0.9).find(text)] == ["email"]
    assert [one.kind for one in Detector(threshold=0.5).find(text)] == ["person_name", "email"]


def test_a_number_without_its_word_is_left_alone() -> None:
    assert DETECTOR.find("there were 111222333 of them") == []
    assert [one.kind for one in DETECTOR.find("the BSN 111222333")] == ["nl_bsn"]
    assert DETECTOR.find("the BSN 111222334") == []


def test_quotation_marks_and_scripts_without_spaces_hide_nothing() -> None:
    for text in ("“84.17.52.9”", "„+44 20 7946 0958“", "電話+44 20 7946 0958です", "是84.17.52.9。"):
        assert len(DETECTOR.find(text)) == 1, text
    assert DETECTOR.find("é84.17.52.9") == []


def test_two_neighbours_are_both_found() -> None:
    text = "a@example.com,b@example.com;c@example.com d@example.com"
    assert [text[one.start : one.end] for one in DETECTOR.find(text)] == text.replace(",", " ").replace(
        ";", " "
    ).split()


def test_a_long_text_is_searched_in_time() -> None:
    """Texts made to make a search slow: linear means that 2 MB take no minutes."""
    for unit in ("a.", "1-", "@a", "eyJ", "password: ", "123 ", "::", '"a":'):
        DETECTOR.find(unit * (200_000 // len(unit)))


@given(texts)
def test_findings_are_ordered_apart_and_within_the_text(text: str) -> None:
    found = DETECTOR.find(text)
    assert all(0 <= one.start < one.end <= len(text) and one.score >= DETECTOR.threshold for one in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    assert found == DETECTOR.find(text)
    assert found == Detector().find(text)


@given(texts)
def test_the_set_names_every_rule_that_can_match(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    named = set(DETECTOR._set.Match(data) or ())
    assert {number for number, one in enumerate(DETECTOR._rules) if one.pattern.search(data)} <= named


findings = st.builds(
    lambda kind, start, length, score: Finding(kind, start, start + length, score),
    st.sampled_from(["email", "phone", "date"]),
    st.integers(0, 30),
    st.integers(1, 8),
    st.sampled_from([0.5, 0.8, 0.9]),
)


@settings(max_examples=300)
@given(st.lists(findings, max_size=12), st.randoms())
def test_overlaps_are_resolved_alike_in_any_order(found: list[Finding], shuffler: object) -> None:
    kept = resolve(found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(kept))
    mixed = list(found)
    shuffler.shuffle(mixed)  # type: ignore[attr-defined]
    assert resolve(mixed) == kept
    for one in found:
        better = [other for other in kept if other.start < one.end and one.start < other.end]
        assert any(other.score >= one.score for other in better)


def test_every_kind_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
    assert [kind for kind in GROUPS if f"`{kind}`" not in page] == []
