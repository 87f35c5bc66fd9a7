"""Checks of what a pattern matched: check digits, ranges, plausibility. Every function takes the matched text.

Numbers are checked by python-stdnum (one module a country) and phonenumbers (Google's metadata of telephone plans).
"""

from __future__ import annotations

import datetime
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType

import phonenumbers
from stdnum import bitcoin as stdnum_bitcoin
from stdnum import iban as stdnum_iban
from stdnum import imei as stdnum_imei
from stdnum import luhn

from tracemill.privacy.wording import words

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "AU", "BR")
"""Telephone plans that a number without a country's code is tried against."""
_SENTENCE_WORDS = frozenset(
    words(
        "The This That These Those I You He She It We They Not Just Very Sorry Sure Here There Trying "
        "Looking Calling Writing Having Going Yes No Okay Ok Happy Glad Interested Unable Able Done Also "
        "Only Still Now Is Are Was Were And Or But If For From With To In On At By Of A An My Your Please "
        "Thanks Thank Hello Hi What Which Who When Where Why How Can Could Would Should Will Monday "
        "Tuesday Wednesday Thursday Friday Saturday Sunday January February March April June July August "
        "September October November December "
    )
)
_NO_VALUE = frozenset(
    words(
        "none null true false nil undefined string str text required optional example your password "
        "passwd secret token changeme value here not set the a an is was incorrect wrong invalid expired "
        "field reset correct protected redacted hidden strong weak "
    )
)
_FORMATS = re.compile(r"^(?:(\d{4})([-/.])(\d{1,2})\2(\d{1,2})|(\d{1,2})([-/.])(\d{1,2})\6(\d{4}))$")


def digits_of(text: str) -> str:
    """The ASCII digits of a text."""
    return "".join(character for character in text if character.isascii() and character.isdigit())


def by(module: ModuleType) -> Callable[[str], bool]:
    """The check of a module of python-stdnum; a row of one digit only is no number, though some checks let it pass."""

    def holds(text: str) -> bool:
        digits = digits_of(text)
        return (not digits or len(set(digits)) > 1) and bool(module.is_valid(text))

    return holds


def email(text: str) -> bool:
    """Whether the parts have the lengths of RFC 5321, and the one before the @ no dot at an end, nor two in a row."""
    local, _, domain = text.partition("@")
    return (
        len(local) <= 64
        and len(domain) <= 255
        and "-." not in domain
        and ".-" not in domain
        and not local.startswith(".")
        and not local.endswith(".")
        and ".." not in text
    )


def phone(text: str) -> bool:
    """Whether it is a possible number (right length for its plan), written the way numbers are."""
    if text.startswith("00"):
        text = "+" + text[2:]
    count = len(digits_of(text))
    if not 7 <= count <= 15 or validity_date_like(text):
        return False
    if text.startswith("+"):
        return _possible(text, None)
    return any(_possible(text, region) for region in REGIONS)


def bare_phone(text: str) -> bool:
    """Whether digits without any separator are a valid number of a known plan."""
    return any(_valid_phone(text, region) for region in REGIONS)


