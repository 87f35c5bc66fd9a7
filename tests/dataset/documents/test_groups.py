"""Groups, their suppression, and how much a few users weigh: laws over any counts."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import feedback, interaction, list_store, record_id, says, user
from tracemill.core.examples import Fate
from tracemill.core.records import Interaction
from tracemill.dataset.documents import groups as module
from tracemill.dataset.documents.groups import SMALLEST, Group, Groups, concentration, plain_rate, shown
from tracemill.dataset.documents.representation import findings, representation_document
from tracemill.dataset.facts import Facts, facts_of
from tracemill.feedback.attach import Scale, attach

counts = st.integers(0, 40).flatmap(lambda read: st.tuples(st.just(read), st.integers(0, read)))


@given(st.dictionaries(st.text(max_size=3), counts, max_size=12))
def test_nothing_small_can_be_told_from_what_is_shown(sizes: dict[str, tuple[int, int]]) -> None:
    made = {name: Group(read=read, used=used) for name, (read, used) in sizes.items()}
    found = shown(made)
    assert all(group.read >= SMALLEST and not 0 < group.used < SMALLEST for _, group in found.groups)
    assert found.suppressed + len(found.groups) == len(made)
    for measure in ("read", "used"):
        told = sum(getattr(group, measure) for _, group in found.groups) + getattr(found.rest, measure)
        assert told == sum(getattr(group, measure) for group in made.values())
    if found.suppressed and found.groups:  # something could have gone in with it: then it is neither alone nor small
        assert found.suppressed > 1
        assert found.rest.read >= SMALLEST
        assert not 0 < found.rest.used < SMALLEST


@given(st.lists(st.integers(1, 50), min_size=1, max_size=SMALLEST - 1))
def test_of_few_users_nothing_tells_how_many_there_are(sizes: list[int]) -> None:
    found = concentration(Counter({bytes([place]): size for place, size in enumerate(sizes)}))
    assert found == dict.fromkeys(("users", "top_share", "effective_entropy", "effective_kish"))


@given(st.lists(st.integers(1, 50), min_size=SMALLEST, max_size=30))
def test_effective_users_lie_between_one_and_all(sizes: list[int]) -> None:
    found = concentration(Counter({bytes([place]): size for place, size in enumerate(sizes)}))
    assert 1 - 1e-9 <= found["effective_kish"] <= found["effective_entropy"] + 1e-9 <= len(sizes) + 1e-6
    assert found["effective_kish"] >= 1 / found["top_share"] - 1e-9 or math.isclose(found["top_share"], 1)
    assert found["users"] == len(sizes)
    if len(set(sizes)) == 1:
        assert found["effective_kish"] == pytest.approx(len(sizes))
        assert found["effective_entropy"] == pytest.approx(len(sizes))


def facts(**fields: object) -> Facts:
    plain = {"platform": "p", "model": "m", "language": "LATIN", "day": 20_000, "success": True, **fields}
    return Facts(**plain)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([None, True, False])), max_size=60))
def test_counting_in_batches_is_counting_one_by_one(entries: list[tuple[str, bool, bool | None]]) -> None:
    whole, batched = Groups(), Groups()
    before = module._AT_ONCE
    try:
        for into, at_once in ((whole, 10**6), (batched, 1)):
            module._AT_ONCE = at_once
            for platform, used, liked in entries:
                fate = Fate(id=record_id("x"), examples=["e"] if used else [])
                into.add(facts(platform=platform, liked=liked), fate)
    finally:
        module._AT_ONCE = before
    assert whole.counted().dimensions == batched.counted().dimensions
    assert whole.whole == batched.whole
    assert whole.whole.read == len(entries)
    assert whole.whole.labels == sum(liked is not None for _, _, liked in entries)


def test_a_rate_of_few_is_not_told() -> None:
    assert plain_rate(1, SMALLEST - 1) is None
    found = plain_rate(4, 8)
    assert found is not None
    assert (round(found["low"], 4), round(found["high"], 4)) == (0.2152, 0.7848)  # Wilson 1927


def test_a_difference_between_groups_is_found_only_beyond_chance() -> None:
    def document(good_of_b: int) -> dict[str, object]:
        made = Groups()
        for platform, good, total in (("a", 90, 100), ("b", good_of_b, 100)):
            for number in range(total):
                fate = Fate(id=record_id("x"), examples=["e"])
                made.add(facts(platform=platform, success=number < good, user=bytes([number])), fate)
        return representation_document(made.counted(), {})

    assert findings(document(88)) == []
    assert document(50)["findings"] == ["By platform, 50% of b succeeded, and 90% of a."]


def test_one_user_that_is_the_source_of_most_is_a_finding() -> None:
    made = Groups()
    for number in range(20):
        made.add(facts(user=b"one" if number < 15 else bytes([number])), Fate(id=record_id("x"), examples=["e"]))
    (said,) = representation_document(made.counted(), {})["findings"]
    assert said.startswith("One user is the source of 75% of the interactions")


def test_facts_are_of_the_interaction() -> None:
    chat = interaction(
        *("a", [says("user", "Привет, мир"), says("assistant", "x")]), platform="p\ud800", user=user("u"), success=False
    )
    marks = [feedback("f", "a", kind="thumbs_up"), feedback("g", "a", kind="rating", rating=1)]
    scales: dict[str, Scale] = {}

    def seen(item: Interaction, *records: object) -> Facts:
        attached = attach(list_store([item, *records])).of(item.id)  # type: ignore[list-item]
        return facts_of(item, item, attached, scales)

    found = seen(chat)
    assert (found.platform, found.language, found.success, found.liked) == ("p\\ud800", "CYRILLIC", False, None)
    assert found.day == 20_513  # 2026-03-01
    assert seen(chat, marks[0]).liked is True
    assert seen(chat, marks[1]).liked is False
    assert seen(chat, *marks).liked is None  # for and against
    assert seen(interaction("b", [says("user", "hello")])).language == "LATIN"
    assert seen(interaction("b", [says("user", "1 2 3")])).language == ""
    assert seen(interaction("b", [], extra={"language": "pt-BR"})).language == "pt-BR"


stated = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([None, True, False]), st.sampled_from([None, True, False])),
    max_size=80,
)


@given(stated)
def test_no_rate_of_a_few_can_be_told_from_the_whole_and_the_others(
    entries: list[tuple[str, bool | None, bool | None]],
) -> None:
    counted = Groups()
    for at, (platform, success, liked) in enumerate(entries):
        fate = Fate(id=record_id(f"r{at}"), examples=[record_id(f"e{at}")])
        counted.add(facts(platform=platform, success=success, liked=liked), fate)
    document = representation_document(counted.counted(), {})
    for dimension in document["dimensions"].values():
        for measure in ("outcome", "label"):
            whole = document["whole"][measure]
            told = [row[measure]["total"] for row in dimension["groups"] if row[measure] is not None]
            if whole is not None and told:
                assert not 0 < whole["total"] - sum(told) < SMALLEST, (measure, told)
