"""Words about consent that every room shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from tracemill.core.records import AnyRecord, Consent, User

R = TypeVar("R", bound=AnyRecord)
Default: TypeAlias = Literal["granted", "denied"]
"""What holds for somebody who said nothing."""
NO_CONSENT = "no_consent"
"""Why a record is refused whose person does not allow that it is stored."""
GLOBAL_PRIVACY_CONTROL = "global_privacy_control"
"""The key in a record's ``extra`` that says that it came with the signal Global Privacy Control (``Sec-GPC: 1``, W3C)."""
GPC_SOURCE = "gpc"
"""The ``source`` of a consent record that was made of that signal."""
GPC_PURPOSES: tuple[Literal["train", "share"], ...] = ("train", "share")
"""What the signal denies: it asks not to sell or share, nor to use beyond what the person came for."""
SPAN_ATTRIBUTE = "http.request.header.sec-gpc"
"""The span attribute by which OpenTelemetry's instrumentation says it (HTTP semantic conventions); its value is a list."""


def signalled(headers: Mapping[str, str]) -> bool:
    """Whether a request carries the signal: ``1`` and nothing else (section 3.2 of the specification).

    ``headers`` are looked up by names in small letters.
    """
    return headers.get("sec-gpc", "").strip() == "1"


def marked(record: R) -> R:
    """A record as it is stored when it came with the signal. What says something of consent itself stays as it is."""
    if isinstance(record, Consent):
        return record
    return msgspec.structs.replace(record, extra={**record.extra, GLOBAL_PRIVACY_CONTROL: True})


def users_of(records: Iterable[AnyRecord]) -> list[User]:
    """Whom some records name, but for those that are about consent."""
    found = (getattr(record, "user", None) for record in records if not isinstance(record, Consent))
    return [user for user in found if user is not None]


def is_private(extra: Mapping[str, Any]) -> bool:
    """Whether a record's ``extra`` says that it came with the signal: our own mark, or OpenTelemetry's attribute."""
    if extra.get(GLOBAL_PRIVACY_CONTROL) in (True, 1, "1", "true"):
        return True
    attributes = extra.get("attributes")
    value = attributes.get(SPAN_ATTRIBUTE) if isinstance(attributes, Mapping) else None
    return value == "1" or (isinstance(value, list) and "1" in value)
