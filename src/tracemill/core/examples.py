"""The shapes a dataset version stores: examples, what became of each record, and the manifest.

An example is what a trainer learns from, in one canonical form; an export turns it into one trainer's row. Messages are
in the OpenAI chat shape, tool-call arguments exactly as captured.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from tracemill.core.records import Count, Message, RecordId

MANIFEST_VERSION = 1
FeatureKind: TypeAlias = Literal["integer", "number", "flag", "word"]
FeatureValue: TypeAlias = bool | int | float | str


class Augmented(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """That a row was made of another one: by which operation, of which example, with which seed (0 and the rest repeat it).

    ``difficulty`` is the level of 1 to 5 that :func:`tracemill.quality.scenarios.difficulty` gives, where it was graded.
    """

    operation: str
    source: str
    seed: int
    difficulty: Annotated[int, Meta(ge=1, le=5)] | None = None


class _Example(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="example"):
    """What every example carries.

    ``id`` is derived from the type and the content (the messages a trainer sees, tools, label), so that building again
    gives the same and equal content has one id. ``sources`` are all records that gave this content, sorted: the
    interactions and the feedback and validations that were read with them. ``signal`` is the rule that made it,
    ``confidence`` (0 to 1) how far that rule is to be trusted and ``weight`` what a trainer should multiply its loss by.
    ``features`` are numbers, flags and short words about the interaction, by name; they are no part of the content.
    ``augmented`` says that it is no record's own content but was made of another example.
    ``human_validated`` says that a person judged it. ``platform`` and ``task_id`` are those of its interaction. ``tools`` are
    the schemas of the tools that the model could call.
    ``scenario``, ``quality_score``, ``execution_successful`` and ``training_type`` are set in packages: the interaction's
    scenario, its score by :mod:`tracemill.quality.metrics`, whether it succeeded, and the package's name.
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
    features: dict[str, FeatureValue] = {}
    augmented: Augmented | None = None
    scenario: str | None = None
    quality_score: Annotated[float, Meta(ge=0, le=1)] | None = None
    execution_successful: bool | None = None
    training_type: str | None = None


class SupervisedExample(_Example, tag="supervised", frozen=True):
    """A conversation worth imitating: the last of its ``messages`` is the assistant's.

    ``tail`` holds what the source said after the last assistant message, which no chat format can train on.
    """

    messages: list[Message]
    tail: list[Message] = []


class LabelledExample(_Example, tag="labelled", frozen=True):
    """A ``prompt``, one ``completion``, and by ``label`` whether it was wanted (KTO).

    ``tail`` holds what the source said after the last assistant message, which no chat format can train on.
    ``label_source`` is what the label was read from: a thumb, a rating, or a reward with its value in ``score``.
    """

    prompt: list[Message]
    completion: list[Message]
    label: bool
    label_source: str
    score: float | None = None
    tail: list[Message] = []


class PreferenceExample(_Example, tag="preference", frozen=True):
    """Two answers to the very same history (DPO): both begin with the assistant message at which they part.

    ``prompt`` is that history, ``chosen`` the better answer and ``rejected`` the worse. ``pairs`` names every
    (better, worse) pair of interactions with exactly these two answers; ``chosen_score`` and ``rejected_score`` are the
    first pair's. ``chosen_rest`` and ``rejected_rest`` count the messages that follow in the first pair and are not part of
    the answers. Tool-call ids are labels a provider draws at random, so histories that differ in nothing else are the same:
    the prompt has the better side's ids, and ``aligned_ids`` maps the worse side's to them.
    """

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    chosen_score: float | None = None
    rejected_score: float | None = None
    pairs: list[tuple[RecordId, RecordId]] = []
    chosen_rest: Count = 0
    rejected_rest: Count = 0
    aligned_ids: dict[str, str] = {}


class TrajectoryPreference(_Example, tag="trajectory_preference", frozen=True):
    """Two whole attempts at one task of which one went better, whose histories do not part at an assistant message.

    ``chosen`` is the attempt that went better and ``rejected`` the other, each as a whole.
    ``shared`` is the number of leading messages both have in common. Not a DPO row: the sides answer different histories.
    ``rejected_tools`` are the worse side's tool schemas where they differ from ``tools``. ``pairs`` names every
    (better, worse) pair of interactions with exactly these two; ``chosen_score`` and ``rejected_score`` are the first pair's.
    """

    chosen: list[Message]
    rejected: list[Message]
    shared: int
    chosen_score: float | None = None
    rejected_score: float | None = None
    pairs: list[tuple[RecordId, RecordId]] = []
    rejected_tools: list[dict[str, Any]] | None = None


