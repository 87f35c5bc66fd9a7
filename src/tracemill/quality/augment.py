"""Variations of texts, conversations and training examples: marked, checked for what they mean, the same for the same seed.

Rewordings change what users wrote, never what an assistant answered; scenarios change the circumstances
(:mod:`tracemill.quality.scenarios`). What cannot be varied, or would no longer mean the same, is refused with a reason.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from tracemill.core.errors import SettingError
from tracemill.core.examples import Augmented
from tracemill.core.messages import role, text, tool_calls, written
from tracemill.core.records import Message
from tracemill.quality.meaning import Similarity, changed_facts
from tracemill.quality.models import BackTranslation, Embedder, MaskedModel
from tracemill.quality.rewording import REWORDINGS, Pieces, Rewording, draws, pick, reword, some
from tracemill.quality.scenarios import (
    FAILURES,
    HARMLESS,
    TRANSIENT,
    Edge,
    Fault,
    Made,
    Slots,
    difficulty,
    edge,
    fail,
    graded,
    vary,
)
from tracemill.quality.synonyms import Synonyms
from tracemill.quality.text import words

Operation: TypeAlias = Literal[
    "synonyms",
    "insertion",
    "deletion",
    "swap",
    "context",
    "back_translation",
    "scenario_variation",
    "failure_injection",
    "edge_cases",
    "difficulty_progression",
]
TEXT_OPERATIONS: tuple[Operation, ...] = (*REWORDINGS, "context", "back_translation")
SCENARIOS: tuple[Operation, ...] = ("scenario_variation", "failure_injection", "edge_cases", "difficulty_progression")
OTHER_NAMES: dict[str, Operation] = {
    "synonym_replacement": "synonyms",
    "random_insertion": "insertion",
    "random_deletion": "deletion",
    "random_swap": "swap",
    "context_aware": "context",
    "scenario_variations": "scenario_variation",
    "edge_case_creation": "edge_cases",
}
"""Names that other systems have for some operations; they are taken, rows are marked with ours."""
_TRIES = 3
_EDGES: tuple[Edge, ...] = ("unicode", "very_long", "empty", "tool_gone")
_FAULTS: tuple[Fault, ...] = tuple(FAILURES)


class Variation(Struct, frozen=True, kw_only=True):
    """A conversation that was made, how it is marked, and how similar its texts are to the original's (0 to 1)."""

    made: Made
    augmented: Augmented
    similarity: float = 1.0


class Refused(Struct, frozen=True, kw_only=True):
    """An operation that made nothing. ``reason`` is a stable word."""

    operation: str
    reason: str


