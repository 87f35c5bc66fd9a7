"""Steps and decisions joined to the interactions they are part of.

A step or a decision that names its interaction is found through the store when the interaction is read, batch by batch:
there may be many of each, and none of them is held beyond its batch. One that names none is led there by what it does
name: a decision by its step, a step by its parent (an interaction, or a step that leads on), and last by the root of its
trace. Only the ids of such loose ones are held in memory. Late or early makes no difference: the join is by id alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tracemill.core.foreign import trace_record_id
from tracemill.core.records import AnyRecord, Decision, Interaction, Step
from tracemill.store.base import Filter, Store

BATCH = 250
"""Interactions whose steps and decisions are in memory at once."""
_TYPES = ("step", "decision")
_CHUNK = 1000
_DEEPEST = 100
"""Parents that are followed at most from a loose step upwards."""


@dataclass(frozen=True, slots=True)
class Execution:
    """The steps of one interaction, by index, time and id, and its decisions, by time and id."""

    steps: tuple[Step, ...] = ()
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Executions:
    """Where the steps and decisions of a store are. Plain data: a worker may be given it.

    ``any`` is False where there are none at all, ``loose`` names by interaction those that do not name it themselves, and
    ``up_to`` is the watermark up to which they are read.
    """

    any: bool = False
    loose: Mapping[str, Sequence[str]] = field(default_factory=dict)
    up_to: int | None = None

    def of(self, store: Store, ids: Sequence[str]) -> dict[str, Execution]:
        """The executions of some interactions; those without steps and decisions are left out. Raises StoreError."""
        if not self.any or not ids:
            return {}
        named = store.linked(ids)
        led = {record_id: owner for owner in ids for record_id in self.loose.get(owner, ())}
        found: dict[str, tuple[list[Step], list[Decision]]] = {}
        for record in _read(store, sorted({*named, *led}), self.up_to):
            if not isinstance(record, (Step, Decision)):
                continue
            owner = record.interaction_id or led[record.id]
            steps, decisions = found.setdefault(owner, ([], []))
            if isinstance(record, Step):
                steps.append(record)
            else:
                decisions.append(record)
        return {
            owner: Execution(
                tuple(sorted(steps, key=lambda step: (step.index, step.time, step.id))),
                tuple(sorted(decisions, key=lambda decision: (decision.time, decision.id))),
            )
            for owner, (steps, decisions) in found.items()
        }


def find_executions(store: Store, *, up_to: int | None = None) -> Executions:
    """What must be known before executions can be read: whether there are any, and where the loose ones belong."""
    if next(iter(store.scan(Filter(types=_TYPES, up_to=up_to))), None) is None:
        return Executions(up_to=up_to)
    links: dict[str, tuple[str | None, str | None]] = {}
    for record in store.scan(Filter(types=_TYPES, up_to=up_to, unlinked=True)):
        if isinstance(record, Step | Decision) and (link := _link(record)) != (None, None):
            links[record.id] = link
    loose: dict[str, list[str]] = {}
    owners = _owners(store, {parent for parent, _ in links.values() if parent is not None} - links.keys(), up_to)
    roots = _interactions(store, {root for _, root in links.values() if root is not None}, up_to)
    for record_id in sorted(links):
        if (owner := _lead(record_id, links, owners, roots)) is not None:
            loose.setdefault(owner, []).append(record_id)
    return Executions(True, {owner: tuple(ids) for owner, ids in loose.items()}, up_to)


def _link(record: Step | Decision) -> tuple[str | None, str | None]:
    """What a record that names no interaction names instead: what is above it, and the root of its trace."""
    if isinstance(record, Decision):
        return record.step_id, None
    return record.parent_id, trace_record_id(record.trace_id) if record.trace_id else None


def _lead(
    record_id: str,
    links: Mapping[str, tuple[str | None, str | None]],
    owners: Mapping[str, str],
    roots: set[str],
) -> str | None:
    """The interaction that a loose record leads to; the nearest way up counts, and a circle leads nowhere."""
    at, seen = record_id, {record_id}
    root: str | None = None
    for _ in range(_DEEPEST):
        parent, trace = links[at]
        root = root or (trace if trace in roots else None)
        if parent is None or parent in seen:
            break
        if parent in owners:
            return owners[parent]
        if parent not in links:
            break
        seen.add(parent)
        at = parent
    return root


def _owners(store: Store, ids: set[str], up_to: int | None) -> dict[str, str]:
    """Of the ids, those of interactions by themselves, and of steps that name one, by that."""
    found: dict[str, str] = {}
    for record in _read(store, sorted(ids), up_to):
        if isinstance(record, Interaction):
            found[record.id] = record.id
        elif isinstance(record, Step) and record.interaction_id is not None:
            found[record.id] = record.interaction_id
    return found


def _interactions(store: Store, ids: set[str], up_to: int | None) -> set[str]:
    return {record.id for record in _read(store, sorted(ids), up_to) if isinstance(record, Interaction)}


def _read(store: Store, ids: Sequence[str], up_to: int | None) -> Iterator[AnyRecord]:
    for start in range(0, len(ids), _CHUNK):
        yield from store.get_many(ids[start : start + _CHUNK], up_to=up_to).values()