def _possible(text: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _valid_phone(text: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def validity_date_like(text: str) -> bool:
    """Whether it is a date in figures, which telephone patterns also match."""
    return bool(_FORMATS.match(text)) and date(text)


def ip_address(text: str) -> bool:
    """Whether it is an address of IPv4 or IPv6 that is somebody's: not loopback, not unspecified, no mask."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and len(text) < 6:
        return False
    return not (address.is_loopback or address.is_unspecified or text.startswith("255.") or text == "::")


def mac(text: str) -> bool:
    """Whether it is the address of a card: not all zeros, not the broadcast address."""
    digits = re.sub(r"[^0-9a-f]", "", text.lower())
    return len(digits) == 12 and len(set(digits)) > 1


def imei(text: str) -> bool:
    """Check digit of an IMEI (Luhn)."""
    return len(digits_of(text)) == 15 and len(set(digits_of(text))) > 1 and stdnum_imei.is_valid(text)


def card(text: str) -> bool:
    """Luhn's check digit (ISO/IEC 7812-1), a first digit that payment cards have, and not one digit throughout."""
    digits = digits_of(text)
    return digits[:1] in "23456" and 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn.is_valid(digits)


def iban(text: str) -> bool:
    """Check digits (ISO 13616, mod 97-10) and length by country."""
    return stdnum_iban.is_valid(text, check_country=False)


def bitcoin(text: str) -> bool:
    """Checksum of an address (Base58Check or Bech32)."""
    return stdnum_bitcoin.is_valid(text)


_VIN_VALUES = {
    letter: value
    for value, group in enumerate(("AJ", "BKS", "CLT", "DMU", "ENV", "FW", "GPX", "HY", "RZ"), 1)
    for letter in group
}
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def vin(text: str) -> bool:
    """Check digit of a vehicle identification number (49 CFR 565.15)."""
    if not any(character.isdigit() for character in text) or not any(character.isalpha() for character in text):
        return False
    values = [int(one) if one.isdigit() else _VIN_VALUES.get(one, 0) for one in text]
    rest = sum(value * weight for value, weight in zip(values, _VIN_WEIGHTS, strict=True)) % 11
    return text[8] == ("X" if rest == 10 else str(rest))


def dea(text: str) -> bool:
    """Check digit of a DEA registration: the last digit of d1 + d3 + d5 + 2·(d2 + d4 + d6)."""
    one = [int(digit) for digit in text[2:]]
    return (one[0] + one[2] + one[4] + 2 * (one[1] + one[3] + one[5])) % 10 == one[6]


def npi(text: str) -> bool:
    """Check digit of a National Provider Identifier: Luhn after the prefix 80840 (45 CFR 162.406)."""
    return text[:1] in "12" and luhn.is_valid("80840" + text)


def nino(text: str) -> bool:
    """Letters a British National Insurance number may begin with (HMRC, NIM39110)."""
    prefix = text[:2].upper()
    return (
        prefix not in {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"}
        and not set(prefix) & set("DFIQUV")
        and prefix[1] != "O"
    )


def uk_postcode(text: str) -> bool:
    """Whether a British postcode's first letters are ones that are in use."""
    return text[0] not in "QVX" and text[1:2] not in set("IJZ")


def date(text: str) -> bool:
    """Whether a date in figures is in the calendar; one with a month's name is."""
    found = _FORMATS.match(text)
    if not found:
        return not re.fullmatch(r"[\d./-]+", text)
    if found[1]:
        tried = [(int(found[1]), int(found[3]), int(found[4]))]
    else:
        first, second, year = int(found[5]), int(found[7]), int(found[8])
        tried = [(year, first, second), (year, second, first)]
    return any(_in_calendar(*one) for one in tried)


def _in_calendar(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True


def old_age(text: str) -> bool:
    """90 to 119 years: HIPAA's Safe Harbor wants ages over 89 gone (45 CFR 164.514(b)(2)(i)(C))."""
    return 90 <= int(text) < 120


def name(text: str) -> bool:
    """Whether capitalised words can be a name: none of them begins a sentence or names a day."""
    return not any(word in _SENTENCE_WORDS for word in text.replace("-", " ").split())


def code(text: str) -> bool:
    """Whether letters and digits are mixed, or it is digits only: an identifier, not a word."""
    return any(character.isdigit() for character in text)


def handle(text: str) -> bool:
    """Whether it is a chosen name, not a word of the sentence around it."""
    return text.lower() not in _NO_VALUE and (not text.isalpha() or not text.islower())


def profile(text: str) -> bool:
    """Whether it is a person's page and none of the site's own."""
    return text.lower() not in {
        "about",
        "login",
        "help",
        "home",
        "privacy",
        "terms",
        "explore",
        "search",
        "settings",
        "share",
    }


def entropy(text: str) -> float:
    """Shannon entropy in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) if text else 0.0


def password(text: str) -> bool:
    """Whether it can be a password: no word about passwords, no row of stars, no placeholder."""
    bare = text.strip("\"'`.,;:!?()<>{}[]*").lower()
    return len(bare) >= 3 and bare not in _NO_VALUE and len(set(bare)) > 1


def spoken_password(text: str) -> bool:
    """The same after "is": it also has a digit, a sign or a capital after a small letter in it, as ordinary words have not."""
    bare = text.strip("\"'`.,;:!?")
    return password(text) and (
        not bare.isalpha() or any(one.islower() and two.isupper() for one, two in pairwise(bare))
    )


def random_text(text: str) -> bool:
    """Whether it looks drawn at random: at least three bits a character, letters and digits."""
    return entropy(text) >= 3.0 and any(one.isdigit() for one in text) and any(one.isalpha() for one in text)
