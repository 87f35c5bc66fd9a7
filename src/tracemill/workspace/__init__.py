"""The workspace: every verb of tracemill, in the order data takes. Commands and servers are thin faces over it."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tracemill.capture.gepeto import GepetoSink, write_tree
from tracemill.capture.importers import ImportContext, ImportReport, import_paths
from tracemill.core.codec import decode
from tracemill.core.erasure import ErasureRequest, HoldKind, LegalHold, Receipt, SubjectKind
from tracemill.core.errors import DatasetError, DeliveryError, ErasureError, SettingError, StoreError
from tracemill.core.examples import TrainedModel
from tracemill.core.ids import microseconds, new_id, now
from tracemill.core.pseudonym import load_pseudonymizer
from tracemill.core.records import AnyRecord, Interaction, User
from tracemill.core.settings import Settings, load_settings
from tracemill.core.steps import Progress
from tracemill.dataset.build import Built, build
from tracemill.dataset.erase import MODELS, read_models, write_models
from tracemill.dataset.recipe import Recipe, default_recipe
from tracemill.dataset.version import Version, find_version, list_versions
from tracemill.export.lines import openai_line
from tracemill.export.places import note_external
from tracemill.export.write import ExportReport, export_version
from tracemill.feedback.attach import attach
from tracemill.insight.health import Health, examine
from tracemill.insight.readiness import Judged, Readiness, judged, readiness
from tracemill.insight.report import write_html
from tracemill.insight.statistics import Statistics, collect_statistics
from tracemill.insight.storage import storage_statistics
from tracemill.privacy.audit import AuditLog
from tracemill.privacy.consent import read_consents
from tracemill.privacy.erase import RECEIPTS, Found, receipt_holds
from tracemill.privacy.signing import Signer, load_signer
from tracemill.quality.judge_client import Pace
from tracemill.sdk.delivery import Delivered, Delivery, delivered
from tracemill.sdk.http import HttpDelivery
from tracemill.sdk.spool import Drained, drain
from tracemill.store.archiving import ArchiveReport
from tracemill.store.base import Filter, QuarantinedItem
from tracemill.store.erasing import put_hold
from tracemill.store.keeping import compact, run_archive
from tracemill.store.tiered import TieredStore, open_store
from tracemill.workspace.certifying import Certifying
from tracemill.workspace.consenting import Consenting
from tracemill.workspace.erasing import Erasing, person_hash
from tracemill.workspace.judging import JudgeReport, Judging
from tracemill.workspace.keeping import Maintained, maintain, trainable_since, write_log
from tracemill.workspace.mining import add_patterns
from tracemill.workspace.proposing import Proposed, Proposing
from tracemill.workspace.redacting import Redacting


class StoreDelivery:
    """Delivers what the SDK spooled into the store of the same workspace, and as Gepeto files where that is asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        folder = workspace.settings.gepeto_path
        self._gepeto = GepetoSink(Path(folder)) if folder else None

    def deliver(self, items: Sequence[bytes]) -> Delivered:
        """See :class:`tracemill.sdk.delivery.Delivery`. What the store refuses is in its quarantine."""
        try:
            result = self._workspace.store.append_encoded(items)
        except (StoreError, SettingError) as error:
            raise DeliveryError(error.message, hint=error.hint) from error
        if self._gepeto is not None:
            refused = {refusal.index for refusal in result.refused}
            kept = [decode(item) for index, item in enumerate(items) if index not in refused]
            self._gepeto.write([self._workspace.redacting.record(record) for record in kept])
        return delivered(result.stored + result.duplicates, [one.reason for one in result.refused])

    def close(self) -> None:
        """Close the workspace."""
        self._workspace.close()


