"""The quick looks before the phrases rule nothing out that the phrases would find."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from benches.planted import KNOWN_REFUSALS, OTHER_REFUSALS
from tracemill.quality.phrases import (
    DECLINED,
    DECLINING,
    OBJECTION,
    OPENING,
    REFUSALS,
    SAYS_NOTHING,
    declines,
    declines_and_objects,
)
from tracemill.quality.text import words

PIECES = sorted(
    {
        *(word for refusal in (*KNOWN_REFUSALS, *OTHER_REFUSALS) for word in refusal.split()),
        *(
            "illegal",
            "unethical.",
            "not ethical",
            "it is not appropriate",
            "I cannot provide",
            "violates my",
            "lack the",
        ),
        *(
            "prohibited from",
            "harmful",
            "an AI",
            "decline",
            "Stereotypes",
            "discriminatory",
            "the ability to",
            "pass on",
        ),
    }
)


@settings(max_examples=1500)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join))
def test_the_quick_looks_rule_out_nothing(content: str) -> None:
    found = words(content)
    own = any(word in ("i", "me", "my") or word.startswith(("i'", "i’")) for word in found)
    says_only_no = own and {word.replace("’", "'") for word in found} <= SAYS_NOTHING and DECLINED.search(content)
    assert declines(content, found) == bool(says_only_no or any(pattern.search(content) for pattern in REFUSALS))
    opening = " ".join(content.split()[:OPENING])
    assert declines_and_objects(content) == bool(OBJECTION.search(opening) and DECLINING.search(opening))
