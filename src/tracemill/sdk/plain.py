"""Values of the host application as values a record can hold.

A record is made of what applications have at hand: numpy numbers, pydantic models, decimals, objects of any kind. What
MessagePack cannot hold is turned into what it can here, off the caller's thread. Nothing is called that could do work or
harm: no generator is run, no property of an unknown object is read, and a ``repr`` that raises, or never comes back, is
survived. What was lost is marked: ``{"$type": …, "$repr": …}``.
"""

from __future__ import annotations

import base64
import dataclasses
import decimal
import enum
import fractions
import pathlib
import threading
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID  # noqa: TID251 - to tell one by its type, not to make one

import msgspec

from tracemill.core.codec import MAX_DEPTH
from tracemill.core.errors import RecordError
from tracemill.core.records import AnyRecord

LONGEST_REPR = 500
LONGEST_ARRAY = 1_000_000
"""Arrays of more elements are marked with their type and shape instead of being kept."""
_PATIENCE = 10.0
_MOST_STUCK = 3
_PLAIN = (str, int, float, bool, type(None), bytes, datetime)
_TEXTS = (UUID, pathlib.PurePath, fractions.Fraction, complex, date, time)


class Later:
    """A value worked out when its record is encoded, off the caller's thread; None when that fails."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def to_plain(value: Any) -> Any:
    """A value that MessagePack can hold: the same where it is JSON-like, a faithful or a marked likeness otherwise.

    Containers that hold themselves and what is nested deeper than a record may be are cut and marked.
    """
    return _convert(value, frozenset(), 0)


def _convert(value: Any, within: frozenset[int], depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is msgspec.msgpack.Ext:
        return {"$type": "Ext", "code": value.code, "data": base64.b64encode(value.data).decode()}
    if depth >= MAX_DEPTH - 20:
        return _marked(value, "nested too deeply")
    if id(value) in within:
        return _marked(value, "holds itself")
    inner = within | {id(value)}
    if kind is Later:
        return _convert(_made(value), inner, depth)
    if isinstance(value, msgspec.Struct):
        return type(value)(
            **{name: _convert(getattr(value, name), inner, depth + 1) for name in value.__struct_fields__}
        )
    if kind is dict:
        return {_key(key): _convert(child, inner, depth + 1) for key, child in value.items()}
    if kind in (list, tuple):
        return [_convert(child, inner, depth + 1) for child in value]
    return _unusual(value, inner, depth)


def _made(value: Later) -> Any:
    try:
        return value.make()
    except Exception:  # noqa: BLE001 - it works on the host's own objects, which may raise anything
        return None


def _unusual(value: Any, within: frozenset[int], depth: int) -> Any:
    try:
        if isinstance(value, enum.Enum):
            return _convert(value.value, within, depth + 1)
        if isinstance(value, (str, int, float, bytes)):  # a subclass, such as numpy.float64
            return _base_value(value)
        if isinstance(value, (bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, decimal.Decimal):
            return str(value)
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, _TEXTS):
            return str(value)
        if isinstance(value, (set, frozenset)):
            return sorted((_convert(child, within, depth + 1) for child in value), key=repr)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return _convert(fields, within, depth + 1)
        if isinstance(value, Mapping) and type(value).__module__.split(".")[0] in ("collections", "types"):
            return _convert(dict(value), within, depth + 1)
        if type(value).__module__ == "numpy" and value.size > LONGEST_ARRAY:
            return _marked(value, f"an array of shape {value.shape}")
        for method in ("model_dump", "tolist"):  # pydantic models; numpy scalars and arrays
            if callable(getattr(type(value), method, None)):
                return _convert(getattr(value, method)(), within, depth + 1)
    except Exception as error:  # noqa: BLE001
        # The host's own objects may raise anything when touched.
        return _marked(value, f"{type(error).__name__} while it was read")
    return _marked(value, None)


def _base_value(value: Any) -> Any:
    kind = next(base for base in (str, bytes, bool, int, float) if isinstance(value, base))
    plain: Any = kind(value)
    return plain


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    if isinstance(key, (str, int, float, bool, type(None), UUID, date, enum.Enum)):
        return str(key.value if isinstance(key, enum.Enum) else key)
    return f"{type(key).__name__}:{_short_repr(key)}"


def _marked(value: Any, why: str | None) -> dict[str, Any]:
    marked = {"$type": f"{type(value).__module__}.{type(value).__qualname__}", "$repr": _short_repr(value)}
    return marked | ({"$cut": why} if why else {})


def _short_repr(value: Any) -> str:
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return f"<{type(value).__name__} of {len(value)}>"
    try:
        return repr(value)[:LONGEST_REPR]
    except Exception as error:  # noqa: BLE001
        # Some __repr__ of the host's may raise anything.
        return f"<repr raised {type(error).__name__}>"


class Converter:
    """Makes records plain in a thread of its own, which is left behind when an object of the host does not answer.

    The spooler calls it. While three such threads hang no more objects are asked: their records are ``unencodable``.
    """

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._stuck: list[_Worker] = []
        self._worker: _Worker | None = None

    def convert(self, record: AnyRecord) -> AnyRecord:
        """The record with plain values only. Raises RecordError ``unencodable``."""
        if self._worker is None:
            self._stuck = [worker for worker in self._stuck if worker.thread.is_alive()]
            if len(self._stuck) >= _MOST_STUCK:
                raise RecordError("unencodable", "objects of the application that were asked before do not answer")
            self._worker = _Worker()
        answer = self._worker.ask(record, self._patience)
        if answer is None:
            self._stuck.append(self._worker)
            self.close()
            raise RecordError("unencodable", f"an object did not answer for {self._patience:g} seconds")
        if isinstance(answer, BaseException):
            raise RecordError("unencodable", type(answer).__name__)
        return answer

    def close(self) -> None:
        """End the thread, when it comes back."""
        if self._worker is not None:
            self._worker.tasks.put(None)
            self._worker = None


class _Worker:
    def __init__(self) -> None:
        self.tasks: SimpleQueue[AnyRecord | None] = SimpleQueue()
        self._answers: SimpleQueue[AnyRecord | BaseException] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="tracemill-converter", daemon=True)
        self._threaded = True
        try:
            self.thread.start()
        except RuntimeError:  # the interpreter is on its way out and starts no more threads
            self._threaded = False

    def ask(self, record: AnyRecord, patience: float) -> AnyRecord | BaseException | None:
        if not self._threaded:
            return _plain_or_error(record)
        self.tasks.put(record)
        try:
            return self._answers.get(timeout=patience)
        except Empty:
            return None

    def _run(self) -> None:
        while (record := self.tasks.get()) is not None:
            self._answers.put(_plain_or_error(record))


def _plain_or_error(record: AnyRecord) -> AnyRecord | BaseException:
    try:
        plain: AnyRecord = to_plain(record)
    except Exception as error:  # noqa: BLE001
        # The host's own objects may raise anything when touched.
        return error
    return plain
