"""Removing an interaction with everything that belongs to it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from tracemill.core.records import AnyRecord, Interaction
from tracemill.feedback.attach import attach
from tracemill.store.base import Filter, Store


def erase_interaction(store: Store, interaction_id: str) -> dict[str, int]:
    """Remove an interaction, what is linked to it or joined to it, and the calls made inside it with theirs.

    Returns how many records of each type went. Raises StoreError.
    """
    first = store.get(interaction_id)
    if not isinstance(first, Interaction):
        return {}
    gone: dict[str, AnyRecord] = {first.id: first}
    for record in _inside(store, first):
        gone[record.id] = record
    attached = attach(store)
    for owner in [identity for identity, record in gone.items() if isinstance(record, Interaction)]:
        for record in store.scan(Filter(interaction_id=owner)):
            gone[record.id] = record
        gone |= store.get_many([identity for identity in attached.of(owner).ids() if identity not in gone])
    store.erase(list(gone))
    return dict(Counter(str(type(record).__struct_config__.tag) for record in gone.values()))


def _inside(store: Store, first: Interaction) -> list[AnyRecord]:
    """Calls whose parent is the interaction, and theirs. They begin while it lasts, so a day from its time is looked at."""
    where = Filter(
        types=("interaction",), since=first.time - timedelta(minutes=1), until=first.time + timedelta(days=1)
    )
    candidates = [record for record in store.scan(where) if isinstance(record, Interaction) and record.parent_id]
    found: list[AnyRecord] = []
    parents = {first.id}
    while parents:
        inner = [record for record in candidates if record.parent_id in parents]
        found += inner
        parents = {record.id for record in inner}
    return found
