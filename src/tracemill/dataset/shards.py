"""The working folder of a build and its first stage: records read shard by shard, in the order of storing.

A shard is a range of the store's watermark. Each leaves up to four kinds of files: runs of drafts (examples with what
the merge must know of them), the trials it met, what duplicates are found by, and last, as the sign that it is complete,
its columns. A build that was
killed goes on behind the last complete shard, after it has made sure that the records of the complete ones are all still
stored: what was erased in between must not live on in a version.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from tracemill.core.codec import decode, encode
from tracemill.core.examples import FeatureValue
from tracemill.core.records import Interaction
from tracemill.dataset.drafts import WORDS, Drafts
from tracemill.dataset.files import WholeFile, sync_folder
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.redaction import Redacts
from tracemill.dataset.select import Columns, Selected, select
from tracemill.dataset.signals.trials import Trial
from tracemill.dataset.site import Site
from tracemill.dataset.sort import RunWriter
from tracemill.dataset.texts import Pattern, TextWriter
from tracemill.feedback.attach import Attached, Attachments
from tracemill.feedback.executions import BATCH
from tracemill.privacy.consent import Consents, digest_of
from tracemill.store.base import Filter, Store

SHARD_PLACES = 2000
"""Places of the store's order that one shard covers at least."""
MOST_SHARDS = 10_000
_LENGTH = struct.Struct("<Q")


class StoredTrial(msgspec.Struct, array_like=True, frozen=True):
    """A trial in a working file; the interaction without what no comparison looks at."""

    interaction: bytes
    score: float
    score_sources: list[str]
    confidence: float
    human: bool
    features: dict[str, FeatureValue] = {}

    @classmethod
    def of(cls, trial: Trial) -> StoredTrial:
        return cls(
            encode(compared(trial.interaction)),
            trial.score,
            trial.score_sources,
            trial.confidence,
            trial.human,
            trial.features,
        )

    def trial(self) -> Trial:
        interaction = decode(self.interaction)
        assert isinstance(interaction, Interaction)
        return Trial(interaction, self.score, self.score_sources, self.confidence, self.human, self.features)


def compared(whole: Interaction) -> Interaction:
    """An interaction without what no comparison looks at."""
    return Interaction(
        **{name: getattr(whole, name) for name in ("id", "time", "schema_version", "producer", "sequence")},
        platform=whole.platform,
        task_id=whole.task_id,
        messages=whole.messages,
        response=whole.response,
        tools=whole.tools,
    )


_encode = msgspec.msgpack.Encoder().encode
_columns_decoder = msgspec.msgpack.Decoder(Columns)
_trial_decoder = msgspec.msgpack.Decoder(StoredTrial)


@dataclass(frozen=True, slots=True)
class _Files:
    """What a shard writes while it is read."""

    drafts: Drafts
    columns: WholeFile
    trials: WholeFile
    texts: TextWriter
    turns: RunWriter
    bodies: WholeFile


