"""Words about consent that every room shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

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


def is_private(extra: Mapping[str, Any]) -> bool:
    """Whether a record's ``extra`` says that it came with the signal: our own mark, or OpenTelemetry's attribute."""
    if extra.get(GLOBAL_PRIVACY_CONTROL) in (True, 1, "1", "true"):
        return True
    attributes = extra.get("attributes")
    value = attributes.get(SPAN_ATTRIBUTE) if isinstance(attributes, Mapping) else None
    return value == "1" or (isinstance(value, list) and "1" in value)
