"""Invented values have the shape of what they stand for, hold its checks, and are the same for the same value."""

from __future__ import annotations

import datetime
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.us import ssn

from tests.privacy.labelled import EXAMPLES, labelled
from tracemill.privacy.detect import GROUPS, RULES, whole_match
from tracemill.privacy.invent import Inventor

KEY = b"k" * 32
VALUES = [
    (kind, plain[start:end])
    for kind, text in EXAMPLES
    if GROUPS[kind] != "secret"
    for plain, (_, start, end) in [labelled(text, kind)]
]
CHECKED = [(kind, value) for kind, value in VALUES if GROUPS[kind] in ("money", "medical", "national", "device")]


@pytest.mark.parametrize(("kind", "value"), VALUES)
def test_it_is_another_value_and_always_the_same(kind: str, value: str) -> None:
    made = Inventor(KEY, "c1").invent(kind, value)
    assert made != value
    assert made == Inventor(KEY, "c1").invent(kind, value)
    if kind == "crypto_wallet" and value.startswith("1"):
        assert made is None  # nobody finds an address with its checksum by drawing
        return
    assert made is not None
    if kind != "age_over_89" and len(value) > 4:
        others = {Inventor(key, scope).invent(kind, value) for key, scope in ((KEY, "c2"), (b"z" * 32, "c1"))}
        assert made not in others or kind in ("date", "date_of_birth"), "the key and the scope count"


@pytest.mark.parametrize(("kind", "value"), CHECKED)
def test_what_checks_a_value_checks_the_invented_one(kind: str, value: str) -> None:
    holding = [
        rule
        for rule in RULES
        if rule.kind == kind and whole_match(rule, value) and (rule.valid is None or rule.valid(value))
    ]
    for number in range(5):
        made = Inventor(KEY, f"c{number}").invent(kind, value)
        if made is None:
            assert kind == "crypto_wallet"
            continue
        for rule in holding:
            assert whole_match(rule, made), (made, rule.pattern)
            assert rule.valid is None or rule.valid(made), made


@given(st.text("0123456789", min_size=11, max_size=17), st.sampled_from(["", " ", "-"]), st.integers())
def test_cards_keep_their_check_digit_their_length_and_their_brand(digits: str, sign: str, scope: int) -> None:
    number = "4" + digits
    number += luhn.calc_check_digit(number)
    written = sign.join(number[at : at + 4] for at in range(0, len(number), 4))
    made = Inventor(KEY, str(scope)).invent("payment_card", written)
    assert made is not None
    assert re.sub(r"\d", "0", made) == re.sub(r"\d", "0", written)
    assert made[0] == "4"
    assert luhn.is_valid(re.sub(r"\D", "", made))


@given(st.integers(0, 10**18 - 1), st.integers())
def test_accounts_keep_their_check_digits(number: int, scope: int) -> None:
    bare = f"DE00{number:018}"
    value = f"DE{iban.calc_check_digits(bare)}{number:018}"
    made = Inventor(KEY, str(scope)).invent("iban", value)
    assert made is not None
    assert iban.is_valid(made)
    assert made[:2] == "DE"


@given(st.integers(1, 10**9 - 1), st.integers())
def test_national_numbers_keep_their_check_digits(number: int, scope: int) -> None:
    bare = f"{number:09}"
    assume(len(set(bare)) > 1)
    tax = next(text for end in range(100) if cpf.is_valid(text := cpf.format(f"{bare}{end:02}")))
    made = Inventor(KEY, str(scope)).invent("br_cpf", tax)
    assert made is not None
    assert cpf.is_valid(made)
    social = f"{number // 10**6 % 1000:03}-{number // 10**4 % 100:02}-{number % 10**4:04}"
    if ssn.is_valid(social):
        made = Inventor(KEY, str(scope)).invent("us_ssn", social)
        assert made is not None
        assert ssn.is_valid(made)


dates = st.dates(datetime.date(1900, 6, 1), datetime.date(2098, 1, 1))


@given(dates, dates, st.integers())
def test_dates_are_shifted_together(one: datetime.date, other: datetime.date, scope: int) -> None:
    inventor = Inventor(KEY, str(scope))
    moved = [inventor.invent("date", day.isoformat()) for day in (one, other)]
    assert moved[0] is not None
    assert moved[1] is not None
    days = [datetime.date.fromisoformat(text) for text in moved if text]
    assert days[1] - days[0] == other - one
    assert days[0] != one
    assert days[0].weekday() == one.weekday()


@given(dates, st.integers())
def test_a_date_is_written_as_it_was(day: datetime.date, scope: int) -> None:
    inventor = Inventor(KEY, str(scope))
    iso = inventor.shifted(day.isoformat())
    assert iso is not None
    moved = datetime.date.fromisoformat(iso)
    if min(day.day, day.month) < 10:  # else nothing says whether zeros are written
        assert inventor.shifted(f"{day.day}.{day.month}.{day.year}") == f"{moved.day}.{moved.month}.{moved.year}"
    assert inventor.shifted(f"{day:%B} {day.day}, {day.year}") == f"{moved:%B} {moved.day}, {moved.year}"
    if day.month != 5:  # May is short already
        assert inventor.shifted(f"{day.day} {day:%b} {day.year}") == f"{moved.day} {moved:%b} {moved.year}"
    assert (
        inventor.shifted(f"{day.year}/{day.month:02}/{day.day:02}") == f"{moved.year}/{moved.month:02}/{moved.day:02}"
    )


def test_no_date_is_not_shifted() -> None:
    inventor = Inventor(KEY, "c")
    assert [inventor.shifted(text) for text in ("2024-02-31", "soon", "9999-12-31x", "May 2024")] == [None] * 4


def test_a_person_is_the_same_person_in_every_form() -> None:
    inventor = Inventor(KEY, "c")
    first, last = inventor.invent("person_name", "Mia"), inventor.invent("person_name", "Li")
    assert first
    assert last
    assert inventor.invent("person_name", "Mia Li") == f"{first} {last}"
    assert inventor.invent("person_name", "MIA LI") == f"{first} {last}".upper()
    assert str(inventor.invent("username", "mia_li_3668")).startswith(f"{first}_{last}_".lower())
    assert str(inventor.invent("email", "mia.li3818@example.com")).startswith(f"{first}.{last}".lower())


@given(st.text(min_size=1, max_size=40), st.sampled_from(sorted(GROUPS)))
def test_anything_may_stand_where_a_value_should(text: str, kind: str) -> None:
    made = Inventor(KEY, "c").invent(kind, text)
    assert made is None or made.lower() != text.lower()
