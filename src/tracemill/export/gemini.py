"""Rows of Gemini (Vertex AI tuning and the Gemini API): ``systemInstruction``, ``contents`` of parts, ``tools``.

A model's turn is ``model`` with text and ``functionCall`` parts; results are ``functionResponse`` parts of one ``user`` turn,
their text under ``output``, which is the key the API reads a function's output from. Function declarations hold an OpenAPI
schema with type names in capitals, which knows less than JSON Schema: what only annotates is listed as lost, and a schema
that would come to allow something else is refused.
"""

from __future__ import annotations

from typing import Any

from tracemill.core.records import Message
from tracemill.export.llama_factory import in_sequence
from tracemill.export.losses import Lost, RefusedError, is_empty, pointer

_TYPES = {name: name.upper() for name in ("string", "number", "integer", "boolean", "array", "object", "null")}
_NAMES = {capital: name for name, capital in _TYPES.items()}
_KEPT = frozenset(
    {
        *("title", "description", "nullable", "default", "format", "enum", "required", "pattern", "example"),
        *("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "minProperties", "maxProperties"),
    }
)
_ANNOTATIONS = frozenset({"$schema", "$id", "$comment", "examples", "additionalProperties", "deprecated", "readOnly"})
"""What a schema may lack and still describe the arguments; extra arguments are not described by any schema."""


def gemini(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"systemInstruction"?, "contents", "tools"?}``. Raises RefusedError."""
    made: dict[str, Any] = {}
    messages: list[Message] = row["messages"]
    leading = next((at for at, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if any(message["role"] == "system" for message in messages[leading:]):
        raise RefusedError("late_system", "the system instruction stands before the contents")
    for at, message in enumerate(messages):
        if message.get("name") and message["role"] != "tool":
            lost.append(Lost(f"/messages/{at}/name", "field_not_in_format"))
    if leading:
        made["systemInstruction"] = {"parts": [{"text": message.get("content", "")} for message in messages[:leading]]}
    made["contents"] = _contents(messages[leading:])
    if row.get("tools"):
        made["tools"] = [{"functionDeclarations": _declarations(row["tools"], lost)}]
    return made


def _contents(messages: list[Message]) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = []
    answering = False
    for message in messages:
        role, text = message["role"], message.get("content", "")
        if role == "tool":
            part = {"functionResponse": {"name": message["name"], "response": {"output": text}}}
            if answering:
                contents[-1]["parts"].append(part)
            else:
                contents.append({"role": "user", "parts": [part]})
        else:
            parts: list[dict[str, Any]] = [{"text": text}] if text or not message.get("tool_calls") else []
            for call in message.get("tool_calls", ()):
                function = call["function"]
                parts.append({"functionCall": {"name": function["name"], "args": function["arguments"]}})
            contents.append({"role": "model" if role == "assistant" else "user", "parts": parts})
        answering = role == "tool"
    return contents


def read_gemini(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`gemini`, as far as the form goes."""
    parts = row["systemInstruction"]["parts"] if "systemInstruction" in row else []
    messages: list[Message] = [{"role": "system", "content": part["text"]} for part in parts]
    for content in row["contents"]:
        messages.extend(_read_content(content))
    read: dict[str, Any] = {"messages": in_sequence(messages)}
    if "tools" in row:
        (tool,) = row["tools"]
        read["tools"] = [_tool(declaration) for declaration in tool["functionDeclarations"]]
    return read


def _read_content(content: dict[str, Any]) -> list[Message]:
    messages: list[Message] = []
    for part in content["parts"]:
        if "functionResponse" in part:
            answer = part["functionResponse"]
            messages.append({"role": "tool", "name": answer["name"], "content": answer["response"]["output"]})
        elif "functionCall" in part:
            called = part["functionCall"]
            function = {"name": called["name"], "arguments": called["args"]}
            if not messages:
                messages.append({"role": "assistant", "tool_calls": []})
            messages[-1].setdefault("tool_calls", []).append({"type": "function", "function": function})
        else:
            role = {"model": "assistant", "user": "user"}[content["role"]]
            messages.append({"role": role, "content": part["text"]})
    return messages


# -- tools


def _declarations(tools: list[Any], lost: list[Lost]) -> list[dict[str, Any]]:
    made = []
    for at, tool in enumerate(tools):
        function = tool.get("function")
        if (
            tool.get("type") != "function"
            or not isinstance(function, dict)
            or not isinstance(function.get("name"), str)
        ):
            raise RefusedError("tool_is_no_function", f"/tools/{at} describes no function by name")
        beside = sorted(tool.keys() - {"type", "function"})
        lost.extend(Lost(f"/tools/{at}{pointer(key)}", "field_not_in_format") for key in beside)
        path = f"/tools/{at}/function"
        declaration = {key: function[key] for key in ("name", "description") if key in function}
        for key, value in function.items():
            if key == "parameters" and not is_empty(value):
                declaration["parameters"] = _schema(value, f"{path}/parameters", lost)
            elif key not in ("name", "description", "parameters") and not is_empty(value):
                lost.append(Lost(path + pointer(key), "field_not_in_format"))
        made.append(declaration)
    return made


def _schema(schema: Any, path: str, lost: list[Lost]) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise RefusedError("schema_not_in_format", f"{path} is {type(schema).__name__}")
    made: dict[str, Any] = {}
    for key, value in schema.items():
        place = path + pointer(key)
        if key == "type":
            if not isinstance(value, str) or value not in _TYPES:
                raise RefusedError("schema_not_in_format", f"{place} is {value!r}")
            made[key] = _TYPES[value]
        elif key == "properties" and isinstance(value, dict):
            made[key] = {name: _schema(child, place + pointer(name), lost) for name, child in value.items()}
        elif key == "items":
            made[key] = _schema(value, place, lost)
        elif key == "anyOf" and isinstance(value, list):
            made[key] = [_schema(child, f"{place}/{at}", lost) for at, child in enumerate(value)]
        elif key in _KEPT:
            made[key] = value
        elif key in _ANNOTATIONS:
            lost.append(Lost(place, "field_not_in_format"))
        else:
            raise RefusedError("schema_not_in_format", f"{place} has no place in an OpenAPI schema")
    return made


def _tool(declaration: dict[str, Any]) -> dict[str, Any]:
    function = dict(declaration)
    if "parameters" in function:
        function["parameters"] = _json_schema(function["parameters"])
    return {"type": "function", "function": function}


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    made = dict(schema)
    if "type" in made:
        made["type"] = _NAMES[made["type"]]
    if "properties" in made:
        made["properties"] = {name: _json_schema(child) for name, child in made["properties"].items()}
    if "items" in made:
        made["items"] = _json_schema(made["items"])
    if "anyOf" in made:
        made["anyOf"] = [_json_schema(child) for child in made["anyOf"]]
    return made
