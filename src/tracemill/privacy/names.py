"""Names of people and places by a model that the user has, beside the rules.

A policy names it: ``names: presidio:en_core_web_lg`` is Presidio's analyzer over a spaCy pipeline that is installed, and
``names: presidio:/models/ours`` over one in a folder; ``names: gliner:/models/ours`` is a GLiNER model in a folder
(:mod:`tracemill.privacy.gliner`). Nothing is downloaded: what is not there is an error. Findings of the model and of the
rules are merged as those of the rules are among themselves: by score, length, place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tracemill.core.errors import SettingError
from tracemill.privacy.detect import Detector, Finding, resolve
from tracemill.privacy.gliner import open_gliner

KINDS = {"PERSON": "person_name", "LOCATION": "city"}
"""What Presidio calls a thing, and what it is here."""
NEEDED = {"presidio": (("presidio_analyzer", "spacy"), "names"), "gliner": (("gliner", "torch"), "gliner")}
"""The packages that each kind of model needs, and the extra that installs them."""
_LONGEST = 100_000
"""Characters a model is given at a time."""
_TAG = re.compile(r"\[[A-Z][A-Z0-9_]{1,40}(?::[0-9a-f]{8,64})?\]")
_HINT = (
    "Write presidio: and the name of an installed spaCy pipeline, or of a folder that holds one; or gliner: and the folder"
    " of a model."
)


class Names(Protocol):
    """Finds names in a text: the same text always gives the same findings. They may overlap."""

    def names(self, text: str) -> list[Finding]:
        """Where names stand, in characters."""


class NamedDetector:
    """The rules and a model together."""

    def __init__(self, rules: Detector, model: Names) -> None:
        self._rules = rules
        self._model = model

    def find(self, text: str) -> list[Finding]:
        """Every finding in a text, by place, none overlapping another.

        Single words are left to the rules: without a sentence around it a model guesses.
        """
        found = self._rules.find(text)
        if " " not in text.strip():
            return found
        tags = [match.span() for match in _TAG.finditer(text)] if "[" in text else []
        more = [
            one
            for one in self._names(text)
            if one.score >= self._rules.threshold and all(one.end <= start or one.start >= end for start, end in tags)
        ]
        return resolve([*found, *more]) if more else found

    def _names(self, text: str) -> Iterator[Finding]:
        for start, end in _pieces(text):
            for one in self._model.names(text[start:end]):
                yield one._replace(start=one.start + start, end=one.end + start)


class PresidioNames:
    """Presidio's analyzer with its recogniser for a spaCy pipeline, and none of its patterns: those are the rules' work."""

    def __init__(self, pipeline: Any) -> None:
        """``pipeline`` is a loaded spaCy pipeline."""
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry  # noqa: PLC0415 - an optional part
        from presidio_analyzer.nlp_engine import SpacyNlpEngine  # noqa: PLC0415
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer  # noqa: PLC0415

        self._language = str(pipeline.lang)
        engine = SpacyNlpEngine(models=[{"lang_code": self._language, "model_name": "given"}])
        engine.nlp = {self._language: pipeline}  # loaded already: by itself the engine would download what is missing
        recogniser = SpacyRecognizer(supported_language=self._language, supported_entities=list(KINDS))
        registry = RecognizerRegistry(recognizers=[recogniser], supported_languages=[self._language])
        self._analyzer: Any = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[self._language])

    def names(self, text: str) -> list[Finding]:
        """See :class:`Names`."""
        clean = text.encode("utf-8", "replace").decode()  # one character for one: no half of a surrogate pair
        found = self._analyzer.analyze(text=clean, language=self._language, entities=list(KINDS))
        return [Finding(KINDS[one.entity_type], one.start, one.end, float(one.score)) for one in found]


@lru_cache(maxsize=4)
def open_names(reference: str) -> Names:
    """The model that a policy names. Raises SettingError where it, or what runs it, is not there."""
    kind, _, model = reference.partition(":")
    if kind not in NEEDED or not model:
        raise SettingError(f"names: {reference!r} is no model for names", hint=_HINT)
    needed, extra = NEEDED[kind]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise SettingError(
            f"names: {reference} needs packages that are not installed: {', '.join(missing)}",
            hint=f"Install them with: pip install 'tracemill[{extra}]'",
        )
    return _open_gliner(Path(model)) if kind == "gliner" else _open_presidio(model)


def _open_gliner(folder: Path) -> Names:
    if not folder.is_dir():
        raise SettingError(f"names: there is no folder {folder}", hint=f"Nothing is downloaded by itself. {_HINT}")
    return open_gliner(folder)


def _open_presidio(model: str) -> Names:
    import spacy  # noqa: PLC0415 - heavy, and an optional part

    if not spacy.util.is_package(model) and not Path(model).is_dir():
        raise SettingError(
            f"names: there is no spaCy pipeline {model!r}, neither installed nor as a folder",
            hint=f"Nothing is downloaded by itself. {_HINT}",
        )
    try:
        pipeline = spacy.load(model)
    except (OSError, ValueError, ImportError) as error:
        raise SettingError(f"names: the spaCy pipeline {model!r} cannot be loaded: {error}", hint=_HINT) from error
    return PresidioNames(pipeline)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of a text that are short enough for a model, cut at blanks where there are any."""
    start = 0
    while len(text) - start > _LONGEST:
        end = max(text.rfind(" ", start, start + _LONGEST), text.rfind("\n", start, start + _LONGEST))
        end = start + _LONGEST if end <= start else end + 1
        yield start, end
        start = end
    yield start, len(text)
