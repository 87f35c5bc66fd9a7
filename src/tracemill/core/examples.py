"""The shapes a dataset version stores: examples, what became of each record, and the manifest.

An example is what a trainer learns from, in one canonical form; an export turns it into one trainer's row. Messages are
in the OpenAI chat shape, tool-call arguments exactly as captured.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from tracemill.core.records import Message, RecordId

MANIFEST_VERSION = 1


class _Example(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="example"
):
    """What every example carries.

    ``id`` is derived from the signal and the sources, so that building again gives the same. ``sources`` are the records
    it came from, ``signal`` the rule that made it, ``confidence`` (0 to 1) how far that rule is to be trusted and
    ``weight`` what a trainer should multiply its loss by.
    """

    id: str
    sources: list[RecordId]
    signal: str
    confidence: Annotated[float, Meta(ge=0, le=1)] = 1.0
    weight: Annotated[float, Meta(ge=0)] = 1.0
    human_validated: bool = False
    platform: str = "default"
    task_id: str | None = None
    tools: list[dict[str, Any]] = []


class SupervisedExample(_Example, tag="supervised", frozen=True):
    """A conversation worth imitating. The last message is the assistant's.

    ``tail`` holds what the source said after the last assistant message, which no chat format can train on.
    """

    messages: list[Message]
    tail: list[Message] = []


class LabelledExample(_Example, tag="labelled", frozen=True):
    """A prompt, one completion, and whether it was wanted (KTO). ``tail`` as for SupervisedExample.

    ``label_source`` is what the label was read from: a thumb, a rating, or a reward with its value in ``score``.
    """

    prompt: list[Message]
    completion: list[Message]
    label: bool
    label_source: str
    score: float | None = None
    tail: list[Message] = []


class PreferenceExample(_Example, tag="preference", frozen=True):
    """Two answers to the very same history (DPO): both begin with the assistant message at which they part."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    chosen_score: float | None = None
    rejected_score: float | None = None


class TrajectoryPreference(_Example, tag="trajectory_preference", frozen=True):
    """Two whole attempts at one task of which one went better, whose histories do not part at an assistant message.

    ``shared`` is the number of leading messages both have in common. Not a DPO row: the sides answer different histories.
    """

    chosen: list[Message]
    rejected: list[Message]
    shared: int
    chosen_score: float | None = None
    rejected_score: float | None = None


Example: TypeAlias = SupervisedExample | LabelledExample | PreferenceExample | TrajectoryPreference
EXAMPLE_TYPES: dict[str, type[Example]] = {
    "supervised": SupervisedExample,
    "labelled": LabelledExample,
    "preference": PreferenceExample,
    "trajectory_preference": TrajectoryPreference,
}


class Fate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one record that a build read: the examples made of it, or the reason it was dropped."""

    id: RecordId
    split: str | None = None
    examples: list[str] = []
    dropped: str | None = None


class DatasetFile(Struct, frozen=True, kw_only=True):
    """One file of a version: its path inside the version's folder, rows, bytes and SHA-256 in hex."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dataset version is and came from. A pure function of the recipe and the records: no time, no host.

    ``watermark`` is the store's sequence up to which records were read. ``fates`` names the file that lists every record
    read (one :class:`Fate` a line). ``examples`` counts rows by split and example type; ``drops`` counts records and
    examples left out, by reason; ``changes`` counts what steps changed, by reason; ``notes`` are findings a reader
    should know (contradicting preferences, for one).
    """

    manifest_version: int
    name: str
    version: str
    recipe: dict[str, Any]
    recipe_hash: str
    watermark: int
    records_read: int
    records_digest: str
    examples: dict[str, dict[str, int]]
    drops: dict[str, int]
    changes: dict[str, int]
    notes: list[str]
    fates: str
    files: list[DatasetFile]
