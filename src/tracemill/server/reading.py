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


def may_see(store: HotStore, principal: Principal, record: AnyRecord) -> bool:
    """Whether a record is in the principal's project, and their own or one they may review. Raises StoreError."""
    owner: AnyRecord | None = record
    belongs_to = getattr(record, "interaction_id", None)
    if belongs_to is not None and not isinstance(record, Interaction):
        owner = store.get(belongs_to)
    if principal.project is not None:
        platform = record.platform or (owner.platform if owner is not None else None)
        if platform != principal.project:
            return False
    if principal.sees_everything:
        return True
    mine = viewer_of(principal)
    users = [getattr(one, "user", None) for one in (record, owner) if one is not None]
    return any(user is not None and user.pseudonym == mine for user in users)


def related(store: HotStore, principal: Principal, interaction_id: str) -> dict[str, list[AnyRecord]] | None:
    """An interaction and what belongs to it, by kind; None where there is none to be seen. Raises StoreError."""
    interaction = store.get(interaction_id)
    if not isinstance(interaction, Interaction) or not may_see(store, principal, interaction):
        return None
    groups: dict[str, list[AnyRecord]] = {"interaction": [interaction], **{name: [] for name in _GROUPS.values()}}
    for _, record in store.page(Filter(interaction_id=interaction_id), _MOST_RELATED):
        tag = str(type(record).__struct_config__.tag)
        if tag in _GROUPS:
            groups[_GROUPS[tag]].append(record)
    return groups
