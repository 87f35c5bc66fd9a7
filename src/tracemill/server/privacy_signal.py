"""Global Privacy Control (W3C): requests whose header ``Sec-GPC`` is ``1``.

What comes with the signal is marked, so that it is neither trained on nor shared. Where the request says whose it is, the
signal is stored as that person's consent too, once, and never against what they said to us themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from tracemill.core.codec import decode, encode
from tracemill.core.consent import GLOBAL_PRIVACY_CONTROL
from tracemill.core.errors import RecordError, TracemillError
from tracemill.core.records import AnyRecord, Consent, User
from tracemill.server.context import Context, Principal
from tracemill.server.observe import place_of

logger = logging.getLogger("tracemill.server")
R = TypeVar("R", bound=AnyRecord)


def signalled(headers: Mapping[str, str]) -> bool:
    """Whether a request carries the signal: ``1`` and nothing else (section 3.2 of the specification)."""
    return headers.get("sec-gpc", "").strip() == "1"


def marked(record: R) -> R:
    """A record as it is stored when it came with the signal. What says something of consent itself stays as it is."""
    if isinstance(record, Consent):
        return record
    return msgspec.structs.replace(record, extra={**record.extra, GLOBAL_PRIVACY_CONTROL: True})


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


def users_of(records: Iterable[AnyRecord]) -> list[User]:
    """Whom some records name, but for those that are about consent."""
    found = (getattr(record, "user", None) for record in records if not isinstance(record, Consent))
    return [user for user in found if user is not None]


async def honour(context: Context, principal: Principal, users: Iterable[User]) -> None:
    """Store the signal as the consent of some people. Where that fails, the mark is on the records, and the log says so."""
    for user in {one.pseudonym: one for one in users}.values():
        try:
            await context.run(
                context.workspace.consenting.honour_gpc, user, principal.project, actor=principal.name or "gpc"
            )
        except (TracemillError, OSError) as error:
            context.metrics.capture_failures.labels("gpc").inc()
            logger.error("signal_not_stored", extra={"fields": {"place": place_of(error)}})
