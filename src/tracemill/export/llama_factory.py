"""Rows of LLaMA-Factory: ShareGPT turns and Alpaca instructions.

ShareGPT here is the form LLaMA-Factory's converter takes: ``from`` is ``human``, ``gpt``, ``function_call`` or
``observation``, people and observations at even places, the model at odd ones. A ``function_call`` is JSON text, one
``{"name", "arguments"}`` or a list of them, and leaves no room for words beside it. Several results of one message are one
observation, joined as LLaMA-Factory joins them itself. Neither form has ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tracemill.core.examples import DatasetFile
from tracemill.core.records import Message
from tracemill.export.losses import Lost, RefusedError, pointer

BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"
_SAID = {"user": "human", "assistant": "gpt"}


def _without_system(messages: list[Message], side: str, lost: list[Lost]) -> tuple[str, list[tuple[int, Message]]]:
    """The system prompt, and the other messages with their places. Names of speakers have no room in either form."""
    leading = [message for message in messages if message["role"] == "system"]
    if len(leading) > 1:
        raise RefusedError("several_system_messages", "the format has one system prompt")
    if leading and not leading[0].get("content"):
        raise RefusedError("empty_message", "the system prompt says nothing")
    if leading and messages[0]["role"] != "system":
        raise RefusedError("late_system", "the system prompt is inside of the conversation")
    for at, message in enumerate(messages):
        if message.get("name") and message["role"] != "tool":
            lost.append(Lost(f"/{side}/{at}/name", "field_not_in_format"))
    return leading[0].get("content", "") if leading else "", list(enumerate(messages))[len(leading) :]


# -- ShareGPT


def _turns(messages: list[tuple[int, Message]], side: str, lost: list[Lost]) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    results: list[str] = []
    for at, message in messages:
        if message["role"] == "tool":
            results.append(message.get("content", ""))
            continue
        _observe(turns, results)
        results = []
        if not message.get("tool_calls"):
            turns.append({"from": _SAID[message["role"]], "value": message.get("content", "")})
            continue
        if message.get("content"):
            lost.append(Lost(f"/{side}/{at}/content", "field_not_in_format", "a call leaves no room for words"))
        called = [call["function"] for call in message["tool_calls"]]
        calls = [{"name": function["name"], "arguments": function["arguments"]} for function in called]
        value = calls[0] if len(calls) == 1 else calls
        turns.append({"from": "function_call", "value": json.dumps(value, ensure_ascii=False)})
    _observe(turns, results)
    return turns


def _observe(turns: list[dict[str, str]], results: list[str]) -> None:
    if not results:
        return
    if len(results) > 1 and any(BETWEEN_RESULTS in result for result in results):
        raise RefusedError("separator_in_result", "a result holds what stands between results")
    turns.append({"from": "observation", "value": BETWEEN_RESULTS.join(results)})


def _check_turns(turns: list[dict[str, str]]) -> None:
    for at, turn in enumerate(turns):
        if turn["from"] not in (("human", "observation"), ("gpt", "function_call"))[at % 2]:
            raise RefusedError("roles_not_alternating", f"turn {at} is of {turn['from']}")


def _said(turns: list[dict[str, str]], calls: list[str], names: list[str]) -> list[Message]:
    """The messages of turns. ``calls`` and ``names`` are those still to be answered, and are changed."""
    messages: list[Message] = []
    for turn in turns:
        if turn["from"] == "observation":
            results = turn["value"].split(BETWEEN_RESULTS) if len(calls) > 1 else [turn["value"]]
            for value in results:
                message = {"role": "tool", "tool_call_id": calls.pop(0), "name": names.pop(0), "content": value}
                messages.append(message)
        elif turn["from"] == "function_call":
            found = json.loads(turn["value"])
            asked = found if isinstance(found, list) else [found]
            names[:] = [function["name"] for function in asked]
            calls[:] = [""] * len(asked)
            called = [{"id": "", "type": "function", "function": function} for function in asked]
            messages.append({"role": "assistant", "tool_calls": called})
        else:
            role = {"human": "user", "gpt": "assistant"}[turn["from"]]
            messages.append({"role": role, "content": turn["value"]})
    return messages


def _head(row: dict[str, Any], system: str) -> dict[str, Any]:
    tools = [tool.get("function", tool) for tool in row.get("tools", ())]
    return {"system": system, "tools": json.dumps(tools, ensure_ascii=False) if tools else ""}


def _read_head(row: dict[str, Any]) -> tuple[list[Message], dict[str, Any]]:
    system: list[Message] = [{"role": "system", "content": row["system"]}] if row["system"] else []
    if not row["tools"]:
        return system, {}
    return system, {"tools": [{"type": "function", "function": tool} for tool in json.loads(row["tools"])]}


def _check_tools(row: dict[str, Any], lost: list[Lost]) -> None:
    """Tools are descriptions of functions here: what stands beside ``function`` in a tool is lost."""
    for at, tool in enumerate(row.get("tools", ())):
        if tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
            raise RefusedError("tool_is_no_function", f"/tools/{at} describes no function")
        beside = sorted(tool.keys() - {"type", "function"})
        lost.extend(Lost(f"/tools/{at}{pointer(key)}", "field_not_in_format") for key in beside)


def sharegpt(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"conversations", "system", "tools"}``. Raises RefusedError."""
    _check_tools(row, lost)
    system, messages = _without_system(row["messages"], "messages", lost)
    turns = _turns(messages, "messages", lost)
    _check_turns(turns)
    return {"conversations": turns, **_head(row, system)}


