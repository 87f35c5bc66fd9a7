"""Global Privacy Control (W3C): requests whose header ``Sec-GPC`` is ``1``.

What comes with the signal is marked, so that it is neither trained on nor shared. Where the request says whose it is, the
signal is stored as that person's consent too, once, and never against what they said to us themselves. The header is read
where the server looks who is asking (:func:`tracemill.server.access.principal_of`), and what a request stores is marked where
it is stored (:meth:`tracemill.server.context.Context.take`), so that no route has to think of it. Those that store in another
way do so by ``principal.private``: batches of records, calls through the proxy, and parts of records that wait for others.
"""

from __future__ import annotations

from collections.abc import Iterable

from tracemill.core.codec import decode, encode
from tracemill.core.consent import marked, users_of
from tracemill.core.errors import RecordError
from tracemill.core.records import User


def marked_items(items: Iterable[bytes]) -> tuple[list[bytes], list[User]]:
    """Encoded records with the mark, and whose they are. What is no record is left for the store to refuse."""
    made: list[bytes] = []
    users: list[User] = []
    for item in items:
        try:
            record = marked(decode(item))
            made.append(encode(record))
        except RecordError:
            made.append(item)
            continue
        users += users_of([record])
    return made, users
