"""What belongs together, for removing it: a person's records, an interaction's, a conversation's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from tracemill.core.erasure import ErasureRequest
from tracemill.core.ids import from_microseconds
from tracemill.core.records import AnyRecord, Feedback, Interaction, Validation
from tracemill.feedback.attach import attach
from tracemill.store.base import Filter, Store

_CHUNK = 500


@dataclass
class Belongings:
    """What belongs to a subject: record ids with their types, the conversations that are wholly theirs, and what is shared.

    ``people`` and ``talks`` are whoever and whatever conversation any of the records names.
    ``others`` counts records of other people in conversations the person took part in: they stay.
    """

    records: dict[str, str] = field(default_factory=dict)
    conversations: set[str] = field(default_factory=set)
    pseudonyms: set[str] = field(default_factory=set)
    platforms: set[str] = field(default_factory=set)
    people: set[str] = field(default_factory=set)
    talks: set[str] = field(default_factory=set)
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
            self.talks.add(conversation)

    def interactions(self) -> list[str]:
        """The ids of the interactions among them."""
        return [identity for identity, tag in self.records.items() if tag == "interaction"]


def belongings(store: Store, request: ErasureRequest) -> Belongings:
    """Everything that belongs to a person (by pseudonym), an interaction or a conversation. Raises StoreError.

    Steps, decisions, validations and feedback of an interaction belong to it, joined by id or by their texts, and so do the
    calls made inside it with theirs. Of a conversation with others, what names the person is theirs and what names
    somebody else is not; of a person, only what was stored or done by the time of the request.
    """
    found = Belongings()
    if request.kind == "user":
        _of_person(store, request, found)
    elif request.kind == "conversation":
        _of_conversation(store, request.value, found)
    else:
        first = store.get(request.value)
        if not isinstance(first, Interaction):
            return found
        found.add(first)
        _joined_by_text(store, found)
    _close(store, found)
    return found


def _of_person(store: Store, request: ErasureRequest, found: Belongings) -> None:
    pseudonym = request.value
    found.pseudonyms.add(pseudonym)
    conversations: set[str] = set()
    asked = from_microseconds(request.requested)
    stored = store.scan(Filter(user=pseudonym, up_to=request.watermark))
    for record in chain(stored, store.scan(Filter(user=pseudonym, after=request.watermark, until=asked))):
        found.add(record)
        if (conversation := getattr(record, "conversation_id", None)) is not None:
            conversations.add(conversation)
    for conversation in sorted(conversations):
        shared = False
        unnamed: list[AnyRecord] = []
        for record in store.scan(Filter(conversation_id=conversation)):
            user = getattr(record, "user", None)
            if user is None:
                unnamed.append(record)
            elif user.pseudonym != pseudonym:
                shared = True
                found.others += 1
        if not shared:
            found.conversations.add(conversation)
            for record in unnamed:
                found.add(record)


def _of_conversation(store: Store, conversation: str, found: Belongings) -> None:
    found.conversations.add(conversation)
    for record in store.scan(Filter(conversation_id=conversation)):
        found.add(record)


def _joined_by_text(store: Store, found: Belongings) -> None:
    """What was said of single interactions and names only their conversation and words."""
    attached = attach(store)
    ids = {identity for owner in found.interactions() for identity in attached.of(owner).ids()}
    for record in store.get_many(sorted(ids - found.records.keys())).values():
        found.add(record)


def _close(store: Store, found: Belongings) -> None:
    """Add the calls inside, and what names any of them: by interaction, and by step alone."""
    inner = store.inside(found.interactions())
    _add(store, inner, found)
    _add(store, store.linked(found.interactions()), found)
    unlinked = Filter(types=("feedback", "validation"), unlinked=True)
    for record in store.scan(unlinked):
        if isinstance(record, Feedback) and record.step_id is not None and record.step_id in found.records:
            found.add(record)
        if isinstance(record, Feedback | Validation) and record.conversation_id in found.conversations:
            user = getattr(record, "user", None)
            if user is None or not found.pseudonyms or user.pseudonym in found.pseudonyms:
                found.add(record)


def _add(store: Store, ids: Iterable[str], found: Belongings) -> None:
    missing = sorted(set(ids) - found.records.keys())
    for start in range(0, len(missing), _CHUNK):
        for record in store.get_many(missing[start : start + _CHUNK]).values():
            found.add(record)
