"""Daily sums, kept in the same transaction as the records they sum, so that statistics read no bodies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Table, select

from tracemill.core.ids import EPOCH
from tracemill.core.messages import tool_calls
from tracemill.store.base import DailyRow, ToolRow
from tracemill.store.names import Names, column_text
from tracemill.store.rows import TYPE_CODES, TYPE_TAGS
from tracemill.store.statements import insert_or_add
from tracemill.store.tables import daily, daily_tools

_DAY = 86_400_000_000
_DAILY = (
    "records",
    "succeeded",
    "failed",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "duration_ms",
    "timed",
    "raw_bytes",
    "stored_bytes",
    "answered",
    "answered_well",
)
_TOOLS = ("called", "ran", "failed", "duration_ms", "timed")
NO_NAME = 0
"""Stands for an absent platform or label."""


class Rollup:
    """The sums of one batch. ``sign`` -1 takes records out again."""

    def __init__(self, sign: int = 1) -> None:
        self._sign = sign
        self._days: dict[tuple[int, str, int, str], list[float]] = defaultdict(lambda: [0] * len(_DAILY))
        self._tools: dict[tuple[int, str, str], list[float]] = defaultdict(lambda: [0] * len(_TOOLS))

    def add(
        self, plain: dict[str, Any], new_messages: list[Any], platform: str, time: int, raw: int, stored: int
    ) -> None:
        """Sum one record; ``new_messages`` are those of its trajectory that no stored record had before it."""
        day, tag, success = time // _DAY, plain["record"], plain.get("success")
        sums = self._days[_day_of(plain, platform, time)]
        duration = _number(plain.get("duration_ms"))
        sign = self._sign
        sums[0] += sign
        sums[1] += sign * (success is True)
        sums[2] += sign * (success is False)
        sums[3] += sign * (_number(plain.get("input_tokens")) or 0)
        sums[4] += sign * (_number(plain.get("output_tokens")) or 0)
        sums[5] += sign * (_number(plain.get("cost_usd")) or 0)
        if duration is not None:
            sums[6] += sign * duration
            sums[7] += sign
        sums[8] += sign * raw
        sums[9] += sign * stored
        if plain.get("response") is not None or plain.get("artifact") is not None:
            sums[10] += sign
            sums[11] += sign * (success is True)
        if tag == "interaction":
            for tool, count in called_tools(plain, new_messages).items():
                self._tools[day, platform, column_text(tool)][0] += self._sign * count
        elif tag == "step":
            self._add_actions(plain, day, platform)

    def take_over(self, plain: dict[str, Any], before: list[Any], after: list[Any], platform: str, time: int) -> None:
        """Count for an interaction, whatever the sign, the calls of messages that were another's to count until now."""
        counted = called_tools(plain, after)
        counted.subtract(called_tools(plain, before))
        for tool, count in counted.items():
            self._tools[time // _DAY, platform, column_text(tool)][0] += count

    def resized(self, plain: dict[str, Any], platform: str, time: int, by: int) -> None:
        """Count that a record's body takes ``by`` more bytes now, whatever the sign."""
        self._days[_day_of(plain, platform, time)][9] += by

    def _add_actions(self, plain: dict[str, Any], day: int, platform: str) -> None:
        for action in plain.get("actions", ()):
            tool = action.get("tool")
            if not isinstance(tool, str):
                continue
            duration = _number(action.get("duration_ms"))
            sums = self._tools[day, platform, column_text(tool)]
            for index, value in (
                (1, 1),
                (2, action.get("success") is False),
                (3, duration or 0),
                (4, duration is not None),
            ):
                sums[index] += self._sign * value

    def texts(self) -> set[str]:
        """Every name the rows refer to."""
        found = {text for _, platform, _, label in self._days for text in (platform, label)}
        found.update(text for _, platform, tool in self._tools for text in (platform, tool))
        return found - {""}

    def store(self, connection: Connection, numbers: dict[str, int]) -> None:
        """Add the sums to the tables."""
        numbers = {**numbers, "": NO_NAME}
        days = [
            {
                "day": day,
                "platform": numbers[platform],
                "type": code,
                "label": numbers[label],
                **dict(zip(_DAILY, sums, strict=True)),
            }
            for (day, platform, code, label), sums in self._days.items()
        ]
        tools = [
            {
                "day": day,
                "platform": numbers[platform],
                "tool": numbers[tool],
                **dict(zip(_TOOLS, sums, strict=True)),
            }
            for (day, platform, tool), sums in self._tools.items()
        ]
        insert_or_add(connection, daily, days, _DAILY)
        insert_or_add(connection, daily_tools, tools, _TOOLS)


def _day_of(plain: dict[str, Any], platform: str, time: int) -> tuple[int, str, int, str]:
    """The row of the daily sums that a record is counted in."""
    tag = plain["record"]
    label = plain.get("kind") if tag == "feedback" else None
    if tag == "interaction":
        label = plain.get("model", {}).get("name")
    return time // _DAY, platform, TYPE_CODES[tag], column_text(label) if isinstance(label, str) else ""


def _number(value: Any) -> float | None:
    """A finite number, or None: a NaN in a sum would never leave it."""
    if isinstance(value, (int, float)) and value - value == 0:
        return value
    return None


def called_tools(plain: dict[str, Any], new_messages: list[Any]) -> Counter[str]:
    """How often an interaction called each tool: by its messages, or by what it says it used when they hold no call."""
    messages = [*new_messages, *([plain["response"]] if isinstance(plain.get("response"), dict) else [])]
    calling = [message for message in messages if "tool_calls" in message or "function_call" in message]
    if not calling and "tools_used" not in plain:
        return Counter()
    counted = Counter(call.name for message in calling for call in tool_calls(message) if call.name)
    if counted or not plain.get("tools_used"):
        return counted
    if any(True for message in plain.get("messages", ()) for _ in tool_calls(message)):
        return counted  # the calls are in the history, which an earlier record has counted
    return Counter(tool for tool in plain["tools_used"] if isinstance(tool, str))


def read_daily(connection: Connection, names: Names, platform: str | None) -> list[DailyRow]:
    """The rows of ``daily``, oldest first."""
    rows = _rows(connection, names, daily, platform)
    texts = names.values(connection, {number for row in rows for number in (row.platform, row.label)})
    return [
        DailyRow(
            (EPOCH + timedelta(days=row.day)).date(),
            texts.get(row.platform, ""),
            TYPE_TAGS[row.type],
            texts.get(row.label, ""),
            *row[4:],  # as the table has them, and the fields of DailyRow
        )
        for row in rows
        if row.records
    ]


def read_tools(connection: Connection, names: Names, platform: str | None) -> list[ToolRow]:
    """The rows of ``daily_tools``, oldest first."""
    rows = _rows(connection, names, daily_tools, platform)
    texts = names.values(connection, {number for row in rows for number in (row.platform, row.tool)})
    return [
        ToolRow(
            (EPOCH + timedelta(days=row.day)).date(),
            texts.get(row.platform, ""),
            texts.get(row.tool, ""),
            *(getattr(row, name) for name in _TOOLS),
        )
        for row in rows
        if row.called or row.ran
    ]


def _rows(connection: Connection, names: Names, table: Table, platform: str | None) -> list[Any]:
    statement = select(table).order_by(*table.primary_key.columns)
    if platform is not None:
        number = names.numbers(connection, [column_text(platform)], create=False).get(column_text(platform))
        statement = statement.where(table.c.platform == (number if number is not None else -1))
    return list(connection.execute(statement))


def referenced(connection: Connection) -> Iterator[int]:
    """Every name number that a roll-up row with anything in it refers to."""
    for platform, label in connection.execute(select(daily.c.platform, daily.c.label).where(daily.c.records != 0)):
        yield from (platform, label)
    live = (daily_tools.c.called != 0) | (daily_tools.c.ran != 0)
    for platform, tool in connection.execute(select(daily_tools.c.platform, daily_tools.c.tool).where(live)):
        yield from (platform, tool)
