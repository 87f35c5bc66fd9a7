"""Putting what an application hands over into the fields of a record, without losing what does not fit.

Records are built without validation (that would cost the caller) and decoded with it, so a field of the wrong type
would be quarantined with all the rest of its record. Here it is turned into the field's type where that is plain
(``"3"`` for a count), and kept under ``extra`` where it is not. So is every name that no field has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import msgspec

from tracemill.core.records import AnyRecord
from tracemill.sdk.plain import Later

_MISFIT = object()
_NEVER: frozenset[type] = frozenset()
_DICTS = {dict}
_SPELLINGS = {
    "optimization": "optimisation",
    "success": "successful",
    "succeeded": "successful",
    "failure": "failed",
}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class _Field(NamedTuple):
    """What one field of a record takes: values of ``exact`` types as they stand, others as far as ``accept`` can help.

    ``kind`` is the type it wants, None for any.
    """

    exact: frozenset[type]
    kind: type | None
    pattern: re.Pattern[str] | None = None
    least: float | None = None
    most: float | None = None
    choices: frozenset[Any] = frozenset()

    def accept(self, value: Any) -> Any:
        if self.kind is None or type(value) in self.exact:
            return value
        if type(value) is not self.kind or self.kind is datetime:
            value = _CONVERSIONS[self.kind](value) if self.kind in _CONVERSIONS else _to_part(value, self.kind)
            if value is _MISFIT or type(value) is Later:
                return value
        if self.pattern is not None and not self.pattern.match(value):
            return _MISFIT
        if (self.least is not None and not value >= self.least) or (self.most is not None and not value <= self.most):
            return _MISFIT
        if self.choices and value not in self.choices:
            word = str(value).lower()
            word = _SPELLINGS.get(word, word)
            return word if word in self.choices else _MISFIT
        return value


_tables: dict[type, dict[str, _Field]] = {}


def fit_part(part: type[msgspec.Struct], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was given of a part of a record: what its fields take, and the rest. None counts as not given."""
    table = _tables.get(part)
    if table is None:
        table = _tables[part] = _table(part)
    known: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in given.items():
        if value is not None:
            accepted = table[name].accept(value) if name in table else _MISFIT
            (rest if accepted is _MISFIT else known)[name] = value if accepted is _MISFIT else accepted
    return known, rest