class Workspace:
    """One folder: spool, store, keys, datasets, exports. Use as a context manager, or close it."""

    def __init__(self, path: Path, settings: Settings, store: TieredStore, redacting: Redacting) -> None:
        self.path = path
        self.settings = settings
        self.store = store
        self.redacting = redacting
        store.gateway.gate = redacting.gate
        self._said: tuple[tuple[int, int], dict[str, Judged]] | None = None

    @classmethod
    def open(cls, path: Path | str | None = None, *, settings: Settings | None = None) -> Workspace:
        """Open a workspace, making its folder and the tables of its store where there are none.

        Raises SettingError when the folder cannot be made or nothing can be redacted as the settings ask, StoreError when the
        database cannot be opened.
        """
        if settings is None:
            settings = load_settings({"workspace": None if path is None else str(path)})
        elif path is not None:
            settings = msgspec.structs.replace(settings, workspace=str(path))
        folder = Path(settings.workspace)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(
                f"the workspace {folder} cannot be made: {error}", hint="Choose another with --workspace."
            ) from error
        redacting = Redacting(folder, settings)
        return cls(folder, settings, open_store(settings), redacting)

    def close(self) -> None:
        """Release the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- in

    def delivery(self) -> StoreDelivery:
        """What the SDK's background thread delivers through."""
        return StoreDelivery(self)

    def drain(self, *, progress: Progress | None = None) -> Drained:
        """Deliver what finished or killed processes left in the spool, to the endpoint where one is set."""
        batch = self.settings.delivery_batch_records
        delivery: Delivery = HttpDelivery(self.settings) if self.settings.endpoint else self.delivery()
        return drain(self.path, delivery, batch_records=batch, progress=progress)

    def import_files(
        self,
        format: str,  # noqa: A002 - the word for it everywhere else
        paths: Sequence[Path],
        *,
        platform: str | None = None,
        model: str | None = None,
        expand: bool = False,
        rejects: Path | None = None,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import files of a format; see :mod:`tracemill.capture.importers`. Rejected entries go to ``rejects``."""
        pseudonymizer = load_pseudonymizer(self.path, keep_raw=self.settings.keep_raw_user_ids)
        context = ImportContext(platform=platform, model=model, expand=expand, pseudonymize=pseudonymizer.user)
        reject_file = rejects if rejects is not None else self.path / "rejects" / f"{format}.jsonl"
        hide = self.store.gateway.hidden
        return import_paths(
            self.store, format, paths, context=context, rejects=reject_file, hide=hide, progress=progress
        )

    # -- what is there

    def records(self, where: Filter | None = None, *, limit: int | None = None) -> Iterator[AnyRecord]:
        """Records that pass a filter, in the order of storing."""
        for number, record in enumerate(self.store.scan(where)):
            if limit is not None and number >= limit:
                return
            yield record

    def training_data(
        self,
        *,
        platform: str | None = None,
        success: bool | None = None,
        with_feedback: bool | None = None,
        include_archived: bool = True,
        limit: int | None = None,
    ) -> Iterator[Interaction]:
        """Interactions, in the order of storing; ``with_feedback`` keeps those that have some (True) or none (False).

        What is in the archive is read too, unless ``include_archived`` says otherwise. Whose people do not allow training is
        left out.
        """
        attached = attach(self.store) if with_feedback is not None else None
        platforms = () if platform is None else (platform,)
        given = 0
        held = read_consents(self.store, "train", self.consenting.default("train"))
        since = trainable_since(self.settings, platforms)
        where = Filter(types=("interaction",), platforms=platforms, success=success, since=since)
        for record in self.store.scan(where) if include_archived else self.store.scan_hot(where):
            if limit is not None and given >= limit:
                return
            if held.denies(record) or (attached is not None and bool(attached.of(record.id)) is not with_feedback):
                continue
            if isinstance(record, Interaction):
                given += 1
                yield record

    def statistics(
        self,
        *,
        platform: str | None = None,
        bodies: bool = True,
        newest: int | None = None,
        progress: Progress | None = None,
    ) -> Statistics:
        """See :func:`tracemill.insight.statistics.collect_statistics`."""
        return collect_statistics(self.store, platform=platform, bodies=bodies, newest=newest, progress=progress)

    def readiness(self, platform: str) -> Readiness:
        """Whether a platform's records are enough to train on; see :mod:`tracemill.insight.readiness`."""
        return readiness(self.store, platform, self._judged())

    def storage_statistics(self, platform: str | None = None) -> dict[str, Any]:
        """What is stored, what it costs, and what to do next; see :mod:`tracemill.insight.storage`."""
        return storage_statistics(self.store, self._judged(), platform=platform)

    def _judged(self) -> dict[str, Judged]:
        """What people said, read anew only when something was stored or removed since."""
        state = self.store.state()
        if self._said is None or self._said[0] != state:
            self._said = (state, judged(self.store))
        return self._said[1]

    def write_report(self, path: Path, *, platform: str | None = None) -> Statistics:
        """Write the report as one HTML file, and give the statistics it shows."""
        statistics = self.statistics(platform=platform)
        write_html(statistics, path)
        return statistics

    def doctor(self, *, verify: bool = True) -> Health:
        """See :mod:`tracemill.insight.health`."""
        return examine(self.path, self.store, verify=verify)

    def judge(
        self,
        *,
        platform: str | None = None,
        pairs: bool = False,
        pace: Pace | None = None,
        workers: int = 4,
        progress: Progress | None = None,
    ) -> JudgeReport:
        """Have a language model judge what is stored; see :mod:`tracemill.workspace.judging`. Noted in the audit log."""
        redactor = self.redacting.of_purpose("evaluate")
        judging = Judging(self.path, self.settings, self.store, pace or Pace(), workers, redactor)
        client, policy = judging.client, judging.view.policy
        self.audit("quality.judge", client.host, model=client.model, pairs=pairs, redaction=policy)
        return judging.run(platform=platform, pairs=pairs, progress=progress)

    def quarantined(self, limit: int = 100) -> list[QuarantinedItem]:
        """The newest refused items."""
        return self.store.quarantined(limit)

    # -- out

    @property
    def dataset_root(self) -> Path:
        """The folder of all dataset versions."""
        return self.path / "datasets"

    def build_dataset(self, recipe: Recipe | None = None, *, progress: Progress | None = None) -> Built:
        """Build a version of a dataset, or give the one there already is of the same records and recipe."""
        chosen = self.taken(recipe or default_recipe())
        redactor = self.redacting.of_recipe(chosen)
        built = build(
            self.store, chosen, self.dataset_root, redactor=redactor, settings=self.settings, progress=progress
        )
        add_patterns(self.store, built.version, chosen, progress)
        return built

    def taken(self, recipe: Recipe) -> Recipe:
        """A recipe that reads nothing older than retention lets it, under the consent that holds here."""
        chosen = self.consenting.recipe(recipe)
        since = trainable_since(self.settings, chosen.source.platforms)
        if since is not None and (chosen.source.since is None or chosen.source.since < since):
            chosen = msgspec.structs.replace(chosen, source=msgspec.structs.replace(chosen.source, since=since))
        return chosen

    @cached_property
    def proposing(self) -> Proposing:
        """Proposals, approvals and rollbacks of dataset versions."""
        return Proposing(self.store, self.dataset_root, self.audit, self.signer, self.settings)

    def propose_dataset(
        self, recipe: Recipe | None = None, *, actor: str = "", progress: Progress | None = None
    ) -> Proposed:
        """Build a version that waits for approval; see :meth:`tracemill.workspace.proposing.Proposing.propose`."""
        chosen = self.taken(recipe or default_recipe())
        redactor = self.redacting.of_recipe(chosen)
        found = self.proposing.propose(chosen, actor=actor or local_actor(), redactor=redactor, progress=progress)
        add_patterns(self.store, found.version, chosen, progress)
        return found

    def datasets(self, name: str | None = None) -> list[Version]:
        """Every dataset version, or those of one name."""
        return list_versions(self.dataset_root, name)

    def dataset(self, reference: str) -> Version:
        """The version of ``name@v3``, or the current one of ``name``. Raises DatasetError when there is none."""
        if not reference:
            raise DatasetError("no dataset is named", hint="Give a name, or name@v1.")
        return find_version(self.dataset_root, reference)

    def export(
        self,
        reference: str,
        format: str,  # noqa: A002 - the word for it everywhere else
        to: Path | None = None,
        *,
        container: str = "jsonl",
        shard_bytes: int | None = None,
        fold: int | None = None,
        columns: Sequence[str] = (),
        tokenizer: Path | None = None,
        max_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write a dataset version in a trainer's format, as JSON lines or in another container, in files of a size.

        ``fold`` and ``columns`` as for :func:`tracemill.export.write.export_version`. With a tokenizer's folder, rows are
        counted as a model reads them, and what it would not see is listed.
        """
        if to is not None and not to.resolve().is_relative_to(self.path.resolve() / "exports"):
            note_external(self.path, to)
        version = self.dataset(reference)
        report = export_version(
            version,
            format,
            to,
            container=container,
            shard_bytes=shard_bytes,
            fold=fold,
            columns=columns,
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            progress=progress,
            withdrawn=self.consenting.withdrawn(version),
        )
        self.audit("dataset.export", reference, format=format, rows=report.rows)
        return report

    def openai_rows(
        self, platform: str, *, success_only: bool = True, with_feedback_only: bool = False
    ) -> Iterator[bytes]:
        """OpenAI chat rows of a platform's interactions, a line each, in the order of storing.

        What has no answer, or does not fit the format, is left out. A dataset version is the better way: it names every
        record and what became of it.
        """
        kept = self.training_data(
            platform=platform,
            success=True if success_only else None,
            with_feedback=True if with_feedback_only else None,
        )
        return (line for interaction in kept if (line := openai_line(interaction)) is not None)

    # -- old and unwanted

    @cached_property
    def signer(self) -> Signer:
        """The workspace's signing key. Raises SettingError when it cannot be read."""
        return load_signer(self.path)

    @cached_property
    def audit_log(self) -> AuditLog:
        """Who did something privileged, to what, when."""
        return AuditLog(self.store, self.path, self.signer)

    def audit(self, action: str, target: str = "", *, actor: str = "", **detail: Any) -> None:
        """Note something privileged in the audit log."""
        self.audit_log.record(action, target, actor=actor or local_actor(), **detail)

    @cached_property
    def erasing(self) -> Erasing:
        """Erasure over this workspace."""
        log, withdrawn = self.audit_log, self.consenting.withdrawn
        return Erasing(self.path, self.settings, self.store, log, self.signer, withdrawn, self.redacting.link, self)

    @cached_property
    def consenting(self) -> Consenting:
        """What people allow, and what they took back."""
        return Consenting(self.path, self.settings, self.store, self.audit_log)

    @cached_property
    def certifying(self) -> Certifying:
        """Certificates of dataset versions."""
        log, signer = self.audit_log, self.signer
        return Certifying(self.dataset_root, self.store, log, signer, self.consenting, self.redacting)

    def archive(
        self,
        *,
        days_old: int | None = None,
        platforms: Sequence[str] = (),
        dry_run: bool = False,
        actor: str = "",
        progress: Progress | None = None,
    ) -> ArchiveReport:
        """Move old records into the archive; see :func:`tracemill.store.keeping.run_archive`."""
        report = run_archive(self.store, days_old=days_old, platforms=platforms, dry_run=dry_run, progress=progress)
        write_log(self.path, report)
        if not dry_run:
            self.audit("archive.run", actor=actor, records=report.records, objects=len(report.objects))
        return report

    def verify_archive(self, progress: Progress | None = None) -> list[str]:
        """What is wrong with the archive's objects, one sentence each. Reads all of them."""
        if not self.store.archived_files():
            return []
        from tracemill.store.resealing import verify_objects  # noqa: PLC0415 - heavy, and an optional part

        return verify_objects(self.store, progress)

    def compact_archive(self, progress: Progress | None = None) -> int:
        """Merge the archive's small objects; returns how many became part of a larger one."""
        return compact(self.store, progress)

    def restore_archive(
        self,
        *,
        platforms: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        actor: str = "",
        progress: Progress | None = None,
    ) -> int:
        """Bring objects back into the database: those of some platforms, with records between two moments."""
        from tracemill.store.resealing import restore  # noqa: PLC0415 - heavy, and an optional part

        wanted = [
            file
            for file in self.store.archived_files()
            if (not platforms or file.platform in platforms)
            and (since is None or file.last_time >= microseconds(since))
            and (until is None or file.first_time < microseconds(until))
        ]
        done = 0
        for file in wanted:
            done += restore(self.store, file)
            if progress is not None:
                progress("restoring", done, sum(each.records for each in wanted))
        self.audit("archive.restore", actor=actor, records=done, objects=len(wanted))
        return done

    def search(self, text: str, where: Filter | None = None, *, limit: int = 100) -> list[tuple[int, AnyRecord]]:
        """Records that hold a text, in both tiers; see :mod:`tracemill.store.search`."""
        return self.store.search(text, where, limit=limit)

    def pseudonym(self, user: str) -> tuple[str, frozenset[str]]:
        """The pseudonym of a person given by it or by the id the application knows, and that id if it was given."""
        if re.fullmatch("[0-9a-f]{64}", user):
            return user, frozenset()
        return load_pseudonymizer(self.path).user(user).pseudonym, frozenset([user])

    def erase(
        self,
        kind: SubjectKind,
        value: str,
        *,
        reason: str = "",
        actor: str = "",
        progress: Progress | None = None,
    ) -> Receipt:
        """Erase a person, an interaction or a conversation everywhere; see :mod:`tracemill.privacy.erase`.

        A person is given by the id the application knows, or by the pseudonym.
        """
        raw: frozenset[str] = frozenset()
        if kind == "user":
            value, raw = self.pseudonym(value)
        actor = actor or local_actor()
        return self.erasing.erase(kind, value, actor=actor, reason=reason, raw=raw, progress=progress)

    def person(self, user: str) -> User:
        """A person given by the id the application knows, or by their pseudonym."""
        if re.fullmatch("[0-9a-f]{64}", user):
            return User(pseudonym=user, key_id=load_pseudonymizer(self.path).key_id)
        return load_pseudonymizer(self.path, keep_raw=self.settings.keep_raw_user_ids).user(user)

    def preview_erasure(self, kind: SubjectKind, value: str) -> tuple[Found, dict[str, int]]:
        """What :meth:`erase` would remove, by type, and how much of it each place has. Changes nothing."""
        raw: frozenset[str] = frozenset()
        if kind == "user":
            value, raw = self.pseudonym(value)
        return self.erasing.eraser.preview(kind, value, raw)

    def place_hold(self, kind: HoldKind, value: str, *, reason: str, actor: str = "") -> LegalHold:
        """Forbid erasure and removal of what a hold names, until it is released."""
        if kind == "user":
            value, _ = self.pseudonym(value)
        elif kind == "conversation":
            value = self.redacting.link(value)
        moment = microseconds(now())
        hold = LegalHold(
            id=new_id(), kind=kind, value=value, reason=reason, actor=actor or local_actor(), placed=moment
        )
        with self.store.exclusive() as connection:
            put_hold(connection, hold)
        self.audit("hold.place", hold.id, actor=actor, kind=kind, reason=reason)
        return hold

    def release_hold(self, identity: str, *, actor: str = "") -> LegalHold:
        """Release a hold; what it deferred is carried out by the next maintenance. Raises ErasureError for none."""
        found = [hold for hold in self.erasing.eraser.holds() if hold.id == identity and not hold.released]
        if not found:
            raise ErasureError(f"there is no standing hold {identity!r}", hint="`tracemill hold list` shows them.")
        released = msgspec.structs.replace(found[0], released=microseconds(now()))
        with self.store.exclusive() as connection:
            put_hold(connection, released)
        self.audit("hold.release", identity, actor=actor)
        return released

    def holds(self) -> list[LegalHold]:
        """Every legal hold, released ones too."""
        return self.erasing.eraser.holds()

    def open_erasures(self) -> list[ErasureRequest]:
        """Erasures that are not done: cut off, or deferred by a hold."""
        return self.erasing.eraser.open_requests()

    @property
    def receipts_path(self) -> Path:
        """The folder of the receipts."""
        return self.path / RECEIPTS

    def rebuilt(self, receipt: Receipt) -> dict[str, str]:
        """The dataset versions that lost their rows to an erasure, each with the one built in its place, if any."""
        stones = ((version.reference, version.tombstone) for version in self.datasets())
        return {name: stone.replaced_by for name, stone in stones if stone is not None and stone.receipt == receipt.id}

    def receipt_holds(self, receipt: Receipt) -> bool:
        """Whether a receipt is as this workspace signed it."""
        return receipt_holds(receipt, self.signer)

    def export_person(self, user: str, *, actor: str = "") -> Iterator[AnyRecord]:
        """As :meth:`person_records`, noted in the audit log."""
        value, _ = self.pseudonym(user)
        self.audit("person.export", person_hash(value), actor=actor)
        return self.person_records(user)

    def person_records(self, user: str) -> Iterator[AnyRecord]:
        """Everything that belongs to a person, for handing it to them (portability), oldest first."""
        value, _ = self.pseudonym(user)
        ids = self.erasing.eraser.belonging("user", value).ids
        chunks = (self.store.get_many(ids[start : start + 500]) for start in range(0, len(ids), 500))
        times = {record.id: record.time for chunk in chunks for record in chunk.values()}
        ordered = sorted(times, key=lambda identity: (times[identity], identity))
        for start in range(0, len(ordered), 500):
            chunk = self.store.get_many(ordered[start : start + 500])
            yield from (chunk[identity] for identity in ordered[start : start + 500] if identity in chunk)

    def maintain(self, *, actor: str = "", progress: Progress | None = None) -> Maintained:
        """Open erasures, retention and the archive, in this order: for cron. Raises TracemillError."""
        self.consenting.agree()
        done = maintain(self.store, self.erasing, progress)
        write_log(self.path, done.archive)
        self.audit("maintain", actor=actor, **done.to_plain())
        return done

    def note_model(self, reference: str, name: str, *, path: str = "") -> TrainedModel:
        """Remember that a model was trained on a dataset version, so that erasure can name it."""
        version = self.dataset(reference)
        model = TrainedModel(
            name=name, dataset=version.reference, manifest_sha256=version.manifest_sha256, trained=now(), path=path
        )
        write_models(self.path / MODELS, [*self.models(), model])
        self.audit("model.note", name, dataset=version.reference)
        return model

    def models(self) -> list[TrainedModel]:
        """The models that are remembered, oldest first."""
        return read_models(self.path / MODELS)

    def write_gepeto(self, to: Path, *, platform: str | None = None) -> int:
        """Write the records as a Gepeto tree of JSON files; returns how many."""
        platforms = () if platform is None else (platform,)
        return write_tree(self.store.scan(Filter(platforms=platforms)), to)


def local_actor() -> str:
    """Who runs a command here, for the audit log."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container may run as a number that has no name
        return f"uid {os.getuid()}@{socket.gethostname()}"
