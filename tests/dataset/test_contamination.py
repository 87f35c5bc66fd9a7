"""Evaluation items that stand in training rows are found, in every form of file, and others are not."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.support import says
from tracemill.core.errors import SourceError
from tracemill.core.examples import Example, PreferenceExample, SupervisedExample
from tracemill.dataset.contamination import EvaluationSet, look_at, look_through, read_evaluation
from tracemill.dataset.parts import Part

WORDS = [f"word{number}" for number in range(400)]
ROW = " ".join(WORDS[:100])


def item(*texts: str, side: Any = "prompt") -> list[Part]:
    return [Part(side, text) for text in texts]


def looked(items: Sequence[Sequence[Part]], *rows: str) -> EvaluationSet:
    found = EvaluationSet("set")
    found.index(items)
    look_at(list(rows), [found])
    return found


def test_thirteen_words_in_a_row_are_a_hit_and_twelve_are_none() -> None:
    inside = "before it " + " ".join(WORDS[40:53]) + " and after it"
    nearly = "before it " + " ".join(WORDS[40:52]) + " and then something else here"
    found = looked([item(inside), item(nearly)], ROW)
    assert (found.items, found.judged, found.hits()["either"]) == (2, 2, 1)


def test_case_punctuation_and_space_do_not_matter() -> None:
    shouted = "  ".join(word.upper() + "," for word in WORDS[10:23]) + "!"
    assert looked([item(shouted)], ROW).hits()["either"] == 1


def test_prompt_and_answer_are_told_apart() -> None:
    one, two = " ".join(WORDS[0:20]), " ".join(WORDS[200:220])
    items = [[Part("prompt", one), Part("answer", two)], item(two, side="answer"), item(one)]
    assert looked(items, ROW).hits() == {"prompt": 2, "answer": 0, "either": 2}
    assert looked(items, ROW, two).hits() == {"prompt": 2, "answer": 2, "either": 3}


def test_short_items_are_judged_by_how_much_of_them_is_covered() -> None:
    whole = " ".join(WORDS[5:15])
    half = " ".join([*WORDS[30:38], "x1", "x2", "x3", "x4"])
    found = looked([item(whole), item(half), item("too short to judge")], ROW)
    assert (found.items, found.judged, found.hits()["either"]) == (3, 2, 1)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=20), max_size=6), st.data())
def test_it_agrees_with_the_definition(texts: list[list[str]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=40), max_size=4))

    def runs(tokens: list[str], size: int) -> set[tuple[str, ...]]:
        return {tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)}

    def expected(tokens: list[str]) -> bool:
        size = max(len(tokens), len(set(tokens)))
        long = set().union(*(runs(row, 13) for row in rows)) if rows else set()
        short = set().union(*(runs(row, 8) for row in rows)) if rows else set()
        if size >= 13:
            return bool(runs(tokens, 13) & long)
        own = runs(tokens, 8)
        return len(own & short) > 0.5 * len(own)

    found = looked([item(" ".join(tokens)) for tokens in texts], *(" ".join(row) for row in rows))
    assert found.hits()["either"] == sum(map(expected, texts))


def test_examples_of_every_side_are_looked_at() -> None:
    text = " ".join(WORDS[100:130])
    examples: list[Example] = [
        SupervisedExample(id="a", sources=[], signal="s", messages=[says("user", "hi"), says("assistant", ROW)]),
        PreferenceExample(
            id="b",
            sources=[],
            signal="s",
            prompt=[],
            chosen=[says("assistant", "x")],
            rejected=[says("assistant", text)],
        ),
    ]
    found = EvaluationSet("set")
    found.index([item(ROW), item(text), item(" ".join(WORDS[300:330]))])
    assert look_through(examples, [found]) == 2
    assert found.hits()["either"] == 2


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet", "txt"])
def test_every_form_of_file_says_the_same(tmp_path: Path, form: str) -> None:
    prompts = [" ".join(WORDS[0:20]), " ".join(WORDS[200:220])]
    path = tmp_path / f"set.{form}"
    values = [{"question": text, "choices": ["yes", "no"]} for text in prompts]
    if form == "jsonl":
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
    elif form == "json":
        path.write_text(json.dumps(values))
    elif form == "txt":
        path.write_text("\n\n".join(prompts))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(values), path)
    found = read_evaluation(path)
    look_at([ROW], [found])
    assert (found.name, found.items, found.hits()["either"]) == (f"set.{form}", 2, 1)


def test_chat_messages_and_answers_have_their_sides(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    text = " ".join(WORDS[0:20])
    lines = [
        {"messages": [{"role": "user", "content": "ask"}, {"role": "assistant", "content": text}]},
        {"question": "ask", "answer": {"text": text}},
        {"messages": [{"role": "user", "content": text}]},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_evaluation(path)
    look_at([ROW], [found])
    assert found.hits() == {"prompt": 1, "answer": 2, "either": 3}


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", "{"), ("a.jsonl", ""), ("a.parquet", "no"), ("b.json", "[")])
def test_what_is_no_evaluation_set_is_refused(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SourceError):
        read_evaluation(path)
    with pytest.raises(SourceError):
        read_evaluation(tmp_path / "absent.jsonl")


def test_letters_written_with_marks_of_their_own_are_the_same_letters() -> None:
    told = " ".join(f"élève{number} où" for number in range(20))
    composed, decomposed = unicodedata.normalize("NFC", told), unicodedata.normalize("NFD", told)
    for one, other in ((composed, decomposed), (decomposed, composed)):
        assert looked([item(one)], other).hits()["either"] == 1


def test_what_an_assistant_thinks_is_looked_at_too() -> None:
    thought = {**says("assistant", "done"), "reasoning_content": ROW}
    found = EvaluationSet("set")
    found.index([item(ROW, side="answer")])
    row = SupervisedExample(id="1", sources=[], signal="supervised", messages=[says("user", "q"), thought])
    look_through([row], [found])
    assert found.hits()["either"] == 1


def test_letters_whose_capitals_are_others_are_the_same_letters() -> None:
    for small, other in (
        ("straße", "STRASSE"),
        ("istanbul", "İSTANBUL"),
        ("ısparta", "ISPARTA"),
        ("ﬁsche", "Fische"),
        ("ſatz", "SATZ"),
        ("ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ"),
        ("ŉ", "ʼN"),
        ("word", "ｗｏｒｄ"),
    ):
        ending = " ".join(WORDS[:15])
        for one, two in ((small, other), (other, small)):
            item_text = f"{one} {ending}"
            # 13 of 13: the odd word is one of them
            assert looked([item(" ".join(item_text.split()[:13]))], f"so {two} {ending}").hits()["either"] == 1, one


_LETTERS = st.text("aißſﬁıİIiσςΣŉǰΐᾳǅ̇̈éÅå漢字ก१ｗʼ'", min_size=1, max_size=4)


@given(st.lists(st.one_of(_LETTERS, st.sampled_from("abc")), min_size=8, max_size=24), st.data())
def test_case_never_hides_what_was_copied(found: list[str], data: st.DataObject) -> None:
    words = [unicodedata.normalize("NFC", word) for word in found]
    text = " ".join(words)
    changed = list(words)
    for at in data.draw(st.lists(st.integers(0, len(words) - 1), max_size=2)):
        changed[at] = data.draw(st.sampled_from(["other", "ı", "SS"]))
    row = "before it " + " ".join(changed) + " after it"
    plain = looked([item(text)], row)
    for case in (str.upper, str.lower, str.casefold):
        for one, two in ((case(text), row), (text, case(row)), (case(text), case(row))):
            again = looked([item(one)], two)
            assert (again.judged, again.hits()) == (plain.judged, plain.hits())
