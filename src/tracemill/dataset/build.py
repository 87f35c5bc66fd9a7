"""Building a dataset version: recipe and store in, an immutable folder out.

The stages, each of which streams: read (shards of stored order through steps and signals), compare trials, merge (examples
sorted by id, fates). What is known of all records at once is narrow: ids, digests, groups, scores.

The bytes of a version are a function of the recipe and the records alone. Where it was built, when, in which order the
records came and how often the build was interrupted leaves no trace in them. An interrupted build is taken up where it
stopped when the same recipe is built at the same watermark of the store.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tracemill.core.errors import DatasetError
from tracemill.core.examples import MANIFEST_VERSION, BuildRecord, Example, Manifest
from tracemill.core.ids import id_bytes, monotonic, now
from tracemill.core.records import Interaction
from tracemill.core.settings import Settings
from tracemill.core.steps import Progress
from tracemill.dataset.assemble import FATES, Assembled, Assembly
from tracemill.dataset.crew import at_work
from tracemill.dataset.documents.write import write_documents
from tracemill.dataset.draw import Drawn, draw_splits
from tracemill.dataset.features import find_feature
from tracemill.dataset.files import locked, sync_folder, write_whole
from tracemill.dataset.ledger import Ledger, read_ledger
from tracemill.dataset.pairs import discard_pairs, make_pairs
from tracemill.dataset.patterns import Comparing, join_duplicates, mark_duplicates, mark_known
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.redaction import Redacts, pinned, used
from tracemill.dataset.select import select
from tracemill.dataset.shards import Shard, read_shard, shards
from tracemill.dataset.site import Crew, Site
from tracemill.dataset.standing import Proposal, Standing, current_folder, read_standing, write_standing
from tracemill.dataset.turns import make_turns
from tracemill.dataset.version import BUILD, MANIFEST, TOMBSTONE, Version, open_version, version_folders
from tracemill.feedback.attach import NOTHING, Attachments, attach
from tracemill.feedback.attached_file import on_disk
from tracemill.feedback.executions import find_executions
from tracemill.privacy.canaries import measure
from tracemill.privacy.consent import SpokenFor, read_consents
from tracemill.store.base import Store

_OUTPUT = "version"
LAYOUT = 2
"""Of the working folder: what a build of another layout left unfinished is begun anew."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gave. ``new`` is False when the version was there already."""

    version: Version
    new: bool


