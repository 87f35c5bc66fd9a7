"""What was found in a text lately: calls of one conversation repeat its messages, and the same text gives the same findings."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Protocol

from tracemill.privacy.detect import Finding

_TEXTS = 50_000
_SHORT = 16
"""A shorter word is looked through faster than it is hashed and looked up."""


class Finds(Protocol):
    """Finds spans in a text: by place, none overlapping another, a function of the text alone."""

    def find(self, text: str) -> list[Finding]:
        """Every finding in a text."""


class Memory:
    """A detector that remembers, by the digests of texts, what it found: no text is kept. Safe for several threads."""

    def __init__(self, detector: Finds, texts: int = _TEXTS) -> None:
        self._detector = detector
        self._texts = texts
        self._found: OrderedDict[bytes, list[Finding]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, text: str) -> list[Finding]:
        """As the detector finds it."""
        if len(text) < _SHORT and text.isalpha():
            return self._detector.find(text)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
                return found
        found = self._detector.find(text)
        with self._lock:
            self._found[key] = found
            while len(self._found) > self._texts:
                self._found.popitem(last=False)
        return found
