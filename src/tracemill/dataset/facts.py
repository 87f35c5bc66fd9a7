"""What the documents of a version say of an interaction that was read: narrow, and nothing of what anybody wrote.

They stand among the columns of a shard, and are counted when the version is described (:mod:`tracemill.dataset.documents`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tracemill.core.messages import role, text
from tracemill.core.records import Interaction
from tracemill.dataset.history import content_digest
from tracemill.feedback.attach import Attached, Scale
from tracemill.quality.text import dominant_script

_LOOKED_AT = 400
"""Characters of a text whose writing is looked at."""
_LONGEST_NAME = 120
NOT_STATED = ""


class Facts(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One interaction, as it is counted. Texts are empty where nothing is stated.

    ``language`` is what the record states (``extra["language"]``), or else the writing of the user's last message
    (``LATIN``, ``CJK``…), which is all that can be told without a model. ``day`` counts from 1970-01-01 (UTC). ``user`` is a
    digest that is only ever counted. ``liked`` is what people and programs said of the whole; None without a label, or
    with labels for and against. ``step`` is the number of the recipe's step that dropped it, −1 for none.
    """

    platform: str
    model: str
    language: str
    day: int
    user: bytes | None = None
    success: bool | None = None
    liked: bool | None = None
    step: int = -1


def facts_of(
    interaction: Interaction, current: Interaction, attached: Attached, scales: Mapping[str, Scale], step: int = -1
) -> Facts:
    """The facts of an interaction as it was read, and as the steps left it (``current``)."""
    model = current.model or current.model_requested
    user = interaction.user
    labels = {label.positive for label in attached.labels(scales)}
    return Facts(
        platform=_name(current.platform),
        model=_name(None if model is None else model.name),
        language=_language(current),
        day=int(interaction.time.timestamp() // 86400),
        user=None if user is None else content_digest("user", user.key_id, user.pseudonym),
        success=current.success,
        liked=labels.pop() if len(labels) == 1 else None,
        step=step,
    )


def _name(value: str | None) -> str:
    """A name that can be written anywhere: half a surrogate pair is shown as its escape."""
    return (value or NOT_STATED)[:_LONGEST_NAME].encode("utf-8", "backslashreplace").decode()


def _language(interaction: Interaction) -> str:
    stated = interaction.extra.get("language")
    if isinstance(stated, str) and 0 < len(stated) <= 35:  # the longest tag of BCP 47 that needs no special buffer
        return _name(stated)
    for message in reversed(interaction.messages):
        if role(message) == "user":
            content = text(message)[:_LOOKED_AT]
            if content.isascii():
                return "LATIN" if any(map(str.isalpha, content)) else NOT_STATED
            return dominant_script(content)
    return NOT_STATED
