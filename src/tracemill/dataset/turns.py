"""The stage of a build that looks at whole conversations: answers given again, and questions put again.

While shards are read, each answered call of a conversation leaves a narrow row, sorted by conversation on disk, and its
messages as the recipe's steps left them. Here the rows of one conversation after the other are in memory, never those of
all, and messages only of the few calls that give an example. Nothing is read from the store again, so that nothing comes
back that was taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

import msgspec

from tracemill.core.records import Interaction
from tracemill.core.steps import Progress
from tracemill.dataset.drafts import WORDS, Drafts
from tracemill.dataset.ledger import Ledger
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.shards import Shard
from tracemill.dataset.signals.parts import prompt_and_answer
from tracemill.dataset.signals.regenerations import Turn, asked_again, preferred, regeneration
from tracemill.dataset.signals.rephrases import rephrased
from tracemill.dataset.sort import merge_runs

MOST_TURNS = 5000
"""Calls of a conversation that is looked at: with more, its id is no conversation's (a session id that is everywhere)."""
_STEM = "conversations"
_REPORT_EVERY = 1000
_decode = msgspec.msgpack.Decoder(Turn).decode


def make_turns(work: Path, ledger: Ledger, shards: Sequence[Shard], recipe: Recipe, progress: Progress | None) -> None:
    """Write the drafts of all conversations. Marks in the ledger whose answer was compared.

    What one example is made of becomes one group, also where a recipe holds no conversations together.
    """
    for pattern in (f"{_STEM}.*", f"{WORDS}-{_STEM}.*"):
        for path in work.glob(pattern):
            path.unlink()
    drafts = Drafts(work, _STEM)
    bodies = _Bodies(shards)
    for done, turns in enumerate(_conversations(work, shards), 1):
        if "regenerations" in recipe.signals:
            _compare(turns, bodies, drafts, ledger, recipe)
        if "rephrases" in recipe.signals:
            _find_asked_again(turns, bodies, drafts, ledger, recipe)
        if progress is not None and done % _REPORT_EVERY == 0:
            progress("compare answers", done, None)
    drafts.close()


def _compare(turns: Sequence[Turn], bodies: _Bodies, drafts: Drafts, ledger: Ledger, recipe: Recipe) -> None:
    owners = {turn.id: turn.owner for turn in turns}
    for better, worse, evidence, by in preferred(turns):
        example = regeneration(bodies.one(better), bodies.one(worse), evidence, by)
        if example is None:
            continue
        example = msgspec.structs.replace(example, training_type=recipe.package, features=better.features)
        drafts.add(example, [better.owner, worse.owner], "regenerations", whole=False)
        first, *others = (ledger.number(owners[source]) for source in (better.id, worse.id, *by) if source in owners)
        for other in others:
            ledger.groups.join(first, other)
        for owner in (better.owner, worse.owner):
            ledger.compared[ledger.number(owner)] = 1


def _find_asked_again(turns: Sequence[Turn], bodies: _Bodies, drafts: Drafts, ledger: Ledger, recipe: Recipe) -> None:
    for turn, after, likeness in asked_again(turns):
        answered = bodies.one(turn)
        prompt, answer = prompt_and_answer(answered)
        if answer is None:
            continue
        example = rephrased(answered, prompt, answer, likeness, after.id)
        example = msgspec.structs.replace(example, training_type=recipe.package, features=turn.features)
        drafts.add(example, [turn.owner, after.owner], "rephrases", whole=False)
        ledger.groups.join(ledger.number(turn.owner), ledger.number(after.owner))


def _conversations(work: Path, shards: Sequence[Shard]) -> Iterator[list[Turn]]:
    """The turns of each conversation that has several, and no more than a conversation can have."""
    runs = [path for shard in shards for path in shard.turn_runs()]
    for _, entries in groupby(merge_runs(runs, work, "turns"), key=itemgetter(0)):
        payloads = [payload for _, payload in islice(entries, MOST_TURNS + 1)]
        if 1 < len(payloads) <= MOST_TURNS:
            yield [_decode(payload) for payload in payloads]


class _Bodies:
    """Answered calls by their turns; the last ones read are kept."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._last: dict[str, Interaction] = {}

    def one(self, turn: Turn) -> Interaction:
        if turn.id not in self._last:
            if len(self._last) >= 16:
                self._last.clear()
            self._last[turn.id] = self._shards[turn.owner[0]].body(*turn.body)
        return self._last[turn.id]
