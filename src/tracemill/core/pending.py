"""Parts of a record that arrive apart, kept until the record can be made of them.

A span and its log events, or a run's beginning and its end, come in different requests and in any order. A record is a fact
and is never updated, so the parts wait in the store (an acknowledged part survives a crash) until they are complete, or too
old to wait for more.
"""

from __future__ import annotations

from msgspec import Struct

from tracemill.core.records import Time


class PendingPart(Struct, frozen=True, kw_only=True):
    """One part as it arrived. ``source`` is the protocol, ``key`` what the parts of one record have in common (a span's or
    run's id), ``part`` tells the parts of a key apart; ``time`` is when it was received.
    """

    source: str
    key: str
    part: str
    time: Time
    body: bytes
