"""The stage of a build that looks at whole conversations: answers given again, and questions put again.

While shards are read, each answered call of a conversation leaves a narrow row, sorted by conversation on disk. Here the
rows of one conversation after the other are in memory, never those of all; the messages of the few calls that give an
example are read from the store again and taken through the recipe's steps as before. What was erased since is passed
over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

import msgspec

from tracemill.core.examples import FeatureValue
from tracemill.core.records import Interaction
from tracemill.core.steps import Progress
from tracemill.dataset.ledger import Ledger
from tracemill.dataset.observe import observe
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.redaction import Redacts
from tracemill.dataset.select import prepare
from tracemill.dataset.shards import Shard, add_draft
from tracemill.dataset.signals.parts import prompt_and_answer
from tracemill.dataset.signals.regenerations import Turn, asked_again, preferred, regeneration
from tracemill.dataset.signals.rephrases import rephrased
from tracemill.dataset.sort import RunWriter, merge_runs
from tracemill.feedback.attach import Attachments
from tracemill.store.base import Store

MOST_TURNS = 5000
"""Calls of a conversation that is looked at: with more, its id is no conversation's (a session id that is everywhere)."""
_STEM = "conversations"
_REPORT_EVERY = 1000
_decode = msgspec.msgpack.Decoder(Turn).decode


def make_turns(
    work: Path,
    ledger: Ledger,
    shards: Sequence[Shard],
    recipe: Recipe,
    store: Store,
    attachments: Attachments,
    redactor: Redacts | None,
    progress: Progress | None,
) -> list[Path]:
    """Write the drafts of all conversations; gives their runs. Marks in the ledger whose answer was compared.

    What one example is made of becomes one group, also where a recipe holds no conversations together.
    """
    for path in work.glob(f"{_STEM}.*"):
        path.unlink()
    runs = RunWriter(work, _STEM)
    read = _Reader(store, recipe, attachments, redactor)
    done = 0
    for turns in _conversations(work, shards):
        if "regenerations" in recipe.signals:
            for better, worse, evidence, by in preferred(turns):
                sides = read.one(better), read.one(worse)
                if sides[0] is None or sides[1] is None:
                    continue
                example = regeneration(sides[0], sides[1], evidence, by)
                if example is not None:
                    features = read.features(better)
                    example = msgspec.structs.replace(example, training_type=recipe.package, features=features)
                    add_draft(runs, example, [better.owner, worse.owner], "regenerations", whole=False)
                    for owner in (better.owner, worse.owner):
                        ledger.compared[ledger.number(owner)] = 1
                    ledger.groups.join(ledger.number(better.owner), ledger.number(worse.owner))
        if "rephrases" in recipe.signals:
            for turn, after, likeness in asked_again(turns):
                answered = read.one(turn)
                prompt, answer = ([], None) if answered is None else prompt_and_answer(answered)
                if answered is not None and answer is not None:
                    example_again = rephrased(answered, prompt, answer, likeness, after.id)
                    features = read.features(turn)
                    example_again = msgspec.structs.replace(
                        example_again, training_type=recipe.package, features=features
                    )
                    add_draft(runs, example_again, [turn.owner, after.owner], "rephrases", whole=False)
                    ledger.groups.join(ledger.number(turn.owner), ledger.number(after.owner))
        done += 1
        if progress is not None and done % _REPORT_EVERY == 0:
            progress("compare answers", done, None)
    return runs.close()


def _conversations(work: Path, shards: Sequence[Shard]) -> Iterator[list[Turn]]:
    """The turns of each conversation that has several, and no more than a conversation can have."""
    runs = [path for shard in shards for path in shard.turn_runs()]
    for _, entries in groupby(merge_runs(runs, work, "turns"), key=itemgetter(0)):
        payloads = [payload for _, payload in islice(entries, MOST_TURNS + 1)]
        if 1 < len(payloads) <= MOST_TURNS:
            yield [_decode(payload) for payload in payloads]


class _Reader:
    """Interactions as the signals see them: redacted, and after the recipe's steps. The last ones read are kept."""

    def __init__(self, store: Store, recipe: Recipe, attachments: Attachments, redactor: Redacts | None) -> None:
        self._redactor = redactor
        self._store, self._recipe, self._attachments = store, recipe, attachments
        self._last: dict[str, Interaction | None] = {}
        self._features: dict[str, dict[str, FeatureValue]] = {}

    def one(self, turn: Turn) -> Interaction | None:
        if turn.id not in self._last:
            if len(self._last) >= 16:
                self._last.clear()
                self._features.clear()
            self._last[turn.id] = self._read(turn.id)
        return self._last[turn.id]

    def features(self, turn: Turn) -> dict[str, FeatureValue]:
        """The features of a turn that can be read; none of one that cannot."""
        return {} if self.one(turn) is None else self._features[turn.id]

    def _read(self, record_id: str) -> Interaction | None:
        record = self._store.get(record_id)
        if not isinstance(record, Interaction):
            return None
        (attached,) = self._attachments.of_batch(self._store, [record_id])
        prepared = prepare(record, attached, self._recipe, self._store.get, self._redactor)
        if prepared.dropped is not None:
            return None
        self._features[record_id] = observe(record, prepared.interaction, prepared.attached, self._recipe).features
        return prepared.interaction