def build_version(
    store: Store,
    recipe: Recipe,
    root: Path,
    *,
    redactor: Redacts | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Version:
    """Build a version under ``root``, or give the one there already is of the same records and recipe.

    See :func:`build` for the arguments and for what is raised.
    """
    return build(store, recipe, root, redactor=redactor, settings=settings, progress=progress).version


def build(
    store: Store,
    recipe: Recipe,
    root: Path,
    *,
    redactor: Redacts | None = None,
    proposed_by: str = "",
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Built:
    """Build a version under ``root``, and say whether it is new. ``redactor`` applies the policy that the recipe asks for.

    A new version is the current one of its name from then on; with ``proposed_by`` it waits for approval instead
    (:mod:`tracemill.dataset.standing`).

    ``settings`` say by which engine and how many workers, and how these open the store; without them the build runs in
    this process alone. The bytes are the same.

    Raises RecipeError when the recipe cannot be hashed, DatasetError when another process builds this dataset, when a
    step fails, or when the version that should be given is damaged; and what the store raises. Whatever stops it, a
    KeyboardInterrupt included, leaves it so that the next call goes on.
    """
    recipe = pinned(recipe, redactor)
    recipe_hash = recipe.hash()
    folder = root / recipe.name
    with locked(folder, f"building {recipe.name}") as lock:
        return _Build(store, recipe, recipe_hash, folder, redactor, proposed_by, progress).run(settings, lock)


class _Build:
    """One build, under the lock of its dataset's folder."""

    def __init__(
        self,
        store: Store,
        recipe: Recipe,
        recipe_hash: str,
        folder: Path,
        redactor: Redacts | None,
        proposed_by: str,
        progress: Progress | None,
    ) -> None:
        self.store, self.recipe, self.recipe_hash, self.folder = store, recipe, recipe_hash, folder
        self.redactor, self.proposed_by = redactor, proposed_by
        self.progress = progress
        self.began = monotonic()
        self.watermark = store.watermark()
        self.held = read_consents(store, recipe.purpose, recipe.consent_default, up_to=self.watermark)
        self.spoken = SpokenFor(self.held)
        self.work = folder / f".building-{LAYOUT}-{recipe_hash[:16]}-{self.watermark}{self.held.digest()}"

    def run(self, settings: Settings | None, lock: int) -> Built:
        self.work.mkdir(exist_ok=True)
        parts = shards(self.work, self.watermark)
        missing = [shard for shard in parts if not shard.complete(self.store)]
        site = Site(self.work, self.recipe, self.watermark, self.redactor, _store=self.store)
        attachments = attach(self.store, up_to=self.watermark, keeps=self.spoken.keeps)
        if self.recipe.reads_executions():
            attachments.executions = find_executions(self.store, up_to=self.watermark)
        attachments = on_disk(attachments, self.work / "attachments.db")
        site.share((attachments, self.held))
        with at_work(site, settings, len(missing), lock) as crew:
            self._read(crew, parts, missing)
            return self._built(crew, parts, attachments, len(parts) - len(missing))

    def _built(self, crew: Crew, parts: Sequence[Shard], attachments: Attachments, resumed: int) -> Built:
        ledger = read_ledger(parts)
        comparing = Comparing(crew, self.work, self.progress)
        if (duplicates := self.recipe.duplicates()) is not None:
            mark_duplicates(comparing, parts, ledger, duplicates)
        if (novelty := self.recipe.novelty()) is not None:
            mark_known(comparing, parts, ledger, novelty)
        if self.recipe.splitting.near_duplicates:
            join_duplicates(comparing, parts, ledger, self.recipe.splitting.similarity)
        unmatched = self._unmatched(ledger, attachments)
        consents = self.held.of(ledger.people | self.spoken.people)
        digest = ledger.records_digest(list(unmatched), [one.id for one in consents])
        version = self._existing(digest)
        new = version is None
        if version is None:
            read = [one.id for one in consents if not one.erased]
            version = self._write(crew, ledger, parts, unmatched, read, digest, resumed)
        elif not self.proposed_by:
            self._stand_in(version)
        self._clean_up()
        return Built(version, new)

    def _read(self, crew: Crew, parts: Sequence[Shard], missing: Sequence[Shard]) -> None:
        """Complete every shard that is not."""
        if missing:
            discard_pairs(self.work)
        done = sum(shard.up_to - shard.after for shard in parts) - sum(one.up_to - one.after for one in missing)
        if self.progress is not None and done:
            self.progress("read records", done, self.watermark)
        for place, _ in crew.run(read_shard, [shard.number for shard in missing]):
            done += missing[place].up_to - missing[place].after
            if self.progress is not None:
                self.progress("read records", done, self.watermark)

    def _unmatched(self, ledger: Ledger, attachments: Attachments) -> dict[str, str]:
        """Feedback and validations that belong to what was read but may not be used, or match nothing, with the reason.

        That something matches nothing, only a source that names nothing but platforms can tell: for a narrower one it may
        belong to what is left out.
        """
        source = self.recipe.source
        platforms = source.platforms
        refused = self.spoken.refused.items()
        asked = {id_bytes(target) for target in attachments.targets()}
        asked.update(id_bytes(target) for _, target in refused if target is not None)
        read = {raw for raw in ledger.ids if raw in asked}
        found = {name: self.held.reason for name, target in refused if target is not None and id_bytes(target) in read}
        if source != type(source)(platforms=platforms):
            return found
        found |= {
            entry.id: entry.reason
            for entry in (*attachments.unmatched, *attachments.of_whole)
            if not platforms or entry.platform is None or entry.platform in platforms
        }
        missing = [target for target in attachments.targets() if id_bytes(target) not in read]
        known = self.store.known(missing)
        for target in missing:
            if target in known:
                continue
            for record_id in attachments.of(target).ids():
                platform = getattr(self.store.get(record_id), "platform", None)
                if not platforms or platform is None or platform in platforms:
                    found[record_id] = "no_such_interaction"
        return found

    def _existing(self, digest: str) -> Version | None:
        """The version that this build would make again, if there is one. Raises DatasetError when it is damaged."""
        for path in reversed(version_folders(self.folder)):
            version = open_version(path)
            if version.tombstone is not None:
                continue
            manifest = version.manifest
            if (manifest.recipe_hash, manifest.records_digest) != (self.recipe_hash, digest):
                continue
            if manifest.manifest_version != MANIFEST_VERSION:
                continue
            if problems := version.verify():
                raise DatasetError(
                    f"{version.reference} would be built again, but is damaged: {problems[0]}",
                    hint=f"Remove {path} to have it built anew.",
                )
            return version
        return None

    def _write(
        self,
        crew: Crew,
        ledger: Ledger,
        parts: Sequence[Shard],
        unmatched: dict[str, str],
        consents: Sequence[bytes],
        digest: str,
        resumed: int,
    ) -> Version:
        output = self.work / _OUTPUT
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        make_pairs(self.work, ledger, parts, self.recipe, self.progress)
        if self.recipe.reads_conversations():
            make_turns(self.work, ledger, parts, self.recipe, self.progress)
        drawn = draw_splits(ledger, self.recipe)
        merged = Assembly(crew, self.work, output, ledger, parts, self.recipe, unmatched, self.progress, consents).run()
        manifest = Manifest(
            manifest_version=MANIFEST_VERSION,
            name=self.recipe.name,
            recipe=self.recipe.plain(),
            recipe_hash=self.recipe_hash,
            records_read=merged.records,
            records_digest=digest,
            groups=drawn.groups,
            examples={split: dict(sorted(types.items())) for split, types in sorted(merged.examples.items())},
            drops=dict(sorted(merged.drops.items())),
            changes=dict(sorted(merged.changes.items())),
            notes=[*ledger.notes, *_notes(merged, drawn), *merged.notes],
            fates=FATES,
            files=sorted(merged.files, key=lambda file: file.path),
            shares=drawn.shares,
            features={feature.name: feature.column() for feature in map(find_feature, self.recipe.features)},
            redaction=used(self.redactor),
            canaries=self._canaries(),
        )
        documents = write_documents(crew, output, manifest, self.progress)
        manifest = msgspec.structs.replace(manifest, documents=documents)
        described = write_whole(output / MANIFEST, _pretty(manifest))
        return self._publish(output, described.sha256, resumed, crew.lost)

    def _canaries(self) -> dict[str, tuple[int, int]]:
        """What of invented people gets through redaction, steps and signals. None of it is kept."""
        if not self.recipe.canaries:
            return {}

        def through(canary: Interaction) -> list[Example] | None:
            selected = select(canary, NOTHING, self.recipe, lambda _: None, self.redactor)
            kept_out = (selected.columns.dropped or "").endswith(("privacy_violation", "redaction_failed"))
            return [example for _, _, example in selected.examples] or ([] if kept_out else None)

        try:
            return measure(self.recipe.canaries, self.recipe.seed, through)
        except ImportError as error:
            raise DatasetError(
                f"canaries need {error.name}, which is not installed", hint="pip install 'tracemill[privacy]'"
            ) from error

    def _publish(self, output: Path, manifest_sha256: str, resumed: int, lost: int) -> Version:
        """Put the finished folder under its number. Until then nobody sees it, from then on it does not change."""
        folders = version_folders(self.folder)
        place = self.folder / f"v{int(folders[-1].name[1:]) + 1 if folders else 1}"
        record = BuildRecord(
            version=place.name,
            watermark=self.watermark,
            built=now(),
            seconds=round(monotonic() - self.began, 3),
            resumed_shards=resumed,
            lost_workers=lost,
            tracemill=importlib.metadata.version("tracemill"),
            manifest_sha256=manifest_sha256,
        )
        write_whole(output / BUILD, _pretty(record))
        for path in output.iterdir():
            path.chmod(0o444)
        sync_folder(output)
        self._stand(place.name, [path.name for path in folders])
        output.rename(place)
        sync_folder(self.folder)
        return open_version(place)

    def _stand(self, new: str, versions: list[str]) -> None:
        """Note how the new version stands, before anybody can see it: a proposal must at no moment look like the current one.

        A kill between this and the renaming leaves a note of a version that is not there, which stands for nothing and is
        overwritten by the next build: the current version is still the one it was.
        """
        standing = read_standing(self.folder)
        proposals = {name: proposal for name, proposal in standing.proposals.items() if name != new}
        current, before = new, current_folder(self.folder, versions) or ""
        if self.proposed_by:
            current, before = before, ""
            proposals[new] = Proposal(
                status="waiting", actor=self.proposed_by, proposed=now(), wanted=self.recipe.gates, base=current
            )
        write_standing(self.folder, Standing(current=current, before=before, proposals=proposals))

    def _stand_in(self, version: Version) -> None:
        """Make a version that was there already the current one, where that has lost its rows to an erasure."""
        standing = read_standing(self.folder)
        current = current_folder(self.folder, [path.name for path in version_folders(self.folder)])
        if (
            current is None
            or standing.is_proposed(version.path.name)
            or not (self.folder / current / TOMBSTONE).exists()
        ):
            return
        write_standing(self.folder, msgspec.structs.replace(standing, current=version.path.name, before=""))

    def _clean_up(self) -> None:
        """Remove the working folder, and those of builds that nobody can take up any more: we hold their lock."""
        for path in self.folder.glob(".building-*"):
            shutil.rmtree(path, ignore_errors=True)


def _pretty(value: Manifest | BuildRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _notes(merged: Assembled, drawn: Drawn) -> list[str]:
    """Findings a reader should know, as sentences."""
    augmented = (
        [f"{merged.augmented} examples of train are augmented: made of others, and marked so."]
        if merged.augmented
        else []
    )
    contradictions = [
        f"{count} {tag} examples contradict another one: the same content with the opposite verdict. All are kept."
        for tag, count in sorted(merged.contradictions.items())
    ]
    return [*augmented, *contradictions, *drawn.notes]
