"""What belongs together, for removing it: a person's records, an interaction's, a conversation's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from tracemill.core.erasure import ErasureRequest
from tracemill.core.ids import from_microseconds, is_id
from tracemill.core.records import AnyRecord, Feedback, Validation
from tracemill.feedback.attach import attach_unlinked, may_mean
from tracemill.store.base import Filter, Store
from tracemill.store.hot import closed

_CHUNK = 500


@dataclass
class Belongings:
    """What belongs to a subject: record ids with their types, the conversations that are wholly theirs, and what is shared.

    ``others`` counts records of other people in conversations the person took part in: they stay. ``people`` and ``within``
    are the people and the conversations that any of the records names.
    """

    records: dict[str, str] = field(default_factory=dict)
    conversations: set[str] = field(default_factory=set)
    pseudonyms: set[str] = field(default_factory=set)
    platforms: set[str] = field(default_factory=set)
    people: set[str] = field(default_factory=set)
    within: set[str] = field(default_factory=set)
    others: int = 0

    @property
    def types(self) -> dict[str, int]:
        """How many records of each type."""
        return dict(sorted(Counter(self.records.values()).items()))

    def add(self, record: AnyRecord) -> None:
        """Count one record as belonging."""
        self.records[record.id] = str(record.__struct_config__.tag)
        if record.platform is not None:
            self.platforms.add(record.platform)
        if (user := getattr(record, "user", None)) is not None:
            self.people.add(user.pseudonym)
        if (conversation := getattr(record, "conversation_id", None)) is not None:
            self.within.add(conversation)

    def interactions(self) -> list[str]:
        """The ids of the interactions among them."""
        return [identity for identity, tag in self.records.items() if tag == "interaction"]


def belongings(store: Store, request: ErasureRequest) -> Belongings:
    """Everything that belongs to a person (by pseudonym), an interaction or a conversation. Raises StoreError.

    Steps, decisions, validations and feedback of an interaction belong to it, joined by id or by their texts, and so do the
    calls made inside it with theirs. Of a conversation with others, what names the person is theirs and what names
    somebody else is not; of a person, only what was stored or done by the time of the request, but a conversation that is
    wholly theirs goes whole: what came later repeats what came before. What a request has found already still draws in
    what belongs to it, though it may be gone.
    """
    found = Belongings()
    if request.kind == "user":
        _of_person(store, request, found)
    elif request.kind == "conversation":
        for conversation in (request.value, *request.also):
            _of_conversation(store, conversation, found)
    elif (first := store.get(request.value)) is not None:
        found.add(first)
    _close(store, request, found)
    return found


def _of_person(store: Store, request: ErasureRequest, found: Belongings) -> None:
    pseudonym = request.value
    found.pseudonyms.add(pseudonym)
    asked = from_microseconds(request.requested)
    stored = store.scan(Filter(user=pseudonym, up_to=request.watermark))
    for record in chain(stored, store.scan(Filter(user=pseudonym, after=request.watermark, until=asked))):
        found.add(record)
    for conversation in sorted({*found.within, *request.conversations}):
        shared = False
        own: list[AnyRecord] = []
        for record in store.scan(Filter(conversation_id=conversation)):
            user = getattr(record, "user", None)
            if user is None or user.pseudonym == pseudonym:
                own.append(record)
            else:
                shared = True
                found.others += 1
        if not shared or conversation in request.conversations:
            found.conversations.add(conversation)
            for record in own:
                found.add(record)


def _of_conversation(store: Store, conversation: str, found: Belongings) -> None:
    found.conversations.add(conversation)
    for record in store.scan(Filter(conversation_id=conversation)):
        found.add(record)


def _close(store: Store, request: ErasureRequest, found: Belongings) -> None:
    """Add the calls inside, and what names any of them: by interaction, by words, and by step or parent alone."""
    named = {request.value} if request.kind == "interaction" and is_id(request.value) else set()
    seeds = sorted({*found.records, *request.ids, *named})
    if not seeds and not found.conversations:
        return
    inner = store.inside(seeds)
    _add(store, inner, found)
    _add(store, store.linked([*seeds, *sorted(inner)]), found)
    links: list[tuple[str, str]] = []
    by_words = False
    for record in store.scan(Filter(types=("step", "decision", "feedback", "validation"), unlinked=True)):
        above = (getattr(record, "step_id", None), getattr(record, "parent_id", None))
        links += [(link, record.id) for link in above if link is not None]
        by_words = by_words or may_mean(record, found.within)
        if isinstance(record, Feedback | Validation) and record.conversation_id in found.conversations:
            user = getattr(record, "user", None)
            if user is None or not found.pseudonyms or user.pseudonym in found.pseudonyms:
                found.add(record)
    _add(store, closed(sorted({*seeds, *found.records}), links), found)
    if by_words:
        attached = attach_unlinked(store, found.within)
        _add(store, (identity for owner in found.interactions() for identity in attached.of(owner).ids()), found)


def _add(store: Store, ids: Iterable[str], found: Belongings) -> None:
    missing = sorted(set(ids) - found.records.keys())
    for start in range(0, len(missing), _CHUNK):
        for record in store.get_many(missing[start : start + _CHUNK]).values():
            found.add(record)
