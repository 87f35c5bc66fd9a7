"""Writing an export: the files of each split, a list of what rows lack, and what the export is.

All files are written beside their place and moved there together (:mod:`tracemill.export.placing`); what an interrupted export
had finished is not written again (:mod:`tracemill.export.resume`). Rows are checked as the
bytes they will be (:mod:`tracemill.export.check`); one that fails is listed and not written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import msgspec

from tracemill.core.errors import ExportError
from tracemill.core.examples import DatasetFile, Example, ExportManifest, Loss
from tracemill.core.steps import Progress
from tracemill.dataset.documents.card import CARD, Config, hub_card
from tracemill.dataset.erase import DRAFT, EXPORT
from tracemill.dataset.files import locked, write_whole
from tracemill.dataset.version import Version
from tracemill.export.check import check_row
from tracemill.export.columns import (
    chosen_columns,
    held_out_names,
    mark_columns,
    parts,
    place_of_mark,
    with_columns,
)
from tracemill.export.containers import CONTAINERS, SplitFiles, is_split_file
from tracemill.export.formats import FORMATS
from tracemill.export.llama_factory import LLAMA_FACTORY, dataset_info
from tracemill.export.losses import Lost, RefusedError
from tracemill.export.placing import drafted, put_in_place
from tracemill.export.resume import LOSSES, Finished, Journal, Losses, key_of
from tracemill.export.rows import Format
from tracemill.export.source import SOURCE, write_source
from tracemill.export.tokenizer import ChatTokenizer
from tracemill.export.tokens import TokenCheck

INFO = "dataset_info.json"
_encode = msgspec.json.Encoder().encode
_REPORT_EVERY = 500


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export gave: its folder, and its manifest with rows, refusals and losses counted.

    ``resumed`` files of rows were there already, of a run that was interrupted.
    """

    path: Path
    manifest: ExportManifest
    resumed: int = 0

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(self.manifest.rows.values())

    def files(self, split: str) -> list[DatasetFile]:
        """The files that hold the rows of a split, in order."""
        return [file for file in self.manifest.files if is_split_file(file.path, [split])]


