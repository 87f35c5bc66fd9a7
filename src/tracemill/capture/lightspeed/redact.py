"""Taking out of a text what names a person or opens a door, before it is written where others read it.

Patterns of fixed shape only: e-mail addresses, telephone numbers, payment cards (their Luhn check digit is verified), IP
addresses, bearer tokens, API keys and JSON Web Tokens. Names and addresses of people have no fixed shape and stay.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?")
_BEARER = re.compile(r"\b(bearer|basic)(\s+)[A-Za-z0-9._~+/-]{16,}=*", re.IGNORECASE)
_NAMED_SECRET = re.compile(
    r"\b((?:api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret|secret[_-]?key|password|passwd|pwd)"
    r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?)[^\s\"',;\[]{6,}",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[opsur]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,}"
    r"|tm_[0-9a-f]{16}_[0-9a-f]{72}|sha256~[A-Za-z0-9_-]{40,})"
)
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9a-f:]{0,39}:)[0-9a-f:]{2,39}(?:\d{0,3}(?:\.\d{1,3}){3})?(?![\w:])", re.IGNORECASE
)
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])")
_PHONE = re.compile(
    r"(?<![\w.+(-])(?:"
    r"\+\d{1,3}(?:[ .\-/]?\(?\d{1,5}\)?){2,6}"  # international: +49 (30) 901820
    r"|\(\d{2,5}\)[ .-]?\d{2,5}(?:[ .-]?\d{2,5}){1,3}"  # (212) 555-0123
    r"|\d{3}([ .-])\d{3}\1\d{4}"  # 212-555-0123
    r"|00[1-9]\d{0,2}(?:[ .\-/]\d{2,5}){2,5}"  # 0049 30 901820
    r"|0\d{1,4}[ /-]\d{2,5}(?:[ -]\d{2,5}){1,3}"  # 030 9018 2000
    r")(?![\w-])"
)


def redact(text: str) -> str:
    """A text with ``[EMAIL]``, ``[PHONE]``, ``[CARD]``, ``[IP_ADDRESS]``, ``[TOKEN]`` in place of such values.

    Redacting a redacted text changes nothing.
    """
    text = _JWT.sub("[TOKEN]", text)
    text = _BEARER.sub(r"\1\2[TOKEN]", text)
    text = _NAMED_SECRET.sub(r"\1[TOKEN]", text)
    text = _KEY.sub("[TOKEN]", text)
    text = _EMAIL.sub("[EMAIL]", text)
    text = _IPV6.sub(_if(_is_address, "[IP_ADDRESS]"), text)
    text = _IPV4.sub(_if(_is_address, "[IP_ADDRESS]"), text)
    text = _CARD.sub(_if(_is_card, "[CARD]"), text)
    return _PHONE.sub(_if(_is_phone, "[PHONE]"), text)


def _if(holds: Callable[[str], bool], name: str) -> Callable[[re.Match[str]], str]:
    return lambda found: name if holds(found[0]) else found[0]


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)  # 127.0.0.1 and :: are nobody's


def _is_card(text: str) -> bool:
    """Whether the last digit checks the others (Luhn, ISO/IEC 7812-1), as in every payment card's number."""
    digits = [int(digit) for digit in reversed(text) if digit.isdigit()]
    if len(set(digits)) == 1:
        return False
    doubled = (digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_phone(text: str) -> bool:
    """Whether there are as many digits as a number has (ITU-T E.164: 15 at most)."""
    return 7 <= sum(character.isdigit() for character in text) <= 15