class ActionExample(_Example, tag="action", frozen=True):
    """What an agent did next: the state it was in, the tools it had, the one message it acted by, and what came of it.

    ``prompt`` is the history before, or the state as a message, and ``completion`` the one assistant message. ``action`` is
    ``tool_request``, ``decision`` or ``answer``; ``tool`` and ``parameters`` are the first call's. ``state`` is what a step
    or a decision recorded of the state, ``options`` what a decision could choose from. ``outcome`` is what followed and is
    not to be trained on: ``success``, and ``results`` (messages), or cost, time and quality of a decision. ``reasoning`` is
    why it was done and ``stated_confidence`` (0 to 1) how sure the agent said it was, ``goal`` what it was to reach, ``agent``
    who acted, and ``available_tools`` the names of the tools it had.
    """

    prompt: list[Message]
    completion: list[Message]
    action: str
    tool: str | None = None
    parameters: Any = None
    reasoning: str | None = None
    goal: str | None = None
    state: Any = None
    agent: str | None = None
    available_tools: list[str] = []
    options: list[dict[str, Any]] = []
    stated_confidence: float | None = None
    outcome: dict[str, Any] = {}


class RewardExample(_Example, tag="reward", frozen=True):
    """A ``prompt``, one ``completion`` and its ``score``, on the scale that ``score_name`` means.

    ``tail`` holds what the source said after the last assistant message, which no chat format can train on.
    """

    prompt: list[Message]
    completion: list[Message]
    score: float
    score_name: str
    tail: list[Message] = []


class RetrievalExample(_Example, tag="retrieval", frozen=True):
    """A query, a retrieved passage that the answer used, and where there is one a passage that was retrieved and not used.

    ``query`` is the question, ``positive`` the used passage and ``negative`` the other.
    """

    query: str
    positive: str
    negative: str | None = None


Example: TypeAlias = (
    SupervisedExample
    | LabelledExample
    | PreferenceExample
    | TrajectoryPreference
    | ActionExample
    | RewardExample
    | RetrievalExample
)
EXAMPLE_TYPES: dict[str, type[Example]] = {
    "supervised": SupervisedExample,
    "labelled": LabelledExample,
    "preference": PreferenceExample,
    "trajectory_preference": TrajectoryPreference,
    "action": ActionExample,
    "reward": RewardExample,
    "retrieval": RetrievalExample,
}


class Fate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one record that a build read.

    ``examples`` are the ids of the examples it is a source of, all in ``split``. ``dropped`` is why it was left out
    altogether; ``left_out`` says by signal why that signal made nothing of it.
    """

    id: RecordId
    split: str | None = None
    examples: list[str] = []
    dropped: str | None = None
    left_out: dict[str, str] = {}


class DatasetFile(Struct, frozen=True, kw_only=True):
    """One file of a version or an export: its path inside the folder, rows, bytes and SHA-256 in hex."""

    path: str
    rows: int
    bytes: int
    sha256: str


class FeatureColumn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a feature of a version is: ``integer``, ``number`` (floating point), ``flag`` or ``word``, and what it means."""

    kind: FeatureKind
    meaning: str