def export_version(
    version: Version,
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
    withdrawn: Mapping[str, str] | None = None,
) -> ExportReport:
    """Write a version in a format into a folder, by default ``exports/<name>-<version>-<format>`` beside the datasets.

    ``container`` is one of :data:`tracemill.export.containers.CONTAINERS`, its name the folder's last part where it is not
    ``jsonl``; ``shard_bytes`` the bytes of rows after which a split goes on in another file. ``fold`` is the fold held out as
    ``test``, all others are ``train``; ``columns`` are features that rows have too (``all``: all of them). ``tokenizer`` is a
    folder with the tokenizer and the chat template of a model (:mod:`tracemill.export.tokens`): rows are the same with it,
    but are counted, and what the model would not see of them is listed; ``max_tokens`` is where its trainer cuts off.
    ``withdrawn`` are records that may not be used any more, each with the reason: rows they are a source of are refused. The
    same version, format, container, size, fold, columns, tokenizer and withdrawn records give the same bytes.

    Whatever stops it, a KeyboardInterrupt or a kill included, leaves the folder as it was, and the files of rows that were
    finished in its draft: the same call goes on behind them.

    Raises ExportError for a format, container, fold, column or tokenizer that is none, for a version that has no examples the
    format is made of, and for a folder with files that would be taken away and that no export wrote;
    DatasetError when the version is damaged or another process writes the same folder.
    """
    made = FORMATS.get(format)
    if made is None:
        near = get_close_matches(format, FORMATS, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ExportError(f"no format {format!r}", hint=f"{hint}Formats: {', '.join(FORMATS)}.")
    if container not in CONTAINERS:
        raise ExportError(f"no container {container!r}", hint=f"Containers: {', '.join(CONTAINERS)}.")
    if shard_bytes is not None and shard_bytes < 1:
        raise ExportError(f"a shard of {shard_bytes} bytes holds no row", hint="Give a size of at least one byte.")
    tokens = _token_check(made, tokenizer, max_tokens)
    tag = str(made.example.__struct_config__.tag)
    if not version.count(type=tag):
        raise ExportError(f"{version.reference} has no {tag} examples to export as {format}", hint=_instead(version))
    taken = parts(version, fold)
    extra = chosen_columns(version, made, container, columns)
    mark = place_of_mark(version, made, container)
    if to is None:
        ending = ("" if fold is None else f"-fold-{fold}") + ("" if container == "jsonl" else f"-{container}")
        to = version.path.parents[2] / "exports" / f"{version.name}-{version.path.name}-{format}{ending}"
    _check_folder(to, _replaceable(to, version, taken))
    with locked(to, f"exporting {version.reference}"):
        choice = _Choice(
            container, shard_bytes, fold, taken, extra, tokens, mark, mark_columns(version, made, container), tokenizer
        )
        return _Export(version, made, to, choice, progress, withdrawn or {}).run()


def _replaceable(to: Path, version: Version, taken: Mapping[str, Sequence[str]]) -> set[Path]:
    """The files of a folder that an export takes the place of: they would be read as part of it."""
    named = {*version.splits(), *taken, *held_out_names(version)}
    return {
        path
        for path in (to.iterdir() if to.is_dir() else ())
        if path.suffix == ".jsonl" or path.name in (CARD, INFO, SOURCE) or is_split_file(path.name, named)
    }


def _check_folder(to: Path, replaceable: set[Path]) -> None:
    """Raises ExportError where an export would take away files that none wrote. Before the lock, which says that we wrote."""
    if replaceable and not (to / EXPORT).exists() and not (to / DRAFT).exists():
        found = min(path.name for path in replaceable)
        raise ExportError(f"{to} holds {found}, which no export wrote", hint="Give an empty folder, or a new one.")


def _token_check(made: Format, tokenizer: Path | None, max_tokens: int | None) -> TokenCheck | None:
    if max_tokens is not None and (tokenizer is None or max_tokens < 1):
        told = "needs a tokenizer" if tokenizer is None else "has to be one token at least"
        raise ExportError(
            f"a limit of {max_tokens} tokens {told}", hint="Give a tokenizer's folder and a number above 0."
        )
    return None if tokenizer is None else TokenCheck(made, ChatTokenizer(tokenizer), max_tokens)


def _instead(version: Version) -> str:
    counts = {made.name: version.count(type=str(made.example.__struct_config__.tag)) for made in FORMATS.values()}
    there = [f"{name} ({count})" for name, count in counts.items() if count]
    return f"It has examples for: {', '.join(there)}." if there else "It has no examples at all: see its drops."


@dataclass(frozen=True, slots=True)
class _Choice:
    """How an export is asked for. ``parts`` are its splits with the version's splits in each, ``extra`` feature columns,
    ``mark`` says where it stands that a row was made of another, ``marks`` in what columns (:mod:`tracemill.export.columns`).
    """

    container: str
    shard_bytes: int | None
    fold: int | None
    parts: Mapping[str, Sequence[str]]
    extra: Mapping[str, str]
    tokens: TokenCheck | None
    mark: str
    marks: Mapping[str, str]
    tokenizer: Path | None


class _Export:
    """One export, under the lock of its folder."""

    def __init__(
        self,
        version: Version,
        made: Format,
        to: Path,
        choice: _Choice,
        progress: Progress | None,
        withdrawn: Mapping[str, str],
    ) -> None:
        self.tokens = choice.tokens
        self.withdrawn = withdrawn
        self.version, self.made, self.to, self.progress = version, made, to, progress
        self.container, self.shard_bytes, self.choice = choice.container, choice.shard_bytes, choice
        self.tag = str(made.example.__struct_config__.tag)
        self.rows: dict[str, int] = {}
        self.refused: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.done = 0
        self.optional: set[str] = set()

    def run(self) -> ExportReport:
        stale = _replaceable(self.to, self.version, self.choice.parts)
        with drafted(self.to) as draft:
            with Journal(draft, self._key()) as journal:
                self._go_on(journal)
                manifest = self._write(draft, journal)
            put_in_place(self.to, stale)
        return ExportReport(self.to, manifest, len(journal.finished))

    def _key(self) -> str:
        """What tells this export from all that would write other rows, or may not write them any more."""
        choice, version = self.choice, self.version
        erased = version.tombstone is not None
        made = (
            self.made.name,
            choice.container,
            choice.shard_bytes,
            choice.fold,
            choice.parts,
            choice.extra,
            choice.mark,
        )
        tokens = None if self.tokens is None else self.tokens.key
        return key_of(
            [version.reference, version.manifest_sha256, erased, made, tokens, sorted(self.withdrawn.items())]
        )

    def _go_on(self, journal: Journal) -> None:
        """Begin with the counts of the last file that is finished."""
        if journal.finished:
            last = journal.finished[-1]
            self.refused, self.lost = Counter(last.refused), Counter(last.lost)
            self.optional = set(last.optional)
            if self.tokens is not None:
                self.tokens.go_on(last.tokens)

    def _write(self, draft: Path, journal: Journal) -> ExportManifest:
        written: dict[str, list[DatasetFile]] = {}
        for split, sources in self.choice.parts.items():
            if any(self.version.count(source, self.tag) for source in sources):
                written[split] = self._split(draft, split, sources, journal)
        files = [file for shards in written.values() for file in shards]
        written = {split: shards for split, shards in written.items() if self.rows[split]}  # those that can be loaded
        if self.made.name in LLAMA_FACTORY and self.container == "jsonl":
            info = dataset_info(self.version.name, self.made.name, written)
            files.append(write_whole(draft / INFO, msgspec.json.format(_encode(info), indent=2) + b"\n"))
        files.append(journal.losses.kept())
        files.append(write_whole(draft / CARD, self._card(written).encode()))
        manifest = ExportManifest(
            format=self.made.name,
            container=self.container,
            shard_bytes=self.shard_bytes,
            dataset=self.version.name,
            version=self.version.path.name,
            manifest_sha256=self.version.manifest_sha256,
            rows=self.rows,
            refused=dict(sorted(self.refused.items())),
            losses=dict(sorted(self.lost.items())),
            files=sorted(files, key=lambda file: file.path),
            fold=self.choice.fold,
            columns=list(self.choice.extra),
            tokens=None if self.tokens is None else self.tokens.statistics(),
        )
        if self.choice.tokenizer is not None:
            write_source(draft, self.choice.tokenizer)
        write_whole(draft / EXPORT, msgspec.json.format(_encode(manifest), indent=2) + b"\n")
        return manifest

    def _split(self, draft: Path, split: str, sources: Sequence[str], journal: Journal) -> list[DatasetFile]:
        total = self.version.count(type=self.tag)
        columns = {**self.made.columns, **self.made.optional, **self.choice.extra, **self.choice.marks}
        before, finished = self.done, journal.of(split)
        there = [one.file for one in finished]
        if finished:
            self.done += finished[-1].examples
            if finished[-1].whole:
                self.rows[split] = sum(file.rows for file in there)
                self._show(total)
                return there

        def note(file: DatasetFile, last: bool) -> None:
            journal.note(self._so_far(split, file, self.done - before, last, journal.losses))

        examples = self._examples(sources, self.done - before)
        with SplitFiles(draft, split, self.container, columns, self.shard_bytes, finished=there, then=note) as files:
            for example in examples:
                row, lost, refused = self._row(example)
                if row is not None:
                    marked = self.choice.mark == "column"
                    files.write_row(with_columns(row, example, list(self.choice.extra), marked=marked))
                    if self.choice.mark == "lost" and example.augmented is not None:
                        lost.append(Lost("/augmented", "augmented_not_marked", "made of another example"))
                    if self.tokens is not None:
                        lost += self.tokens.look_at(split, row)
                    self.optional.update(name for name in self.made.optional if b'"%s":' % name.encode() in row)
                self._list(split, example, files.rows, lost, refused, journal.losses)
                self.done += 1
                if self.done % _REPORT_EVERY == 0 or self.done == total:
                    self._show(total)
        self.rows[split] = files.rows
        return files.files

    def _examples(self, sources: Sequence[str], after: int) -> Iterator[Example]:
        """The examples of some splits of the version, without the first ones."""
        for source in sources:
            there = self.version.count(source, self.tag)
            passed = min(after, there)
            after -= passed
            yield from self.version.examples(source, self.tag, after=passed)

    def _so_far(self, split: str, file: DatasetFile, examples: int, whole: bool, losses: Losses) -> Finished:
        return Finished(
            split=split,
            file=file,
            examples=examples,
            whole=whole,
            losses=losses.kept(),
            refused=self.refused,
            lost=self.lost,
            optional=sorted(self.optional),
            tokens={} if self.tokens is None else self.tokens.counts,
        )

    def _show(self, total: int) -> None:
        if self.progress is not None:
            self.progress(f"export {self.made.name}", self.done, total)

    def _row(self, example: Example) -> tuple[bytes | None, list[Lost], RefusedError | None]:
        """The line of an example, unless somebody it came from took their consent back since it was built."""
        reason = next((self.withdrawn[source] for source in example.sources if source in self.withdrawn), None)
        if reason is None:
            return make_row(example, self.made)
        return None, [], RefusedError(reason, "a person it came from does not allow it any more")

    def _list(
        self,
        split: str,
        example: Example,
        row: int,
        lost: Sequence[Lost],
        refused: RefusedError | None,
        losses: Losses,
    ) -> None:
        """Write what a row lacks, or why there is none."""
        if refused is not None:
            self.refused[refused.reason] += 1
            loss = Loss(split=split, example=example.id, reason=refused.reason, detail=_printable(refused.detail))
            losses.write_line(_encode(loss))
            return
        for entry in lost:
            self.lost[entry.reason] += 1
            loss = Loss(
                split=split,
                example=example.id,
                row=row,
                path=_printable(entry.path),
                reason=entry.reason,
                detail=_printable(entry.detail),
                call_ids=[_printable(call_id) for call_id in entry.call_ids],
            )
            losses.write_line(_encode(loss))

    def _card(self, written: Mapping[str, Sequence[DatasetFile]]) -> str:
        """A card by which Hugging Face ``datasets`` loads the folder without guessing types.

        Guessed from the rows, messages become structs in which every message has the union of all keys, the missing ones
        null: a chat template would write those nulls out. As ``json`` they are read back as they stand.
        """
        optional = self.made.optional
        unknown = self.container == "tfrecord"  # to `datasets`
        if self.container != "parquet":  # whose files have every column
            optional = {name: kind for name, kind in optional.items() if name in self.optional}
        columns = {**self.made.columns, **optional, **self.choice.extra, **self.choice.marks}
        if self.container == "csv" or unknown:
            columns = {}  # what a cell says is for its reader: `datasets` guesses the types of these
        rows = sum(self.rows.values())
        counts = ", ".join(f"{number:,} {split}" for split, number in self.rows.items())
        files = {split: [file.path for file in shards] for split, shards in written.items()}
        return hub_card(
            f"{self.version.reference} as {self.made.name}",
            rows,
            [] if unknown else [Config("default", files, columns)],
            [
                f"{self.made.summary}. {rows:,} rows: {counts}.",
                "",
                f"Written by tracemill: `{EXPORT}` says from what, `{LOSSES}` lists what the rows do not hold.",
                *(
                    []
                    if unknown
                    else ["Load it with `datasets.load_dataset` on this folder (`datasets` 4.7 or newer)."]
                ),
            ],
            task="sentence-similarity" if self.made.texts else "text-generation",
            tags=[self.made.name],
        )


def make_row(example: Example, made: Format) -> tuple[bytes | None, list[Lost], RefusedError | None]:
    """The line of an example in a format, what it lacks, and why there is no line when there is none."""
    try:
        row, lost = made.row(example)
        data = _encode(row)
    except RefusedError as refused:
        return None, [], refused
    except UnicodeEncodeError:
        return None, [], RefusedError("lone_surrogate", "a text holds half of a surrogate pair, which UTF-8 cannot")
    except (OverflowError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        return None, [], RefusedError("not_json", str(error))
    fault = check_row(data, example, made, lost)
    return (data, lost, None) if fault is None else (None, [], RefusedError(fault.reason, fault.detail))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
