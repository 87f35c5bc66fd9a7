"""Names of people and places by a GLiNER model in a folder: it is asked for labels in plain words.

GLiNER (Zaratiana et al. 2023) looks at a bounded number of words at a time, so a long text is read in windows that overlap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracemill.core.errors import SettingError
from tracemill.privacy.detect import Finding

LABELS = {"person": "person_name", "city": "city"}
"""What the model is asked for, and what it is here."""
_LEAST = 0.3
"""Findings of less are not looked at, whatever the policy's threshold: the model gives nearly every word some score."""
_OVERLAP = 16
"""Words that two windows have in common: no name is longer."""


class GlinerNames:
    """A loaded model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._most = max(int(model.config.max_len), _OVERLAP + 1)

    def names(self, text: str) -> list[Finding]:
        """Where names stand, in characters; what two windows find is there twice."""
        clean = text.encode("utf-8", "replace").decode()  # one character for one: no half of a surrogate pair
        words = [(start, end) for _, start, end in self._model.data_processor.words_splitter(clean)]
        found: list[Finding] = []
        for first in range(0, max(1, len(words) - _OVERLAP), self._most - _OVERLAP):
            window = words[first : first + self._most]
            if not window:
                break
            begin, end = window[0][0], window[-1][1]
            for one in self._model.predict_entities(clean[begin:end], list(LABELS), threshold=_LEAST):
                place = begin + int(one["start"]), begin + int(one["end"])
                found.append(Finding(LABELS[one["label"]], *place, float(one["score"])))
        return found


def open_gliner(folder: Path) -> GlinerNames:
    """The model in a folder. Raises SettingError when it cannot be loaded; nothing is downloaded."""
    from gliner import GLiNER  # noqa: PLC0415 - heavy, and an optional part

    try:
        model = GLiNER.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SettingError(
            f"names: the GLiNER model in {folder} cannot be loaded: {error}",
            hint="The folder holds gliner_config.json, the weights and the tokenizer, and nothing is downloaded.",
        ) from error
    return GlinerNames(model.eval())
