"""Reading the sample: conversations as a person would write them down, turned into what an application would hand over.

A file holds one platform: its models, system prompts and tools, and its conversations. A turn is a user's message with
one or more attempts to answer it (a second one is what “answer again” gives); the conversation goes on from the last. An
attempt lists the tool calls it made (``work``), what it answered, how it went, and what was said of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

FILES = ("support.json", "workflows.json", "research.json")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer with everything an application knows when it has it. ``said`` is the attempt as the sample has it."""

    platform: str
    kind: str
    conversation: dict[str, Any]
    name: str
    time: datetime
    turn: int
    trial: int
    task: str | None
    question: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    response: dict[str, Any] | None
    provider: str
    model: str
    version: str
    cost_usd: float | None
    said: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a session."""

    platform: str
    conversation: dict[str, Any]
    time: datetime
    said: dict[str, Any]


def read_sample() -> Iterator[Attempt | Ending]:
    """Everything that happens in the sample, conversation by conversation."""
    for name in FILES:
        document = json.loads((files("tracemill.demo") / "sample" / name).read_text(encoding="utf-8"))
        for conversation in document["conversations"]:
            yield from _Conversation(document, conversation).events()


def count_sample() -> int:
    """How many interactions the sample has."""
    return sum(1 for event in read_sample() if isinstance(event, Attempt))


class _Conversation:
    def __init__(self, document: dict[str, Any], conversation: dict[str, Any]) -> None:
        self.document, self.conversation = document, conversation
        self.tools = [_schema(name, tool) for name, tool in document["tools"].items()]
        self.history: list[dict[str, Any]] = [
            {"role": "system", "content": document["prompts"][conversation["prompt"]]}
        ]

    def events(self) -> Iterator[Attempt | Ending]:
        if self.conversation.get("whole"):
            yield self._whole()
        for number, turn in enumerate(self.conversation.get("turns", ())):
            attempts = [self._attempt(number, turn, trial, said) for trial, said in enumerate(turn["attempts"])]
            yield from attempts
            last = attempts[-1]
            self.history = [*last.messages, *([last.response] if last.response is not None else [])]
        ending = self.conversation.get("session_end")
        if ending is not None:
            yield Ending(self.document["platform"], self.conversation, _moment(ending["at"]), ending)

    def _attempt(self, number: int, turn: dict[str, Any], trial: int, said: dict[str, Any]) -> Attempt:
        name = f"{self.conversation['id']}/{number}/{trial}"
        question = {"role": "user", "content": turn["user"]}
        messages = [*self.history, question]
        for index, work in enumerate(said.get("work", ())):
            messages.extend(_work_messages(f"{name}/{index}", work))
        time = _moment(turn["at"]) + timedelta(seconds=said.get("after_s", 0))
        also = {"attachments": turn.get("attachments"), "retrieved_chunks": turn.get("chunks")}
        return self._made(
            name, time, number, trial, turn.get("task"), turn["user"], messages, _answer(said), said | also
        )

    def _whole(self) -> Attempt:
        said = self.conversation
        messages = list(self.history)
        for index, part in enumerate(said["messages"]):
            if "call" in part:
                messages.extend(_work_messages(f"{said['id']}/{index}", part))
            else:
                [(role, content)] = part.items()
                messages.append({"role": role, "content": content})
        question = next(message["content"] for message in messages if message["role"] == "user")
        return self._made(said["id"], _moment(said["at"]), 0, 0, said["task"], question, messages, None, said)

    def _made(
        self,
        name: str,
        time: datetime,
        turn: int,
        trial: int,
        task: str | None,
        question: str,
        messages: list[dict[str, Any]],
        response: dict[str, Any] | None,
        said: dict[str, Any],
    ) -> Attempt:
        model = said.get("model", self.conversation["model"])
        about = self.document["models"][model]
        cost = None
        if "tokens" in said:
            prices = about["usd_per_million_tokens"]
            cost = sum(count * price for count, price in zip(said["tokens"], prices, strict=True)) / 1e6
        return Attempt(
            platform=self.document["platform"],
            kind=self.document["kind"],
            conversation=self.conversation,
            name=name,
            time=time,
            turn=turn,
            trial=trial,
            task=task,
            question=question,
            messages=messages,
            tools=self.tools,
            response=response,
            provider=about["provider"],
            model=model,
            version=about["version"],
            cost_usd=cost,
            said=said,
        )


def _answer(said: dict[str, Any]) -> dict[str, Any] | None:
    if "refusal" in said:
        return {"role": "assistant", "content": None, "refusal": said["refusal"]}
    if "answer" not in said:
        return None
    text = said["answer"]
    if said.get("inline"):
        text += "\n\n```json\n" + json.dumps(said["artifact"], indent=2, ensure_ascii=False) + "\n```"
    return {"role": "assistant", "content": text}


def _work_messages(name: str, work: dict[str, Any]) -> list[dict[str, Any]]:
    """A tool call and its result as messages; a thought without a call is the agent's alone and no message."""
    if "call" not in work:
        return []
    call_id = "call_" + hashlib.sha256(name.encode()).hexdigest()[:12]
    function = {"name": work["call"], "arguments": json.dumps(work["with"], ensure_ascii=False)}
    result = {"error": work["fails"]} if "fails" in work else work["gives"]
    return [
        {
            "role": "assistant",
            "content": work.get("think"),
            "tool_calls": [{"id": call_id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result, ensure_ascii=False)},
    ]


def _schema(name: str, tool: dict[str, Any]) -> dict[str, Any]:
    properties = {parameter: {"type": kind} for parameter, kind in tool["parameters"].items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": tool["description"], "parameters": parameters},
    }


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
