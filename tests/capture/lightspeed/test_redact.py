"""What is taken out of a text before it is written to a file."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.capture.lightspeed.redact import redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to ada.l+x@example.co.uk, please", "write to [EMAIL], please"),
        ("jörg@bücher.example", "[EMAIL]"),
        ("call +49 30 901820 now", "call [PHONE] now"),
        ("call +1 (212) 555-0123.", "call [PHONE]."),
        ("(212) 555-0123", "[PHONE]"),
        ("212-555-0123", "[PHONE]"),
        ("4111 1111 1111 1111", "[CARD]"),
        ("card 5555-5555-5555-4444!", "card [CARD]!"),
        ("378282246310005", "[CARD]"),
        ("node 10.12.0.4 is down", "node [IP_ADDRESS] is down"),
        ("10.12.0.4:6443", "[IP_ADDRESS]:6443"),
        ("ping 2001:db8::ff00:42:8329", "ping [IP_ADDRESS]"),
        ("see fe80::1.", "see [IP_ADDRESS]."),
        ("::ffff:10.1.2.3", "[IP_ADDRESS]"),
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [TOKEN]"),
        (f"token {JWT} expired", "token [TOKEN] expired"),
        (f"Authorization: bearer {JWT}", "Authorization: bearer [TOKEN]"),
        ("key sk-proj-abcDEF0123456789abcDEF", "key [TOKEN]"),
        ("AKIAIOSFODNN7EXAMPLE", "[TOKEN]"),
        ("ghp_" + "a1B2" * 9, "[TOKEN]"),
        ("oc login --token=sha256~" + "Ab1_" * 11, "oc login --token=[TOKEN]"),
        ('{"api_key": "0123456789"}', '{"api_key": "[TOKEN]"}'),
        ("password=hunter22", "password=[TOKEN]"),
    ],
)
def test_what_is_taken_out(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "What is Kubernetes?",
        "OpenShift 4.16.12 on 3 nodes, released 2024-06-27T10:15:30Z",
        "127.0.0.1 and ::1 and ::",
        "version 1.2.3.4.5",
        "999.1.2.3",
        "4111 1111 1111 1112 fails the check digit",
        "0000000000000000",
        "std::vector<int> of::course",
        "at 12:30:45 we met",
        "00:1b:44:11:3a:b7 is a network card",
        "@team, look at foo@bar",
        "123e4567-e89b-12d3-a456-426614174000",
        "Bearer of bad news",
        "the password is wrong",
        "12345",
        "1,000,000.00",
    ],
)
def test_what_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_redacting_again_changes_nothing(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.emails(domains=st.sampled_from(["example.org", "a.example.com"])))
def test_no_plain_address_stays(address: str) -> None:
    if address.partition("@")[0].replace(".", "").replace("+", "").isalnum():
        assert redact(f"from {address} today") == "from [EMAIL] today"


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_no_ip_address_stays(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    shown = address.is_loopback or address.is_unspecified
    assert redact(f"at {address} now") == (f"at {address} now" if shown else "at [IP_ADDRESS] now")


def test_long_hostile_texts_take_linear_time() -> None:
    for piece in ("a.", "1 ", "0:", "a@", "(1)", "+1-", "password=", "eyJaaaaa."):
        redact(piece * 50_000)