class DataAugmentor:
    """Makes variations. Everything it draws is a function of ``seed``, the operation and the source.

    ``operations`` are tried in order, each ``per_example`` times with the seeds ``seed``, ``seed + 1``, …; ``rate`` is the
    share of words that change and ``similarity`` the least that a changed text must have to its original. ``synonyms`` is a
    mapping, or the path of WordNet's folder or of a file; without it ``synonyms`` refuses and ``insertion`` adds fillers.
    ``masked_model``, ``translation`` (there, back) and ``embedding_model`` are folders of models, loaded when first needed.
    ``slots`` and ``distractors`` are for scenarios. ``whole_only`` leaves out what still needs somebody's answer. ``refused``
    counts what was not made. Raises SettingError for operations nobody knows and numbers out of range.
    """

    def __init__(
        self,
        operations: Sequence[str] = ("insertion", "deletion", "swap"),
        *,
        seed: int = 0,
        per_example: int = 1,
        rate: float = 0.1,
        similarity: float = 0.8,
        synonyms: Mapping[str, Sequence[str]] | Path | str | None = None,
        masked_model: Path | str | None = None,
        translation: tuple[Path | str, Path | str] | None = None,
        embedding_model: Path | str | None = None,
        slots: Slots | None = None,
        distractors: Sequence[dict[str, Any]] = (),
        whole_only: bool = False,
    ) -> None:
        operations = [OTHER_NAMES.get(name, name) for name in operations]
        known = (*TEXT_OPERATIONS, *SCENARIOS)
        if unknown := [name for name in operations if name not in known]:
            raise SettingError(f"there is no operation {unknown[0]!r}", hint=f"Known: {', '.join(known)}.")
        if not (0 < rate <= 1 and 0 <= similarity <= 1 and per_example >= 1):
            raise SettingError("rate is above 0 and at most 1, similarity 0 to 1, per_example at least 1")
        self.operations = tuple(operations)
        self.seed, self.per_example, self.rate, self.similarity = seed, per_example, rate, similarity
        given = isinstance(synonyms, (str, Path))
        self._synonyms = Synonyms.load(Path(synonyms)) if given else Synonyms(synonyms)  # type: ignore[arg-type]
        self._paths = masked_model, translation, embedding_model
        self._models: dict[str, Any] = {}
        self._slots, self._distractors, self._whole_only = slots or {}, list(distractors), whole_only
        self.refused: Counter[str] = Counter()

    # -- data as it comes

    def augment_embedding_data(self, texts: Sequence[Any], embeddings: Sequence[Any]) -> list[dict[str, Any]]:
        """Texts with their embeddings as rows (``text``, ``embedding``, ``augmented``), the given ones first, as they are.

        A text that was made has the embedding that ``embedding_model`` gives it, None without one: it is not that of its
        source. Raises SettingError when the lengths differ.
        """
        if len(texts) != len(embeddings):
            raise SettingError(f"there are {len(texts)} texts and {len(embeddings)} embeddings")
        pairs = zip(texts, embeddings, strict=True)
        rows = [{"text": content, "embedding": embedding, "augmented": None} for content, embedding in pairs]
        alike = self._similarity(texts)
        embedder = self._embedder()
        for at, content in enumerate(texts):
            for variation in self._texts(content, str(at), alike):
                new = variation.made.messages[0]["content"]
                embedding = None if embedder is None else embedder.embed(new)
                rows.append({"text": new, "embedding": embedding, "augmented": _plain(variation.augmented)})
        return rows

    def augment_llm_data(self, examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Examples with their variations after them, marked under ``augmented`` and without the ``id`` of the source.

        Examples with ``messages`` (and ``tools``) can be varied by every operation, those with ``prompt``, ``instruction``,
        ``question`` or ``text`` reworded. One that states a ``split`` other than ``train`` is left as it is. A row that ends
        before an answer says what it ``needs``.
        """
        return [*examples, *(row for at, example in enumerate(examples) for row in self._examples(example, str(at)))]

    def _examples(self, example: Any, place: str) -> Iterator[dict[str, Any]]:
        if not isinstance(example, dict):
            self.refused["wrong_type"] += 1
            return
        if example.get("split", "train") != "train":
            self.refused["not_train"] += 1
            return
        source = str(example.get("id", place))
        kept = {key: value for key, value in example.items() if key != "id"}
        messages = example.get("messages")
        if isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
            tools = example.get("tools") if isinstance(example.get("tools"), list) else []
            for variation in self.vary(messages, tools or [], source=source):
                made = variation.made
                changed = {"messages": made.messages, **({"tools": made.tools} if "tools" in example else {})}
                needs = {"needs": made.needs} if made.needs else {}
                yield {**kept, **changed, **needs, "augmented": _plain(variation.augmented)}
            return
        name = next((name for name in ("prompt", "instruction", "question", "text") if name in example), None)
        if name is None:
            self.refused["unknown_shape"] += 1
            return
        for variation in self._texts(example[name], source, self._similarity([example[name]])):
            new = variation.made.messages[0]["content"]
            yield {**kept, name: new, "augmented": _plain(variation.augmented)}

    def _texts(self, content: Any, source: str, alike: Callable[[str, str], float]) -> Iterator[Variation]:
        """Variations of one text, as conversations of one message."""
        if not isinstance(content, str):
            self.refused["wrong_type"] += 1
            return
        for operation in self.operations:
            if operation in TEXT_OPERATIONS:
                yield from self._reworded([{"role": "user", "content": content}], [], operation, source, alike)
            else:
                self.refused["needs_messages"] += 1

    # -- conversations

    def vary(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), *, source: str
    ) -> Iterator[Variation]:
        """Variations of one conversation, by operation and seed. ``source`` names it in their marks and in the draws."""
        alike = self._similarity([text(message) for message in messages])
        for operation in self.operations:
            if operation in TEXT_OPERATIONS:
                yield from self._reworded(messages, tools, operation, source, alike)
            else:
                yield from self._scenarios(messages, tools, operation, source)

    def _reworded(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]],
        operation: str,
        source: str,
        alike: Callable[[str, str], float],
    ) -> Iterator[Variation]:
        keep = _values_of_calls(messages)
        for seed in range(self.seed, self.seed + self.per_example):
            drawn = draws(seed, operation, source)
            changed, least, reason = [], 1.0, "nothing_to_change"
            for message in messages:
                new: Message | None = None
                if role(message) == "user" and isinstance(content := message.get("content"), str):
                    found = self._one_text(content, operation, drawn, keep, alike)
                    if isinstance(found, str):
                        reason = found
                    else:
                        new, least = {**message, "content": found[0]}, min(least, found[1])
                changed.append(message if new is None else new)
            if changed == list(messages):
                self.refused[f"{operation}.{reason}"] += 1
                continue
            mark = Augmented(operation=operation, source=source, seed=seed)
            yield Variation(made=Made(messages=changed, tools=list(tools)), augmented=mark, similarity=least)

    def _one_text(
        self,
        content: str,
        operation: str,
        drawn: random.Random,
        keep: frozenset[str],
        alike: Callable[[str, str], float],
    ) -> tuple[str, float] | str:
        """A text that still means the same with its similarity; else why there is none."""
        reason = "no_synonyms" if operation == "synonyms" and not self._synonyms else "nothing_to_change"
        for _ in range(1 if operation == "back_translation" else _TRIES):
            new = self._change(content, operation, drawn, keep)
            if new is None or not words(new):
                return reason
            if facts := changed_facts(content, new):
                reason = facts[0]
                continue
            similar = alike(content, new)
            if similar >= self.similarity and new != content:
                return new, max(0.0, similar)
            reason = "meaning_changed" if new != content else "nothing_to_change"
        return reason

    def _change(self, content: str, operation: str, drawn: random.Random, keep: frozenset[str]) -> str | None:
        if operation == "back_translation":
            there_and_back: BackTranslation = self._model("translation")
            return there_and_back(content)
        if operation == "context":
            return self._in_context(content, drawn, keep)
        chosen: Rewording = next(name for name in REWORDINGS if name == operation)
        return reword(content, chosen, drawn, rate=self.rate, synonyms=self._synonyms, keep=keep)

    def _in_context(self, content: str, drawn: random.Random, keep: frozenset[str]) -> str | None:
        """The text with words replaced by others that a masked language model finds likely there, one after another."""
        model: MaskedModel = self._model("masked")
        pieces = Pieces.of(content, keep)
        for at in some(drawn, pieces.telling(), max(1, round(self.rate * len(pieces.free)))):
            before, after = "".join(pieces.parts[:at]), "".join(pieces.parts[at + 1 :])
            if found := model.candidates(before, pieces.parts[at], after):
                pieces.parts[at] = found[pick(drawn, len(found))]
        return pieces.text()

    def _scenarios(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], operation: str, source: str
    ) -> Iterator[Variation]:
        if operation == "difficulty_progression":
            found = False
            for made in graded(messages, tools, self._distractors):
                found = True
                level = difficulty(made.messages, made.tools).level
                yield Variation(made=made, augmented=_mark(operation, source, self.seed, level))
            if not found:
                self.refused[f"{operation}.nothing_to_change"] += 1
            return
        for seed in range(self.seed, self.seed + self.per_example):
            drawn = draws(seed, operation, source)
            made_one, name = self._scenario(messages, tools, operation, drawn)
            if made_one is None or (made_one.needs and self._whole_only):
                self.refused[f"{operation}.nothing_to_change"] += 1
                continue
            yield Variation(made=made_one, augmented=_mark(name, source, seed))

    def _scenario(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], operation: str, drawn: random.Random
    ) -> tuple[Made | None, str]:
        if operation == "scenario_variation":
            return vary(messages, tools, self._slots, drawn), operation
        if operation == "failure_injection":
            faults = TRANSIENT if self._whole_only else _FAULTS
            fault = faults[pick(drawn, len(faults))]
            return fail(messages, tools, fault, drawn), f"{operation}.{fault}"
        cases = HARMLESS if self._whole_only else _EDGES
        case = cases[pick(drawn, len(cases))]
        return edge(messages, tools, case, drawn), f"{operation}.{case}"

    # -- models

    def _similarity(self, corpus: Iterable[Any]) -> Callable[[str, str], float]:
        embedder = self._embedder()
        return Similarity(one for one in corpus if isinstance(one, str)) if embedder is None else embedder

    def _embedder(self) -> Embedder | None:
        return None if self._paths[2] is None else self._model("embedding")

    def _model(self, name: str) -> Any:
        if name not in self._models:
            masked, translation, embedding = self._paths
            if name == "masked" and masked is not None:
                self._models[name] = MaskedModel(Path(masked))
            elif name == "translation" and translation is not None:
                self._models[name] = BackTranslation(Path(translation[0]), Path(translation[1]))
            elif name == "embedding" and embedding is not None:
                self._models[name] = Embedder(Path(embedding))
            else:
                needed = "masked_model" if name == "masked" else "translation"
                raise SettingError(f"no {needed} was given", hint="Give the folder of a model of your own.")
        return self._models[name]


def _mark(operation: str, source: str, seed: int, level: int | None = None) -> Augmented:
    return Augmented(operation=operation, source=source, seed=seed, difficulty=level)


def _plain(mark: Augmented) -> dict[str, Any]:
    plain: dict[str, Any] = {"operation": mark.operation, "source": mark.source, "seed": mark.seed}
    return plain if mark.difficulty is None else {**plain, "difficulty": mark.difficulty}


def _values_of_calls(messages: Sequence[Message]) -> frozenset[str]:
    """Every word that stands in the arguments of a tool call: what users said of it must stay as it is."""
    return frozenset(
        word for message in messages for call in tool_calls(message) for word in words(written(call.arguments))
    )
