"""Deliveries to test with: real objects that take records, hang, fail or refuse."""

from __future__ import annotations

import contextlib
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracemill.core import codec
from tracemill.core.errors import DeliveryError
from tracemill.core.records import AnyRecord
from tracemill.core.settings import Settings, load_settings
from tracemill.sdk.delivery import Delivered

MESSAGES = [{"role": "user", "content": "hello"}]


def settings(path: Path, **arguments: Any) -> Settings:
    return load_settings({"workspace": str(path), "delivery_interval_ms": 5, **arguments}, environment={})


def open_files() -> list[str]:
    """The files this process's descriptors are open for; not folders, which hold no lock and no room while they are listed."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one the listing itself was made with
            if stat.S_ISREG(descriptor.stat().st_mode):
                names.append(str(descriptor.readlink()))
    return names


class Memory:
    """Keeps what it is given, once an id, as the store does."""

    def __init__(self) -> None:
        self.records: dict[str, AnyRecord] = {}
        self.taken = 0
        self.closed = False

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        for item in items:
            record = codec.decode(item)
            self.records[record.id] = record
        self.taken += len(items)
        return Delivered(len(items))

    def close(self) -> None:
        self.closed = True


class Hung(Memory):
    """Hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.entered = threading.Event()

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        self.entered.set()
        self.release.wait(60)
        return super().deliver(items)


class Failing(Memory):
    """Fails the first few times, as a store that is locked or a server that restarts."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        if self.failures > 0:
            self.failures -= 1
            raise DeliveryError("not now")
        return super().deliver(items)


class Picky(Memory):
    """Refuses for good every batch that holds a record of this intent."""

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        if any(getattr(codec.decode(item), "intent", None) == "poison" for item in items):
            raise DeliveryError("I will not have this", retry=False)
        return super().deliver(items)
