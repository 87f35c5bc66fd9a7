"""Which records belong together, and which split each set of them goes to.

Records that share a user, a conversation, a session or a task (or what else a recipe names) are one group, and so are
groups that share any such record. A group goes to one split as a whole. Which one is drawn by a hash of the seed and the
group's smallest record id: the same records give the same splits in any order, and records that come later move a group
only when they join it to an older one. Other ways to choose are in :mod:`tracemill.dataset.assign`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Mapping

from tracemill.core.records import Interaction
from tracemill.dataset.history import content_digest
from tracemill.dataset.splitting import GROUP_KEYS


def group_keys(interaction: Interaction, kinds: Collection[str] = GROUP_KEYS) -> list[bytes]:
    """What an interaction shares with others of its group, as digests. Ids count within their platform, users across.

    ``kinds`` are those of user, conversation, session and task that hold a group together.
    """
    user = interaction.user if "user" in kinds else None
    named = [f"{kind}_id" for kind in ("conversation", "session", "task") if kind in kinds]
    values = {name: getattr(interaction, name) for name in named}
    return [
        *([content_digest("user", user.key_id, user.pseudonym)] if user is not None else []),
        *(content_digest(kind, interaction.platform, value) for kind, value in values.items() if value is not None),
    ]


class Groups:
    """Disjoint sets of numbered records (union by smallest number, path halving)."""

    def __init__(self) -> None:
        self._parents: array[int] = array("q")
        self._by_key: dict[bytes, int] = {}

    def add(self, keys: list[bytes]) -> int:
        """Add a record with what it shares; gives its number."""
        number = len(self._parents)
        self._parents.append(number)
        for key in keys:
            self.join(number, self._by_key.setdefault(key, number))
        return number

    def close(self) -> None:
        """Forget what records share: none is added after this, groups may still be joined."""
        self._by_key = {}

    def root(self, number: int) -> int:
        """The number that stands for the record's group."""
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make two records' groups one."""
        one, other = self.root(one), self.root(other)
        self._parents[max(one, other)] = min(one, other)


def draw_split(seed: int, smallest_id: str, shares: Mapping[str, float]) -> str:
    """The split of a group: where a hash of seed and smallest record id falls among the shares, names in order."""
    drawn = int.from_bytes(hashlib.sha256(f"split:{seed}:{smallest_id}".encode()).digest()[:8], "big") / 2**64
    reached, chosen = 0.0, ""
    for name in sorted(shares):
        if shares[name] <= 0:
            continue
        chosen = name
        reached += shares[name]
        if drawn < reached:
            break
    return chosen


def precedence(shares: Mapping[str, float]) -> dict[str, int]:
    """Which split keeps an example that several would have: the smallest first, so that none held out is trained on."""
    return {name: place for place, name in enumerate(sorted(shares, key=lambda name: (shares[name], name)))}
