"""Invented values in place of real ones: same shape, same check digits, the same for the same value.

Everything is drawn from a keyed hash of the scope, the kind and the value, so that it needs no memory: another process with
the same key invents the same. Without the key nothing leads back. Names are made of syllables and are nobody's.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache, partial

from stdnum import iban as stdnum_iban
from stdnum import luhn

from tracemill.privacy.detect import RULES, whole_match
from tracemill.privacy.kinds import STATE
from tracemill.privacy.validity import card, vin
from tracemill.privacy.wording import words

_ONSETS = words("b d f g h j k l m n p r s t v z br dr kr tr sh th")
_VOWELS = words("a e i o u ai ea io")
_ENDS = ("", "n", "l", "r", "s", "m", "nd", "th", "x", "rk")
_LETTERS = re.compile(r"[^\W\d_]+")
_KEPT_WORDS = frozenset(
    words(
        "credit card gift certificate user customer client account acct id paypal order member guest "
        "admin payment pay bank debit passenger employee staff patient no number mr mrs ms miss mx dr "
        "prof von van de der den da di la le bin al st street ave avenue road rd blvd boulevard lane ln "
        "drive dr court ct place pl square sq terrace way parkway highway circle close apt apartment "
        "suite ste unit floor room p o po box straße strasse str weg platz allee gasse rue calle avenida "
        "via viale piazza rua plaza north south east west http https www com org net "
    )
)
_MONTHS = words("january february march april may june july august september october november december ")
_ATTEMPTS = 4000
_DATED = {
    "be_nn": (0, "ymd"),
    "pl_pesel": (0, "ymd"),
    "fi_hetu": (0, "dmy"),
    "no_fodselsnummer": (0, "dmy"),
    "dk_cpr": (0, "dmy"),
    "za_id": (0, "ymd"),
    "mx_curp": (4, "ymd"),
    "fr_nir": (1, "ym"),
    "cn_ric": (8, "ymd"),
}
"""Where in a number a date of birth stands, and in which order, two digits each."""
_PERSONAL = frozenset(
    (
        "person_name",
        "username",
        "customer_id",
        "employee_id",
        "social_handle",
        "profile_url",
        "street_address",
        "post_box",
        "city",
    )
)
_SHIFTED = frozenset(("date", "date_of_birth"))
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")
_PREFIXES = {"ch_ahv": 3, "cn_ric": 6}
"""How many characters of a number say only its register, and stay."""
_UNMADE = frozenset(("crypto_wallet", "private_key", "jwt"))
"""Kinds whose checks nothing drawn at random passes."""


class _Draw:
    """Numbers drawn from a keyed hash, the same for the same seed on every machine."""

    def __init__(self, key: bytes, *seed: str) -> None:
        self._key = key
        self._seed = "\x1f".join(seed).encode("utf-8", "surrogatepass")
        self._block = b""
        self._counter = 0

    def below(self, bound: int) -> int:
        """A number from 0 to ``bound`` - 1, ``bound`` small."""
        if len(self._block) < 4:
            counter = self._counter.to_bytes(8, "big")
            self._block = hashlib.blake2b(counter + self._seed, key=self._key, digest_size=64).digest()
            self._counter += 1
        head, self._block = self._block[:4], self._block[4:]
        return int.from_bytes(head, "big") % bound


class Inventor:
    """Invents values under a key (16 to 64 bytes), for one scope: a conversation's id, or the same word for all."""

    def __init__(self, key: bytes, scope: str) -> None:
        self._key = key
        self._scope = scope
        draw = _Draw(key, scope, "days")
        self._days = (7 * (5 + draw.below(46))) * (1 if draw.below(2) else -1)
        self._made: dict[tuple[str, str], str | None] = {}

    def invent(self, kind: str, text: str) -> str | None:
        """An invented value for one of a kind, never the value itself; None when none of that shape can be made."""
        asked = (kind, text)
        if asked not in self._made:
            made = self._new(kind, text)
            self._made[asked] = None if made is None or made.lower() == text.lower() else made
        return self._made[asked]

    def digest(self, kind: str, text: str) -> str:
        """12 hex digits for a value, the same for the same value within the scope."""
        seed = "\x1f".join((self._scope, "digest", kind, text.lower())).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(seed, key=self._key, digest_size=6).hexdigest()

    def _new(self, kind: str, text: str) -> str | None:
        if kind in _SHIFTED:
            return self.shifted(text)
        if kind == "email":
            return self._email(text)
        if kind == "ip_address":
            return self._address(text)
        if kind in _PERSONAL:
            return self._words(text)
        if kind == "mac_address":
            return self._shape(kind, text, keep=2)
        if kind == "payment_card":
            return self._card(text)
        if kind == "iban":
            return self._iban(text)
        if kind == "vehicle_vin":
            return self._vin(text)
        if kind == "phone":
            return self._checked(kind, text, keep=3 if text.startswith("+") else 1)
        if kind == "crypto_wallet" and text.startswith("0x"):
            return "0x" + self._shape(kind, text[2:])
        if kind in _UNMADE:
            return None
        return self._checked(kind, text, keep=_PREFIXES.get(kind, 0))

    def _draw(self, *seed: str) -> _Draw:
        return _Draw(self._key, self._scope, *seed)

    def _word(self, word: str) -> str:
        """The invented word for a word: the same for the same letters, in the word's own case."""
        draw = self._draw("word", word.lower())
        made = ""
        while len(made) < max(4, min(len(word), 7)):
            made += _ONSETS[draw.below(len(_ONSETS))] + _VOWELS[draw.below(len(_VOWELS))]
        made += _ENDS[draw.below(len(_ENDS))]
        if word.isupper() and len(word) > 1:
            return made.upper()
        return made.capitalize() if word[0].isupper() else made

    def _words(self, text: str) -> str:
        """Names, handles and addresses: every word but the common ones invented, every digit drawn."""
        one = _LETTERS.sub(lambda match: match[0] if _is_common(match[0]) else self._word(match[0]), text)
        return (
            self._digits("words", one, text)
            if any(c.isdigit() for c in one)
            else one
            if one != text
            else self._word(text)
        )

    def _digits(self, kind: str, text: str, seed: str) -> str:
        draw = self._draw(kind, "digits", "".join(c for c in seed.lower() if c.isalnum()))
        while True:
            made = "".join(str(draw.below(10)) if c.isdigit() else c for c in text)
            if made != text:
                return made

    def _email(self, text: str) -> str:
        local, _, domain = text.partition("@")
        draw = self._draw("domain", domain.lower())
        ending = ("example.com", "example.org", "example.net")[draw.below(3)]
        local = _LETTERS.sub(lambda match: self._word(match[0]), local.lower())
        return (self._digits("email", local, text) if any(c.isdigit() for c in local) else local) + "@" + ending

    def _address(self, text: str) -> str:
        """An address out of the ranges for documentation (RFC 5737, RFC 3849): nobody's."""
        draw = self._draw("ip", text.lower())
        if ":" in text:
            return f"2001:db8:{draw.below(65536):x}:{draw.below(65536):x}::{draw.below(65535) + 1:x}"
        made = text
        while made == text:
            made = f"{('192.0.2', '198.51.100', '203.0.113')[draw.below(3)]}.{1 + draw.below(254)}"
        return made

    def shifted(self, text: str) -> str | None:
        """A date moved by the scope's own whole number of weeks (5 to 50, either way), written as it was. None: no date."""
        found = re.fullmatch(
            r"(\d{4})([-/.])(\d{1,2})[-/.](\d{1,2})((?:[T ].*)?)|(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4})", text, re.DOTALL
        )
        if not found:
            return self._shifted_words(text)
        if found[1]:
            moved = self._moved(int(found[1]), int(found[3]), int(found[4]))
            if moved is None:
                return None
            width = min(len(found[3]), len(found[4]))
            return f"{moved.year:04}{found[2]}{moved.month:0{width}}{found[2]}{moved.day:0{width}}{found[5]}"
        first, second, year = int(found[6]), int(found[8]), int(found[9])
        day_first = first > 12 or (found[7] == "." and second <= 12)
        moved = self._moved(year, second if day_first else first, first if day_first else second)
        if moved is None:
            return None
        parts = (moved.day, moved.month) if day_first else (moved.month, moved.day)
        width = min(len(found[6]), len(found[8]))
        return f"{parts[0]:0{width}}{found[7]}{parts[1]:0{width}}{found[7]}{moved.year:04}"

    def _shifted_words(self, text: str) -> str | None:
        month = re.search("|".join(f"{name[:3]}[a-z]*" for name in _MONTHS), text, re.IGNORECASE)
        numbers = re.findall(r"\d+", text)
        if not month or len(numbers) != 2 or len(numbers[1]) != 4:
            return None
        number = next(index for index, name in enumerate(_MONTHS, 1) if name[:3] == month[0][:3].lower())
        moved = self._moved(int(numbers[1]), number, int(numbers[0]))
        if moved is None:
            return None
        name = _MONTHS[moved.month - 1].capitalize()
        name = name if month[0].lower() == _MONTHS[number - 1] else name[:3]
        made = re.sub(r"(\d{1,2})(?:st|nd|rd|th)?(?!\d)", str(moved.day), text.replace(numbers[1], "\x00"), count=1)
        return made.replace("\x00", f"{moved.year:04}").replace(month[0], name)

    def _moved(self, year: int, month: int, day: int) -> datetime.date | None:
        try:
            return datetime.date(year, month, day) + datetime.timedelta(days=self._days)
        except (ValueError, OverflowError):
            return None

    def _shape(self, kind: str, text: str, attempt: int = 0, keep: int = 0) -> str:
        """Digits for digits and letters for letters, but for the first ``keep``; what is hexadecimal stays so."""
        bare = "".join(c for c in text.lower() if c.isalnum())
        draw = self._draw(kind, "shape", bare, str(attempt))
        hexadecimal = (all(c in _HEXADECIMAL for c in text if c.isalnum()) and not _checks(kind)) or kind in (
            "mac_address",
            "crypto_wallet",
        )
        made = []
        for character in text:
            if keep and character.isalnum():
                keep -= 1
                made.append(character)
            elif character.isdigit():
                made.append(str(draw.below(10)))
            elif character.isalpha():
                letter = ("abcdef" if hexadecimal else "abcdefghijklmnopqrstuvwxyz")[
                    draw.below(6 if hexadecimal else 26)
                ]
                made.append(letter.upper() if character.isupper() else letter)
            else:
                made.append(character)
        return "".join(made)

    def _checked(self, kind: str, text: str, keep: int = 0) -> str | None:
        """A value of the shape for which the kind's own check holds, as it did for the value."""
        checks = [check for check in _checks(kind) if _holds(check, text)]
        for attempt in range(_ATTEMPTS if checks else 20):
            made = self._shape(kind, text, attempt, keep)
            if kind in _DATED:
                made = self._dated(kind, made, text, attempt)
            if made.lower() != text.lower() and all(_holds(check, made) for check in checks):
                return made
        return None

    def _dated(self, kind: str, made: str, text: str, attempt: int) -> str:
        """A date that exists at its place in a number that carries one, so that a drawn number has a chance to be valid."""
        at, order = _DATED[kind]
        draw = self._draw(kind, "born", text, str(attempt))
        drawn = {"y": 50 + draw.below(50), "m": 1 + draw.below(12), "d": 1 + draw.below(28)}
        digits = "".join(f"{drawn[part]:02}" for part in order)
        places = [index for index, character in enumerate(made) if character.isalnum()][at : at + len(digits)]
        letters = list(made)
        for place, digit in zip(places, digits, strict=False):
            letters[place] = digit
        if kind == "fr_nir":
            letters[0] = text[0]
        if kind == "cn_ric":
            letters[6:8] = "19"
        if kind == "mx_curp":  # sex, state and century are codes of a list
            letters[10:13], letters[16:17] = list(text[10:13]), list(text[16:17])
        return "".join(letters)

    def _card(self, text: str) -> str | None:
        if not card(text):
            return self._checked("payment_card", text, keep=1)
        for attempt in range(20):
            made = self._shape("payment_card", text, attempt, keep=1)
            last = max(index for index, character in enumerate(made) if character.isdigit())
            digits = "".join(c for c in made[:last] if c.isdigit())
            made = made[:last] + luhn.calc_check_digit(digits) + made[last + 1 :]
            if made != text and card(made):
                return made
        return None

    def _iban(self, text: str) -> str | None:
        if not stdnum_iban.is_valid(text, check_country=False):
            return self._checked("iban", text, keep=2)
        for attempt in range(_ATTEMPTS // 4):
            made = self._shape("iban", text, attempt, keep=4)
            compact = stdnum_iban.compact(made)
            check = str(stdnum_iban.calc_check_digits(compact))
            made = made[:2] + check + made[4:]
            strict = stdnum_iban.is_valid(text)
            if made != text and stdnum_iban.is_valid(made, check_country=strict):
                return made
        return None

    def _vin(self, text: str) -> str | None:
        for attempt in range(_ATTEMPTS):
            made = self._shape("vehicle_vin", text, attempt).translate(str.maketrans("IOQ", "JPR"))
            for check in "0123456789X":
                whole = made[:8] + check + made[9:]
                if len(whole) == 17 and vin(whole):
                    return whole
        return None


def _is_common(word: str) -> bool:
    """Whether a word of a name, a handle or an address says nothing of whose it is: Street, TX, card."""
    return word.lower() in _KEPT_WORDS or bool(re.fullmatch(STATE, word))


@lru_cache(maxsize=512)
def _checks(kind: str) -> tuple[Callable[[str], bool], ...]:
    """What can be asked of a value of a kind: its rules' checks, and whether a rule matches it whole."""
    found: list[Callable[[str], bool]] = []
    for rule in RULES:
        if rule.kind == kind and kind not in _PERSONAL:
            found.append(partial(whole_match, rule))
            if rule.valid is not None:
                found.append(rule.valid)
    return tuple(found)


def _holds(check: Callable[[str], bool], text: str) -> bool:
    try:
        return check(text)
    except (ValueError, IndexError, KeyError):
        return False