class Shard:
    """One range of places and the files it leaves in the working folder."""

    def __init__(self, work: Path, number: int, up_to: int) -> None:
        self.work, self.number = work, number
        places = shard_places(up_to)
        self.after = number * places
        self.up_to = min(self.after + places, up_to)
        self.stem = f"shard-{number:06d}"
        self.columns_path = work / f"{self.stem}.columns"
        self.trials_path = work / f"{self.stem}.trials"
        self.patterns_path = work / f"{self.stem}.patterns"
        self.bodies_path = work / f"{self.stem}.bodies"
        self.narrow_path = work / f"{self.stem}.narrow"

    def runs(self) -> list[Path]:
        """The runs of drafts it left."""
        return sorted(self.work.glob(f"{self.stem}.*.run"))

    def turn_runs(self) -> list[Path]:
        """The runs of turns it left, by conversation; only for a recipe that compares them."""
        return sorted(self.work.glob(f"{self.stem}-turns.*.run"))

    def columns(self) -> Iterator[Columns]:
        """The columns of its interactions, in stored order."""
        yield from map(_columns_decoder.decode, _entries(self.columns_path))

    def complete(self, store: Store) -> bool:
        """Whether an earlier run finished it and everything it was made of is still stored."""
        if not self.columns_path.exists():
            return False
        ids = [record_id for row in self.columns() for record_id in (row.id, *row.attached, *row.executed)]
        return all(
            len(store.known(ids[at : at + 1000])) == len(set(ids[at : at + 1000])) for at in range(0, len(ids), 1000)
        )

    def discard(self) -> None:
        """Remove what an unfinished or outdated run left."""
        for stem in (self.stem, f"{self.stem}-turns", f"{WORDS}-{self.stem}"):
            for path in self.work.glob(f"{stem}.*"):
                path.unlink()

    def read(
        self,
        store: Store,
        recipe: Recipe,
        attachments: Attachments,
        held: Consents,
        redactor: Redacts | None = None,
    ) -> None:
        """Read its records through the recipe and write its files; the columns come last."""
        self.discard()
        drafts = Drafts(self.work, self.stem, sync=True)
        turns = RunWriter(self.work, f"{self.stem}-turns", sync=True)
        where = recipe.source.filter(after=self.after, up_to=self.up_to)
        with WholeFile(self.columns_path) as columns:
            with (
                WholeFile(self.trials_path) as trials,
                TextWriter(self.patterns_path, self.narrow_path) as texts,
                WholeFile(self.bodies_path) as bodies,
            ):
                files = _Files(drafts, columns, trials, texts, turns, bodies)
                for place, (record, attached) in enumerate(_joined(store, where, attachments)):
                    self._read_one(place, record, attached, recipe, held, store, files, redactor)
            drafts.close()
            turns.close()
            sync_folder(self.work)
        sync_folder(self.work)

    def _read_one(
        self,
        place: int,
        record: Interaction,
        attached: Attached,
        recipe: Recipe,
        held: Consents,
        store: Store,
        files: _Files,
        redactor: Redacts | None,
    ) -> None:
        if held.denies(record):
            ids, executed = list(attached.ids()), list(attached.executed())
            selected = Selected(Columns(id=record.id, attached=ids, executed=executed, dropped=held.reason))
        else:
            selected = select(record, attached, recipe, store.get, redactor)
        for signal, whole, example in selected.examples:
            files.drafts.add(example, [(self.number, place)], signal, whole=whole)
        row = selected.columns
        if held and record.user is not None:
            row = msgspec.structs.replace(row, person=digest_of(record.user))
        if selected.trial is not None:
            stored = _encode(StoredTrial.of(selected.trial))
            row = msgspec.structs.replace(row, offset=files.trials.bytes, length=len(stored))
            files.trials.write(stored)
        if selected.pattern is not None:
            files.texts.add(Pattern(place, *selected.pattern))
        if selected.turn is not None and selected.answered is not None:
            body = zlib.compress(encode(compared(selected.answered)), level=1)
            place_of_body = files.bodies.bytes, len(body)
            files.bodies.write(body)
            turn = msgspec.structs.replace(selected.turn, owner=(self.number, place), body=place_of_body)
            files.turns.add(turn.conversation, _encode(turn))
        _write_entry(files.columns, _encode(row))

    def body(self, offset: int, length: int) -> Interaction:
        """An answered call it met, as the recipe's steps left it, by its place in the file of bodies."""
        with self.bodies_path.open("rb") as file:
            file.seek(offset)
            interaction = decode(zlib.decompress(file.read(length)))
        assert isinstance(interaction, Interaction)
        return interaction

    def trial(self, offset: int, length: int) -> Trial:
        """A trial it met, by its place in the file of trials."""
        with self.trials_path.open("rb") as file:
            file.seek(offset)
            return _trial_decoder.decode(file.read(length)).trial()


def read_shard(site: Site, number: int) -> None:
    """Read one shard through the recipe: the part of a build that workers do.

    ``site.inputs`` are the attachments and what people consented to.
    """
    attachments, held = site.inputs
    Shard(site.work, number, site.watermark).read(site.store, site.recipe, attachments, held, site.redactor)


def _joined(store: Store, where: Filter, attachments: Attachments) -> Iterator[tuple[Interaction, Attached]]:
    """The interactions that pass a filter, in stored order, each with what is attached to it."""
    records = iter(store.scan(where))
    while batch := list(islice(records, BATCH if attachments.executions.any else 1)):
        attached = attachments.of_batch(store, [record.id for record in batch])
        for record, found in zip(batch, attached, strict=True):
            assert isinstance(record, Interaction)  # the filter names no other type
            yield record, found


def _write_entry(file: WholeFile, encoded: bytes) -> None:
    file.write(_LENGTH.pack(len(encoded)) + encoded)


def _entries(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=128 * 1024) as file:
        while header := file.read(_LENGTH.size):
            (length,) = _LENGTH.unpack(header)
            yield file.read(length)


def shard_places(watermark: int) -> int:
    """How many places one shard of a build covers: more of them where there would be more shards than :data:`MOST_SHARDS`."""
    return SHARD_PLACES * max(1, -(-watermark // (SHARD_PLACES * MOST_SHARDS)))


def shards(work: Path, watermark: int) -> list[Shard]:
    """Every shard of a store up to a watermark."""
    return [Shard(work, number, watermark) for number in range(-(-watermark // shard_places(watermark)))]
