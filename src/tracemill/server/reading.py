"""What a principal may read, and what belongs together."""

from __future__ import annotations

from tracemill.core.records import AnyRecord, Interaction
from tracemill.server.context import Principal
from tracemill.store.base import Filter
from tracemill.store.hot import HotStore

_NOBODY = ""
"""No pseudonym is empty: somebody without a user of their own sees nothing."""
_MOST_RELATED = 10_000
_GROUPS = {
    "step": "steps",
    "decision": "decisions",
    "validation": "validations",
    "feedback": "feedback",
}


def viewer_of(principal: Principal) -> str | None:
    """Whose records a principal is limited to; None when they may see everybody's."""
    if principal.sees_everything:
        return None
    return principal.user.pseudonym if principal.user is not None else _NOBODY


def visible(store: HotStore, principal: Principal, record_id: str) -> AnyRecord | None:
    """A record the principal may see: of their project, and their own or one they may review. Raises StoreError."""
    record = store.get(record_id, visible_to=viewer_of(principal))
    if record is None or principal.project is None:
        return record
    platform = record.platform
    if platform is None and (belongs_to := getattr(record, "interaction_id", None)) is not None:
        owner = store.get(belongs_to)
        platform = owner.platform if owner is not None else None
    return record if platform == principal.project else None


def related(store: HotStore, principal: Principal, interaction_id: str) -> dict[str, list[AnyRecord]] | None:
    """An interaction and what belongs to it, by kind; None where there is none to be seen. Raises StoreError."""
    interaction = visible(store, principal, interaction_id)
    if not isinstance(interaction, Interaction):
        return None
    groups: dict[str, list[AnyRecord]] = {"interaction": [interaction], **{name: [] for name in _GROUPS.values()}}
    for _, record in store.page(Filter(interaction_id=interaction_id), _MOST_RELATED):
        tag = str(type(record).__struct_config__.tag)
        if tag in _GROUPS:
            groups[_GROUPS[tag]].append(record)
    return groups