def read_sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`sharegpt`, as far as the form goes."""
    system, tools = _read_head(row)
    return {"messages": in_sequence([*system, *_said(row["conversations"], [], [])]), **tools}


def _check_answer(messages: list[Message], side: str) -> None:
    if len(messages) != 1:
        raise RefusedError(
            "answer_not_one_message", f"the format knows single answers, {side} is {len(messages)} messages"
        )
    if messages[0]["role"] != "assistant":
        raise RefusedError("last_message_not_assistant", f"{side} does not end with an assistant message")


def sharegpt_kto(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """As :func:`sharegpt`, with ``kto_tag``. Raises RefusedError where the completion is not one message."""
    _check_answer(row["completion"], "completion")
    _check_tools(row, lost)
    system, messages = _without_system(row["prompt"], "prompt", lost)
    turns = _turns(messages, "prompt", lost) + _turns([(0, row["completion"][0])], "completion", lost)
    _check_turns(turns)
    return {"conversations": turns, "kto_tag": row["label"], **_head(row, system)}


def read_sharegpt_kto(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`sharegpt_kto`."""
    system, tools = _read_head(row)
    messages = in_sequence([*system, *_said(row["conversations"], [], [])])
    return {"prompt": messages[:-1], "completion": messages[-1:], "label": row["kto_tag"], **tools}


def sharegpt_preference(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """As :func:`sharegpt` with ``chosen`` and ``rejected``, one turn each. Raises RefusedError."""
    _check_answer(row["chosen"], "chosen")
    _check_answer(row["rejected"], "rejected")
    _check_tools(row, lost)
    system, messages = _without_system(row["prompt"], "prompt", lost)
    turns = _turns(messages, "prompt", lost)
    (chosen,) = _turns([(0, row["chosen"][0])], "chosen", lost)
    (rejected,) = _turns([(0, row["rejected"][0])], "rejected", lost)
    _check_turns([*turns, chosen])
    _check_turns([*turns, rejected])
    return {"conversations": turns, "chosen": chosen, "rejected": rejected, **_head(row, system)}


def read_sharegpt_preference(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`sharegpt_preference`."""
    system, tools = _read_head(row)
    prompt = [*system, *_said(row["conversations"], [], [])]
    whole = in_sequence([*prompt, *_said([row["chosen"]], [], []), *_said([row["rejected"]], [], [])])
    return {"prompt": whole[:-2], "chosen": whole[-2:-1], "rejected": whole[-1:], **tools}


def in_sequence(messages: list[Message]) -> list[Message]:
    """Messages of a form without ids, with the ids that their order says."""
    count = 0
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            message["tool_call_id"] = waiting.pop(0)
            continue
        waiting = []
        for call in message.get("tool_calls", ()):
            count += 1
            call["id"] = f"call_{count}"
            waiting.append(call["id"])
    return messages


# -- Alpaca


def alpaca(row: dict[str, Any], lost: list[Lost]) -> dict[str, Any]:
    """``{"instruction", "input", "output", "system", "history"}``: talk without tools. Raises RefusedError."""
    if row.get("tools"):
        lost.append(Lost("/tools", "field_not_in_format", f"{len(row['tools'])} tools, none of which is called"))
    system, messages = _without_system(row["messages"], "messages", lost)
    texts = []
    for turn, (at, message) in enumerate(messages):
        if message["role"] == "tool" or message.get("tool_calls"):
            raise RefusedError("tool_calls_not_in_format", f"/messages/{at} is a tool's or calls one")
        if message["role"] != ("user", "assistant")[turn % 2]:
            raise RefusedError("roles_not_alternating", f"/messages/{at} is of {message['role']}")
        texts.append(message.get("content", ""))
    if len(texts) < 2 or len(texts) % 2:
        raise RefusedError("last_message_not_assistant", "no question is followed by an answer")
    history = [[texts[at], texts[at + 1]] for at in range(0, len(texts) - 2, 2)]
    return {"instruction": texts[-2], "input": "", "output": texts[-1], "system": system, "history": history}


def read_alpaca(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`alpaca`."""
    messages: list[Message] = [{"role": "system", "content": row["system"]}] if row["system"] else []
    question = "\n".join(filter(None, [row["instruction"], row["input"]]))
    for asked, answered in [*row["history"], [question, row["output"]]]:
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    return {"messages": messages}


LLAMA_FACTORY = frozenset({"sharegpt", "sharegpt-preference", "sharegpt-kto", "alpaca"})
"""The formats that have a ``dataset_info.json``."""


def dataset_info(name: str, format: str, written: Mapping[str, Sequence[DatasetFile]]) -> dict[str, Any]:  # noqa: A002
    """LLaMA-Factory's ``dataset_info.json`` for the files of an export, by split.

    An entry names one file: ``<name>_<split>``, or ``<name>_<split>_<number>`` for each of several.
    """
    columns = {"system": "system"}
    entry: dict[str, Any] = {}
    if format == "alpaca":
        columns |= {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
    else:
        entry["formatting"] = "sharegpt"
        columns |= {"messages": "conversations", "tools": "tools"}
    if format == "sharegpt-preference":
        entry["ranking"] = True
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    if format == "sharegpt-kto":
        columns["kto_tag"] = "kto_tag"
    return {
        f"{name}_{split}" + (f"_{number}" if len(files) > 1 else ""): {
            "file_name": file.path,
            **entry,
            "columns": columns,
        }
        for split, files in written.items()
        for number, file in enumerate(files)
    }
