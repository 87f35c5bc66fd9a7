"""The main job from one end to the other, with counts and times: what `tracemill demo` runs.

Nothing here is for show: the sample goes through the collector, the spool and the background delivery as an application's
calls would, and everything after that is done by the same :class:`~tracemill.workspace.Workspace` the commands use.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from tracemill.collector import DataCollector
from tracemill.core.errors import DeliveryError
from tracemill.core.examples import EXAMPLE_TYPES
from tracemill.core.ids import monotonic
from tracemill.core.settings import load_settings
from tracemill.dataset.recipe import load_recipe
from tracemill.dataset.version import Version
from tracemill.demo.replay import replay
from tracemill.drawing import wording
from tracemill.workspace import Workspace

EXPORTS = {"openai-chat": "supervised", "trl-dpo": "preference", "trl-kto": "labelled"}
"""Formats in the order in which they are tried, with the examples they are made of; the demo writes two."""
REPORT, RECIPE = "report.html", "recipe.yaml"
_DELIVERY_SECONDS = 60.0
_ALONE: dict[str, Any] = {"database": "", "gepeto_path": "", "enabled": True, "raise_errors": "always"}
"""Settings of the demo, whatever the environment says: it must not write its sample among anybody's records."""
Say = Callable[[str], None]


@dataclass(slots=True)
class Stage:
    """One line of the table: what happened, how many records or rows it was about, how long it took."""

    name: str
    what: str
    count: int
    seconds: float


@dataclass(slots=True)
class Demo:
    """Everything the demo did: its folder, stages, the files it made with a word on each, and commands to try next."""

    workspace: str
    stages: list[Stage] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    next: list[tuple[str, str]] = field(default_factory=list)


def run_demo(folder: Path, source: tuple[str, Path] | None = None, *, say: Say) -> dict[str, Any]:
    """Run the main job on the sample, or on a file of a format that can be imported, in a folder of its own.

    A folder that holds anything already is left alone, and one with a number behind its name is taken. Returns what
    happened as plain data. Raises what the stages raise; running it again is safe.
    """
    return _Run(_unused(folder), source, say).run()


def _unused(folder: Path) -> Path:
    number, found = 1, folder
    while found.exists() and any(found.iterdir() if found.is_dir() else [found]):
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found


