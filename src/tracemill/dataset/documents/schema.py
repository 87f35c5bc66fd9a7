"""What each field of each type of example means, of which type it is, and what was seen of it in the rows.

Meanings are the sentences of the types' own docstrings that name the field, so that there is one place where they are said.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from tracemill.core.examples import EXAMPLE_TYPES
from tracemill.dataset.documents.observe import FieldSeen, Observed

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`(])")
TAG = "example"


@cache
def meanings(kind: type[Any]) -> dict[str, str]:
    """The meaning of each field of a Struct, out of its docstring and those of the Structs it is built on."""
    sentences: list[str] = []
    for base in kind.__mro__:
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct and base.__dict__.get("__doc__"):
            for paragraph in inspect.cleandoc(base.__doc__ or "").split("\n\n"):
                sentences.extend(_SENTENCE.split(" ".join(paragraph.split())))
    found = {TAG: "The type of the example."} if kind.__struct_config__.tag_field == TAG else {}
    for name in kind.__struct_fields__:
        said = [sentence for sentence in sentences if f"``{name}``" in sentence]
        found[name] = " ".join(said).replace("``", "`")
    return found


def summary(kind: type[Any]) -> str:
    """The first sentences of a Struct's docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


@cache
def field_types(kind: type[Any]) -> dict[str, str]:
    """The type of each field as Python writes it, with limits where there are some: ``float (ge=0, le=1)``."""
    hints = get_type_hints(kind, include_extras=True)
    found = {TAG: "str"} if kind.__struct_config__.tag_field == TAG else {}
    return found | {name: _type_name(hints[name]) for name in kind.__struct_fields__}


def _type_name(hint: Any) -> str:
    """A type as Python writes it, the same from every version of Python; limits of the outermost one in brackets."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [
            f"{bound}={value:g}"
            for meta in arguments[1:]
            for bound in ("ge", "gt", "le", "lt")
            if isinstance(meta, msgspec.Meta) and (value := getattr(meta, bound)) is not None
        ]
        return _type_name(arguments[0]) + (f" ({', '.join(bounds)})" if bounds else "")
    if origin is Literal:
        return " | ".join(repr(value) for value in arguments)
    if origin in (Union, UnionType):
        return " | ".join(map(_type_name, arguments))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_type_name, arguments))}]"
    return "None" if hint is NoneType else str(getattr(hint, "__name__", hint))


def schema_document(observed: Mapping[str, Observed]) -> dict[str, Any]:
    """The document: by type of example its rows, and by field type, meaning, presence, and the range of what was seen.

    A field that is not written has its default. ``range`` is of numbers, ``length`` of lists.
    """
    return {"examples": {tag: _type(tag, seen) for tag, seen in sorted(observed.items())}}


def _type(tag: str, seen: Observed) -> dict[str, Any]:
    kind = EXAMPLE_TYPES.get(tag)
    described = {} if kind is None else meanings(kind)
    types = {} if kind is None else field_types(kind)
    names = [*described, *sorted(seen.fields.keys() - described.keys())]
    return {
        "meaning": "" if kind is None else summary(kind),
        "rows": seen.total,
        "fields": {
            name: {
                "type": types.get(name, ""),
                "meaning": described.get(name, ""),
                "required": kind is not None and (name == TAG or _required(kind, name)),
                **_seen(seen.fields.get(name, FieldSeen()), seen.total),
            }
            for name in names
        },
    }


def _required(kind: type[Any], name: str) -> bool:
    return any(info.name == name and info.required for info in msgspec.structs.fields(kind))


def _seen(seen: FieldSeen, rows: int) -> dict[str, Any]:
    plain: dict[str, Any] = {"present": seen.present, "share": seen.present / rows if rows else 0.0}
    if seen.numbers:
        plain |= {"range": [seen.least, seen.most], "mean": seen.total / seen.numbers}
    elif seen.lists:
        plain["length"] = [int(seen.least), int(seen.most)]
    if seen.true:
        plain["true"] = seen.true
    return plain
