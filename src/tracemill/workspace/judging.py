"""Judging what is stored: questions to the judge, its answers as feedback records, and their place when somebody is erased.

Scores become feedback of the kind ``score`` with the name ``judge.<measure>``, ``annotator_kind: LLM`` and a value of 0 to 1,
so that statistics, recipes (``scales``, ``trial_score``) and exports read them as any other. A record that was judged once by a
model is not judged by it again, unless the policy it was redacted by is another one; and whoever does not allow the purpose
``evaluate`` is not judged at all: the content goes to another machine (:mod:`tracemill.workspace.judge_view`). Every answer is
kept at once: whatever stops the work, the next run goes on behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from tracemill.core.erasure import Touched
from tracemill.core.errors import RecordError, TracemillError
from tracemill.core.ids import derived_id, now
from tracemill.core.messages import trajectory
from tracemill.core.records import SCHEMA_VERSION, Feedback, Interaction
from tracemill.core.settings import Settings
from tracemill.core.steps import Progress
from tracemill.dataset.redaction import Redacts
from tracemill.feedback.executions import Executions, find_executions
from tracemill.privacy.subject import Subject
from tracemill.quality.judge import (
    RUBRIC,
    Judgement,
    Preference,
    answer_text,
    key_of,
    pairwise,
    pointwise,
    prefer,
    read_judgement,
    read_side,
)
from tracemill.quality.judge_cache import FILE, JudgeCache
from tracemill.quality.judge_client import BudgetSpentError, JudgeClient, Pace
from tracemill.store.base import Filter, Store
from tracemill.workspace.judge_view import JudgeView

PRODUCER = "judge"
NAME = "judge."
PREFERENCE = "judge.preference"
NOT_REDACTED = "redaction_failed"
_Answer: TypeAlias = Judgement | Preference


@dataclass
class JudgeReport:
    """What a run did. ``denied`` belong to people who do not allow ``evaluate``, ``known`` were judged by this model before.

    ``cached`` say what another record says, ``unknown`` counts answers that could not be used, by reason, and ``contradicts``
    pairs for which the order decided. ``spent`` says that the budget ended the run. ``redaction`` is the policy by which
    everything was redacted before it was sent, empty without one; what it could not redact was not sent and is counted in
    ``unknown`` as ``redaction_failed``.
    """

    records: int = 0
    denied: int = 0
    judged: int = 0
    known: int = 0
    cached: int = 0
    written: int = 0
    calls: int = 0
    spent: bool = False
    contradicts: int = 0
    redaction: str = ""
    unknown: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Question:
    """One thing to ask: the records it is about, the bodies of its calls, and how their answers are read."""

    records: tuple[str, ...]
    platform: str
    bodies: tuple[dict[str, Any], ...]
    key: bytes
    read: Callable[[Sequence[str]], _Answer]
    kind: type[Judgement] | type[Preference]


class Judging:
    """One judge over one store. Raises SettingError where none is set up, TargetError for an address that is not allowed."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        store: Store,
        pace: Pace,
        workers: int = 4,
        redactor: Redacts | None = None,
    ) -> None:
        self.client = JudgeClient(settings, pace)
        self.view = JudgeView(store, settings, redactor)
        self._path, self._store, self._workers = path, store, max(1, workers)
        self._report = JudgeReport(redaction=self.view.policy)

    def run(self, *, platform: str | None = None, pairs: bool = False, progress: Progress | None = None) -> JudgeReport:
        """Judge every interaction, or with ``pairs`` every two trials of one task, that this model has not judged yet.

        Raises SettingError when the key or the model is refused, and what the store raises.
        """
        questions = iter(self._pairs(platform) if pairs else self._points(platform))
        with closing(JudgeCache(self._path)) as cache, ThreadPoolExecutor(self._workers) as pool:
            while chunk := list(islice(questions, self._workers)):
                self._judge(chunk, cache, pool)
                self._report.calls = self.client.pace.calls
                if progress is not None:
                    progress("judge pairs" if pairs else "judge records", self._report.records, None)
                if self._report.spent:
                    break
        return self._report

    # -- what to ask

    def _interactions(self, platform: str | None) -> Iterator[Interaction]:
        platforms = () if platform is None else (platform,)
        for record in self._store.scan(Filter(types=("interaction",), platforms=platforms)):
            if isinstance(record, Interaction):
                if self.view.denies(record):
                    self._report.denied += 1
                else:
                    yield record

    def _points(self, platform: str | None) -> Iterator[_Question]:
        executions = find_executions(self._store)
        for record in self._interactions(platform):
            self._report.records += 1
            if self._store.known([self._id(record.id, name) for name in RUBRIC]):
                self._report.known += 1
                continue
            try:
                yield self._point(record, executions)
            except RecordError:
                self._report.unknown[NOT_REDACTED] += 1

    def _point(self, record: Interaction, executions: Executions) -> _Question:
        execution = executions.of(self._store, [record.id]).get(record.id)
        shown, decisions = self.view.one(record, () if execution is None else execution.decisions)
        body = pointwise(trajectory(shown), shown.tools, decisions)
        key = key_of(self.client.model, body, self.view.policy)
        return _Question((record.id,), record.platform, (body,), key, lambda texts: read_judgement(texts[0]), Judgement)

    def _pairs(self, platform: str | None) -> Iterator[_Question]:
        tasks: dict[tuple[str, str], list[str]] = {}
        for record in self._interactions(platform):
            if record.task_id is not None:
                tasks.setdefault((record.platform, record.task_id), []).append(record.id)
        for (name, _), ids in sorted(tasks.items()):
            for pair in combinations(sorted(ids), 2):
                self._report.records += 1
                if self._store.known([self._id(pair[0], "preference", pair[1])]):
                    self._report.known += 1
                    continue
                try:
                    question = self._pair(name, pair)
                except RecordError:
                    self._report.unknown[NOT_REDACTED] += 1
                    continue
                if question is not None:
                    yield question

    def _pair(self, platform: str, pair: tuple[str, str]) -> _Question | None:
        """None where one of the two is gone meanwhile, or may not be judged any more."""
        found = self._store.get_many(pair)
        trials = [one for one in map(found.get, pair) if isinstance(one, Interaction) and not self.view.denies(one)]
        if len(trials) < 2:
            return None
        first, second = map(trajectory, self.view.pair(trials))
        bodies = pairwise(first, second), pairwise(second, first)
        key = key_of(self.client.model, bodies[0], self.view.policy)
        return _Question(pair, platform, bodies, key, _read_pair, Preference)

    # -- asking

    def _judge(self, chunk: Sequence[_Question], cache: JudgeCache, pool: ThreadPoolExecutor) -> None:
        """Ask what is not known yet, all of a chunk at a time, and keep every answer before anything is raised."""
        waiting: list[tuple[_Question, Future[_Answer]]] = []
        for question in chunk:
            if (stored := cache.get(question.key)) is not None:
                cache.use(question.key, question.records)
                self._report.cached += 1
                self._write(question, msgspec.json.decode(stored, type=question.kind), cache)
            else:
                waiting.append((question, pool.submit(self._ask, question)))
        problem: TracemillError | None = None
        for question, future in waiting:
            try:
                answer = future.result()
            except BudgetSpentError:
                self._report.spent = True
                continue
            except TracemillError as error:
                problem = error
                continue
            if answer.unknown:
                self._report.unknown[answer.unknown] += 1
                continue
            cache.put(question.key, answer, question.records)
            self._write(question, answer, cache)
        if problem is not None:
            raise problem

    def _ask(self, question: _Question) -> _Answer:
        texts = []
        for body in question.bodies:
            reply, unknown = self.client.ask(body)
            content, missing = answer_text(reply) if not unknown else ("", unknown)
            if missing:
                return question.kind(unknown=missing)
            texts.append(content)
        return question.read(texts)

    # -- answers as records

    def _id(self, record: str, name: str, *more: str) -> str:
        policy = (self.view.policy,) if self.view.policy else ()
        return derived_id("judge", self.client.model, name, record, *more, *policy)

    def _write(self, question: _Question, answer: _Answer, cache: JudgeCache) -> None:
        """Store an answer. One about somebody who was erased while the judge thought is not kept in the cache either."""
        if isinstance(answer, Judgement):
            made = [
                self._feedback(question, 0, name, score, answer.words[name]) for name, score in answer.scores.items()
            ]
        else:
            value = {"A": 1.0, "tie": 0.5, "B": 0.0}[answer.better]
            made = [self._feedback(question, side, "preference", abs(side - value), answer.better) for side in (0, 1)]
            self._report.contradicts += answer.contradicts
        self._report.judged += 1
        done = self._store.append(made)
        self._report.written += done.stored
        if done.refused:
            cache.forget(question.records)

    def _feedback(self, question: _Question, side: int, name: str, score: float, word: str) -> Feedback:
        record = question.records[side]
        others = tuple(each for each in question.records if each != record)
        extra = {"against": others[0]} if others else {}
        if self.view.policy:
            extra["redaction"] = self.view.policy
        return Feedback(
            id=self._id(record, name, *others),
            time=now(),
            schema_version=SCHEMA_VERSION,
            producer=PRODUCER,
            sequence=0,
            kind="score",
            name=f"{NAME}{name}",
            interaction_id=record,
            platform=question.platform,
            annotator_kind="LLM",
            identifier=self.client.model,
            score=score,
            label=word,
            extra=extra,
        )


def _read_pair(texts: Sequence[str]) -> Preference:
    return prefer(read_side(texts[0]), read_side(texts[1]))


def forget(workspace: Path, records: Iterable[str]) -> int:
    """Remove every answer about some records from the cache of a workspace, if it has one; gives how many."""
    if not (workspace / FILE).exists():
        return 0
    with JudgeCache(workspace) as cache:
        return cache.forget(sorted(records))


class JudgePlace:
    """The judge's cache, as a place that erasure has to reach."""

    name = "judgements"

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace

    def erase(self, subject: Subject) -> Touched:
        """Remove every answer about a record of theirs; safe to run again."""
        gone = forget(self._workspace, subject.ids)
        return Touched(place=self.name, removed={"answers": gone} if gone else {})

    def left(self, subject: Subject) -> int:
        """How many answers about records of theirs there still are."""
        if not (self._workspace / FILE).exists():
            return 0
        with JudgeCache(self._workspace) as cache:
            return cache.count(sorted(subject.ids))