class _Run:
    def __init__(self, folder: Path, source: tuple[str, Path] | None, say: Say) -> None:
        self.folder, self.source, self.say = folder, source, say
        self.demo = Demo(str(folder))
        self.exported: list[str] = []
        self._began = monotonic()

    def run(self) -> dict[str, Any]:
        start = monotonic()
        self.say(f"The main job, from one end to the other, in {self.folder}\n")
        self.say(f"{'stage':<9} {'what happened':<80} {'seconds':>7}")
        if self.source is None:
            self._capture()
        with Workspace.open(settings=load_settings({**_ALONE, "workspace": str(self.folder)})) as workspace:
            if self.source is not None:
                self._import(workspace, *self.source)
            self._store(workspace)
            version = self._dataset(workspace)
            self._export(workspace, version)
            self._report(workspace)
        self.say(f"{'in all':<90} {monotonic() - start:7.2f}")
        self._name_files()
        self._suggest(version)
        return asdict(self.demo)

    def _done(self, name: str, what: str, count: int, seconds: float | None = None) -> None:
        stage = Stage(name, what, count, monotonic() - self._began if seconds is None else seconds)
        self.demo.stages.append(stage)
        self.say(f"{name:<9} {what:<80} {stage.seconds:7.2f}")
        self._began = monotonic()

    # -- stages

    def _capture(self) -> None:
        with DataCollector(**_ALONE, base_path=self.folder) as collector:
            done = replay(collector)
            collector.flush(_DELIVERY_SECONDS)
            self._done(
                "capture",
                f"{done.interactions} interactions of {len(done.platforms)} applications in {done.calls} calls",
                done.interactions,
            )
            delivered = collector.deliver(_DELIVERY_SECONDS)
            counts = collector.counts()
            dropped = sum(counts.dropped.values())
            if not delivered:
                raise DeliveryError(
                    f"{counts.spooled + counts.queued:,} records are still in the spool",
                    hint=f"`tracemill --workspace {self.folder} deliver` stores them; nothing is lost.",
                )
            self._done(
                "deliver",
                f"{counts.stored} of {counts.captured} records from the spool into the store, {dropped} dropped",
                counts.stored,
            )

    def _import(self, workspace: Workspace, format: str, path: Path) -> None:  # noqa: A002 - the word for it everywhere
        report = workspace.import_files(format, [path])
        kinds = ", ".join(wording.records(tag, number) for tag, number in sorted(report.by_type.items()))
        self._done("import", f"{path.name}: {kinds or 'nothing new'}, {report.rejected} rejected", report.stored)

    def _store(self, workspace: Workspace) -> None:
        problems = workspace.store.verify()
        rows = workspace.store.daily()
        number, raw = sum(row.records for row in rows), sum(row.raw_bytes for row in rows)
        database = sum(file.stat().st_size for file in self.folder.glob("store.db*"))
        state = "all sound" if not problems else f"{len(problems)} problems, see `tracemill doctor`"
        self._done(
            "store",
            f"{number} records read back, {state}; {wording.size(raw)} in a file of {wording.size(database)}",
            number,
        )

    def _dataset(self, workspace: Workspace) -> Version:
        """Read, signal and compare are the signals' time; writing the version is the dataset's."""
        recipe = self.folder / RECIPE
        with as_file(files("tracemill.demo") / "sample" / RECIPE) as shipped:
            shutil.copyfile(shipped, recipe)
        signalled = self._began

        def progress(stage: str, _done: int, _total: int | None) -> None:
            nonlocal signalled
            if stage in ("read records", "compare trials"):
                signalled = monotonic()

        version = workspace.build_dataset(load_recipe(recipe), progress=progress).version
        by_type: Counter[str] = Counter()
        for types in version.manifest.examples.values():
            by_type.update(types)
        seconds = monotonic() - signalled
        found = ", ".join(f"{by_type[tag]} {tag.replace('_', ' ')}" for tag in EXAMPLE_TYPES if by_type[tag])
        self._done("signals", f"examples: {found or 'none'}", by_type.total(), signalled - self._began)
        splits = ", ".join(f"{version.count(split)} {split}" for split in version.splits())
        records = version.manifest.records_read
        self._done(
            "dataset", f"{version.reference} of {records} records: {splits}, no user or task in both", records, seconds
        )
        self.demo.files.append((str(version.path / "manifest.json"), "names every record the version came from"))
        return version

    def _export(self, workspace: Workspace, version: Version) -> None:
        self.exported = [name for name, tag in EXPORTS.items() if version.count(type=tag)][:2]
        for name in self.exported:
            report = workspace.export(version.reference, name)
            rows = ", ".join(f"{number} {split}" for split, number in report.manifest.rows.items())
            left = sum(report.manifest.refused.values())
            also = f"; {left} that the format cannot hold" if left else ""
            self._done("export", f"{name}: {rows} rows, each read back and checked{also}", report.rows)
            self.demo.files.append((str(report.path), f"{report.rows} rows for {_TRAINERS[name]}"))

    def _report(self, workspace: Workspace) -> None:
        statistics = workspace.write_report(self.folder / REPORT)
        self._done(
            "report", f"success {wording.outcome(statistics.outcomes.succeeded)}", statistics.outcomes.interactions
        )
        self.demo.files.insert(0, (str(self.folder / REPORT), "statistics with charts; open it in a browser"))

    # -- what to do with it

    def _name_files(self) -> None:
        self.demo.files.append((str(self.folder / RECIPE), "how the dataset was made; change it and build again"))
        width = max(len(path) for path, _ in self.demo.files)
        self.say("\nFiles")
        for path, what in self.demo.files:
            self.say(f"  {path:<{width}}  {what}")

    def _suggest(self, version: Version) -> None:
        another = "trl-kto" if "trl-kto" not in self.exported else "trajectory-preference"
        at = f"{_command()} --workspace {shlex.quote(str(self.folder))}"
        self.demo.next = [
            (f"{at} stats", "the report in the terminal"),
            (f"{at} dataset show {version.name}", "what the version holds, what was left out and why"),
            (f"{at} export {version.name} --format {another}", "the same version for another trainer"),
        ]
        width = max(len(command) for command, _ in self.demo.next)
        self.say("\nNext")
        for command, what in self.demo.next:
            self.say(f"  {command:<{width}}  {what}")


def _command() -> str:
    """How to call tracemill from here, also where its environment is not activated."""
    installed = Path(sys.executable).with_name("tracemill")
    if shutil.which("tracemill") is not None or not installed.exists():
        return "tracemill"
    nearby = os.path.relpath(installed)
    return shlex.quote(str(installed) if nearby.startswith("..") else nearby)


_TRAINERS = {
    "openai-chat": "supervised fine-tuning in the OpenAI format",
    "trl-dpo": "TRL's DPOTrainer",
    "trl-kto": "TRL's KTOTrainer",
}