def fit(record_type: type[AnyRecord], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record made of what was given. None counts as not given.

    ``extra`` may be given as a mapping and is added to. Values are not copied, except that tuples and sets become lists
    where a field is a list.
    """
    table = _tables.get(record_type)
    if table is None:
        table = _tables[record_type] = _table(record_type)
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        field = table.get(name)
        if field is not None and name != "extra":
            if field.kind is None or type(value) in field.exact:
                fields[name] = value
                continue
            accepted = field.accept(value)
            if accepted is not _MISFIT:
                fields[name] = accepted
                continue
        elif name == "extra" and isinstance(value, Mapping):
            extra.update((str(key), child) for key, child in value.items())
            continue
        extra[str(name)] = value
    if extra:
        fields["extra"] = extra
    return fields


def _table(record_type: type[msgspec.Struct]) -> dict[str, _Field]:
    info = msgspec.inspect.type_info(record_type)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.name: _field(field.type) for field in info.fields}


def _field(info: msgspec.inspect.Type) -> _Field:
    while isinstance(info, (msgspec.inspect.Metadata, msgspec.inspect.UnionType)):
        if isinstance(info, msgspec.inspect.Metadata):
            info = info.type
            continue
        members = [member for member in info.types if not isinstance(member, msgspec.inspect.NoneType)]
        if len(members) != 1:  # an id that is text or a number
            texts = all(isinstance(member, (msgspec.inspect.StrType, msgspec.inspect.IntType)) for member in members)
            return _Field(frozenset({str, int}), str) if texts else _Field(_NEVER, None)
        info = members[0]
    match info:
        case msgspec.inspect.StrType(pattern=None):
            return _Field(frozenset({str}), str)
        case msgspec.inspect.StrType():
            return _Field(_NEVER, str, re.compile(str(info.pattern)))
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            kind = int if isinstance(info, msgspec.inspect.IntType) else float
            bounded = info.ge is not None or info.le is not None
            return _Field(_NEVER if bounded else frozenset({kind, int}), kind, least=info.ge, most=info.le)
        case msgspec.inspect.BoolType():
            return _Field(frozenset({bool}), bool)
        case msgspec.inspect.LiteralType():
            return _Field(_NEVER, str, choices=frozenset(info.values))
        case msgspec.inspect.DateTimeType():
            return _Field(_NEVER, datetime)
        case msgspec.inspect.ListType():
            return _list_field(info.item_type)
        case msgspec.inspect.DictType():
            return _Field(frozenset({dict}), dict)
        case msgspec.inspect.StructType():
            return _Field(frozenset({info.cls}), info.cls)
    return _Field(_NEVER, None)


def _list_field(item: msgspec.inspect.Type) -> _Field:
    if isinstance(item, msgspec.inspect.AnyType):
        return _Field(frozenset({list}), list)
    if isinstance(item, msgspec.inspect.StrType):
        return _Field(_NEVER, _Texts)
    return _Field(_NEVER, _Structs if isinstance(item, msgspec.inspect.StructType) else _Mappings)


class _Texts:
    """Stands for ``list[str]`` among the kinds of fields."""


class _Mappings:
    """Stands for a list of objects among the kinds of fields."""


class _Structs:
    """Stands for a list of parts of records, which their maker has made, among the kinds of fields."""


def _to_text(value: Any) -> Any:
    if isinstance(value, str):  # a subclass, an Enum of text
        return str.__str__(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    # A UUID or a date writes itself; anything else would put a memory address into a field.
    return str(value) if isinstance(value, date) or type(value).__name__ == "UUID" else _MISFIT


def _to_int(value: Any) -> Any:
    if isinstance(value, bool):
        return _MISFIT
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return _MISFIT
    return number if isinstance(value, str) or number == value else _MISFIT


def _to_float(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, (Mapping, Sequence)) and not isinstance(value, str)):
        return _MISFIT
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return _MISFIT


def _to_bool(value: Any) -> Any:
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower(), _MISFIT)
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    return value.item() if type(value).__name__ in ("bool_", "bool") and hasattr(value, "item") else _MISFIT


def _to_time(value: Any) -> Any:
    """An aware UTC time of a datetime (a naive one is local, as Python has it), ISO 8601 text, or Unix seconds."""
    if isinstance(value, datetime) and value.tzinfo is UTC:
        return value
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            value = datetime.fromtimestamp(value, UTC)
        return value.astimezone(UTC) if isinstance(value, datetime) else _MISFIT
    except (ValueError, OverflowError, OSError):
        return _MISFIT


def _to_list(value: Any) -> Any:
    return list(value) if isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes)) else _MISFIT


def _to_texts(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    items = _to_list(value)
    if items is _MISFIT:
        return items
    texts = [_to_text(item) for item in items]
    return _MISFIT if any(text is _MISFIT for text in texts) else texts


def _to_mappings(value: Any) -> Any:
    if type(value) is list and {type(item) for item in value} <= _DICTS:
        return value
    items = [value] if isinstance(value, Mapping) else _to_list(value)
    if items is _MISFIT:
        return items
    plain = [item if type(item) is dict else _to_dict(item) for item in items]
    return _MISFIT if any(item is _MISFIT for item in plain) else plain


def _to_structs(value: Any) -> Any:
    return value if type(value) is list and all(isinstance(item, msgspec.Struct) for item in value) else _MISFIT


def _to_part(value: Any, part: type) -> Any:
    """A part of a record given as a mapping of its fields; a value promised for later."""
    if type(value) is Later:
        return value
    try:
        return msgspec.convert(value, part, strict=False) if isinstance(value, Mapping) else _MISFIT
    except (msgspec.ValidationError, RecursionError):
        return _MISFIT


def _to_dict(value: Any) -> Any:
    return {str(key): child for key, child in value.items()} if isinstance(value, Mapping) else _MISFIT


def time_of(value: Any) -> datetime | None:
    """The aware UTC time that a value states (see :func:`fit`), or None."""
    time = _to_time(value)
    return time if isinstance(time, datetime) else None


_CONVERSIONS: dict[type, Any] = {
    str: _to_text,
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    datetime: _to_time,
    list: _to_list,
    _Texts: _to_texts,
    _Mappings: _to_mappings,
    _Structs: _to_structs,
    dict: _to_dict,
}
