"""What a certificate of a dataset version says: checks with their numbers, signed. Never content."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

CERTIFICATE_VERSION = 1
State: TypeAlias = Literal["passed", "failed", "unknown"]


class Check(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that was looked at.

    ``hits`` of ``total`` were found; ``value`` is their share, ``low`` and ``high`` its 95 % interval (Wilson's; with no hits
    ``high`` is 3/n, the rule of three). The check is passed where ``value`` is at most the ``threshold``. ``reason`` says why
    it is ``unknown``. ``detail`` holds counts and names of kinds.
    """

    name: str
    state: State
    hits: int = 0
    total: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    reason: str = ""
    detail: dict[str, Any] = {}


class Certificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found of a version when it was looked at (``certificate.json`` beside the manifest).

    ``manifest_sha256`` binds it to the version's content: the manifest names every file's SHA-256. ``watermark`` is the place
    of the newest record then: what people allowed is what they had said by then. ``signature`` is Ed25519 over
    :meth:`signed_bytes` by the workspace's key, of which ``key_id`` is the first 16 hex digits of the SHA-256.
    """

    certificate_version: int
    dataset: str
    version: str
    manifest_sha256: str
    issued: str
    tracemill: str
    watermark: int
    checks: list[Check]
    key_id: str = ""
    signature: str = ""

    @property
    def state(self) -> State:
        """``failed`` where any check is, else ``unknown`` where any is, else ``passed``."""
        states = {check.state for check in self.checks}
        return "failed" if "failed" in states else "unknown" if "unknown" in states or not states else "passed"

    def signed_bytes(self) -> bytes:
        """What the signature is over: the certificate without it, as JSON with sorted keys."""
        return msgspec.json.encode(msgspec.structs.replace(self, signature=""), order="sorted")