class SplitShare(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one split holds of the interactions that were drawn: of how many groups, and its ``share`` of all of them.

    ``wanted`` is the share asked for (absent where dates were given), ``begins`` the first moment of a split by time, and
    ``strata`` counts its interactions by the value they were stratified by.
    """

    groups: int = 0
    interactions: int = 0
    share: float = 0.0
    wanted: float | None = None
    begins: datetime | None = None
    strata: dict[str, int] = {}


class RedactionUsed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The policy by which a version's records were redacted when it was built; ``digest`` stands for all it says."""

    policy: str
    version: int
    digest: str


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a dataset version is and came from. A pure function of the recipe and the records: no time, place or host.

    So equal records and an equal recipe give equal bytes in every workspace; what differs (when, the version's number,
    the store's watermark) stands in :class:`BuildRecord` beside it.

    ``records_digest`` is the SHA-256 of the ids of all records read, sorted, one a line. ``fates`` names the file that
    lists them (one :class:`Fate` a line). ``groups`` counts the sets of records that no split may part. ``examples``
    counts rows by split and example type; ``drops`` counts records and examples left out, by stage and reason;
    ``changes`` counts what steps changed, by reason; ``notes`` are findings a reader should know (contradicting
    preferences, for one). ``shares`` says what each split got, ``features`` what the rows' feature columns mean.
    ``documents`` are files that say what the version is (:mod:`tracemill.dataset.documents`). ``redaction`` is the policy that
    was applied at build; ``changes`` counts under ``privacy.`` and the kind in how many interactions it replaced something.
    ``canaries`` says by kind how many values of invented people got through the build, and how many were sent.
    """

    manifest_version: int
    name: str
    recipe: dict[str, Any]
    recipe_hash: str
    records_read: int
    records_digest: str
    groups: int
    examples: dict[str, dict[str, int]]
    drops: dict[str, int]
    changes: dict[str, int]
    notes: list[str]
    fates: str
    files: list[DatasetFile]
    shares: dict[str, SplitShare] = {}
    features: dict[str, FeatureColumn] = {}
    documents: list[DatasetFile] = []
    redaction: RedactionUsed | None = None
    canaries: dict[str, tuple[int, int]] = {}


class BuildRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a version came to be here (``build.json``): what is not the same wherever it is built.

    ``watermark`` is the store's sequence up to which records were read, ``resumed_shards`` how many parts an interrupted
    build had left finished, ``lost_workers`` how many workers its last run lost and replaced, ``seconds`` what that run took.
    """

    version: str
    watermark: int
    built: datetime
    seconds: float
    resumed_shards: int
    tracemill: str
    manifest_sha256: str
    lost_workers: int = 0


class Loss(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing of an example that an export's row does not hold, or a row that was not written at all.

    ``row`` is the row's number in its split, from 1 (the line of ``<split>.jsonl``); it is absent where the whole row was
    refused. ``path`` is a JSON Pointer (RFC 6901) into the example, ``reason`` a stable word, ``call_ids`` the tool-call
    ids that stand in what is left out.
    """

    split: str
    example: str
    row: int | None = None
    path: str = ""
    reason: str
    detail: str = ""
    call_ids: list[str] = []


class TokenCounts(Struct, frozen=True, kw_only=True):
    """What the rows of a split are to a model.

    A row is one sequence, or one a side of a preference. ``tokens`` are those of all ``sequences``, ``loss_tokens`` those
    among them that a loss is taken over, ``longest`` the tokens of the longest sequence. ``over`` counts sequences longer
    than the limit, ``cut_tokens`` and ``cut_loss_tokens`` what of them stands beyond it. ``unread`` counts rows that the chat
    template refused; they are in no other number.
    """

    sequences: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    longest: int = 0
    over: int = 0
    cut_tokens: int = 0
    cut_loss_tokens: int = 0
    unread: int = 0


class TokenStatistics(Struct, frozen=True, kw_only=True):
    """What an export is to a tokenizer, by split. ``tokenizer_sha256`` is of all that the numbers depend on.

    ``mask`` says how the tokens of the loss were found: by the template's own ``generation`` blocks, by the ``prefix`` of
    each answer, as the ``completion`` of a prompt, or as the whole ``text``.
    """

    tokenizer_sha256: str
    mask: str
    max_tokens: int | None
    splits: dict[str, TokenCounts]


class ExportManifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an export is (``export.json``): a pure function of the version, the format and the container.

    ``shard_bytes`` is the size asked for, in bytes of rows as JSON lines; null for one file a split. ``fold`` is the fold
    that was held out for the test, ``columns`` are the features that rows have beside the format's own fields.
    ``rows`` counts by split, ``refused`` the examples that gave no row by reason, ``losses`` what rows lack by reason;
    ``losses.jsonl`` lists both one by one (:class:`Loss`). ``tokens`` is there where a tokenizer was given.
    """

    format: str
    dataset: str
    version: str
    manifest_sha256: str
    rows: dict[str, int]
    refused: dict[str, int]
    losses: dict[str, int]
    files: list[DatasetFile]
    container: str = "jsonl"
    shard_bytes: int | None = None
    fold: int | None = None
    columns: list[str] = []
    tokens: TokenStatistics | None = None


class Tombstone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stands in the place of a version's or an export's rows after erasure (``tombstone.json``).

    ``receipt`` is the erasure's id, ``records`` how many of its records were erased, ``rows`` how many rows were removed
    with them, ``replaced_by`` the version that was built from what is left.
    """

    receipt: str
    erased: datetime
    records: int
    rows: int
    replaced_by: str = ""


class TrainedModel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model and the dataset version it was trained on. ``tainted`` lists erasures of records it was trained on."""

    name: str
    dataset: str
    manifest_sha256: str
    trained: datetime
    path: str = ""
    tainted: list[str] = []
