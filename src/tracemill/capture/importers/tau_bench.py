"""tau-bench runs: a JSON list of ``{task_id, trial, reward, info, traj}`` with OpenAI messages in ``traj``.

Each run is one Interaction and one Feedback with its reward. With ``expand`` each call of the model is an Interaction with
the whole history before it, as a proxy would have logged it. Tool schemas are not in the files, and neither are times: the
time of a run is the clock its system prompt states, or that of the import.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tracemill.capture.importers.base import ContentIds, ImportContext, Imported
from tracemill.capture.ingest import Reject, array_entries
from tracemill.core.codec import parse_json
from tracemill.core.errors import RecordError, SourceError
from tracemill.core.ids import derived_id, now
from tracemill.core.messages import role, text, tool_calls
from tracemill.core.records import Feedback, Interaction, Model

LARGEST_FILE = 2 * 1024**3
DOMAINS = ("airline", "retail", "telecom")
"""Platforms that tau-bench's own result files are named after."""
_CLOCK = re.compile(r"current time is (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ([A-Z]{3})\b")
_HOURS = {"UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}


def read_tau_bench(path: Path, context: ImportContext) -> Iterator[Imported]:
    """The records of a tau-bench result file. Raises SourceError when it is no such file."""
    if path.stat().st_size > LARGEST_FILE:
        raise SourceError(f"{path} is larger than {LARGEST_FILE:,} bytes", hint="Split the list into several files.")
    try:
        runs = array_entries(path.read_bytes())
    except RecordError as error:
        raise SourceError(
            f"{path} is no list of runs: {error.message}", hint="A tau-bench result file is one JSON list."
        ) from error
    context = replace(context, platform=context.platform or _domain(path.name))
    sequence = 0
    with ContentIds("tau-bench") as ids:
        for index, raw in enumerate(runs):
            try:
                run = parse_json(raw)
            except RecordError as error:
                yield Reject(f"run {index}", error.reason, error.message, raw)
                continue
            problem = _problem(run)
            if problem:
                yield Reject(f"run {index}", "invalid", problem, raw)
                continue
            for record in _records(run, ids, context, sequence):
                sequence += 1
                yield record


def _domain(name: str) -> str:
    """The domain a result file's name states (``gpt-4o-airline.json``), or ``tau-bench``."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((word for word in words if word in DOMAINS), "tau-bench")


def _problem(run: Any) -> str:
    if not isinstance(run, dict):
        return "a run is an object"
    trajectory = run.get("traj")
    if not isinstance(trajectory, list) or not all(isinstance(message, dict) for message in trajectory):
        return "`traj` is not a list of messages"
    if isinstance(run.get("reward"), bool) or not isinstance(run.get("reward"), (int, float)):
        return "`reward` is not a number"
    if abs(run["reward"]) > sys.float_info.max:
        return "`reward` is beyond what a number of a score can be"
    if not isinstance(run.get("task_id"), (int, str)) or not isinstance(run.get("trial"), int):
        return "`task_id` or `trial` is missing"
    return ""


def _records(run: dict[str, Any], ids: ContentIds, context: ImportContext, sequence: int) -> Iterator[Imported]:
    platform = context.platform or "tau-bench"
    info = run["info"] if isinstance(run.get("info"), dict) else {}
    task = info["task"] if isinstance(info.get("task"), dict) else {}
    user_id = task.get("user_id")
    user = context.pseudonymize(user_id) if isinstance(user_id, (str, int)) else None
    if user is not None and user.raw_id is None:
        info = {**info, "task": {key: value for key, value in task.items() if key != "user_id"}}
    time = _time(run["traj"])
    identity = ids.of(run)
    common: dict[str, Any] = {
        "platform": platform,
        "kind": "agent",
        "conversation_id": identity,  # task and trial come again in the runs of another model
        "user": user,
        "model": Model(name=context.model) if context.model else None,
        "task_id": str(run["task_id"]),
        "trial": run["trial"],
    }
    succeeded = run["reward"] >= 1
    outcome = {"success": succeeded, "completion_status": "successful" if succeeded else "failed"}
    last = identity
    if context.expand and any(role(message) == "assistant" for message in run["traj"]):
        for record in _calls(run["traj"], identity, ids, sequence, time, common, outcome):
            last = record.id
            sequence += 1
            yield record
    else:
        known = ("traj", "reward", "task_id", "trial")
        extra = {"reward": run["reward"], **{key: value for key, value in run.items() if key not in known}}
        if "info" in run:
            extra["info"] = info or run["info"]
        yield Interaction(
            **ids.base(identity, sequence, time),
            **common,
            **outcome,
            **_tools(run["traj"]),
            messages=run["traj"],
            extra=extra,
        )
        sequence += 1
    yield Feedback(
        **ids.base(derived_id("reward", identity, int(context.expand)), sequence, time),
        kind="score",
        name="reward",
        score=float(run["reward"]),
        annotator_kind="CODE",
        interaction_id=last,
        platform=platform,
    )


def _calls(
    trajectory: list[Any],
    identity: str,
    ids: ContentIds,
    sequence: int,
    time: datetime,
    common: dict[str, Any],
    outcome: dict[str, Any],
) -> Iterator[Interaction]:
    turns = [index for index, message in enumerate(trajectory) if role(message) == "assistant"]
    for number, turn in enumerate(turns):
        at = time + timedelta(seconds=turn)
        yield Interaction(
            **ids.base(derived_id("call", identity, turn), sequence + number, at),
            **common,
            **(outcome if turn == turns[-1] else {}),
            **_tools([trajectory[turn]]),
            turn=number,
            messages=trajectory[:turn],
            response=trajectory[turn],
        )


def _tools(messages: list[Any]) -> dict[str, Any]:
    called = [call.name for message in messages for call in tool_calls(message) if call.name]
    return {"tools_used": list(dict.fromkeys(called)), "tool_call_count": len(called)}


def _time(trajectory: list[Any]) -> datetime:
    found = _CLOCK.search(text(trajectory[0])) if trajectory else None
    if found is None or found[2] not in _HOURS:
        return now()
    try:
        zone = timezone(timedelta(hours=_HOURS[found[2]]))
        return datetime.fromisoformat(found[1]).replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return now()
