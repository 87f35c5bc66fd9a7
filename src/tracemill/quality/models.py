"""Models a caller has on disk, for rewording and for judging what was reworded: read by path, never fetched.

They run through transformers, which is imported when a model is first used (``pip install 'tracemill[models]'``). What they say
is as repeatable as their arithmetic: greedy, without sampling, but another processor may round otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tracemill.core.errors import SettingError

_LETTERS = re.compile(r"[^\W\d_]+")
CANDIDATES = 10
"""Likeliest words of a masked language model that a replacement is drawn from."""
LONGEST = 512
"""Tokens of a text that a model is given at most; a longer text is not reworded."""


def _transformers() -> Any:
    if find_spec("transformers") is None or find_spec("torch") is None:
        raise SettingError(
            "models of one's own need transformers and torch, which are not installed",
            hint="Install them with: pip install 'tracemill[models]'",
        )
    import transformers  # noqa: PLC0415 - heavy, and an optional part

    return transformers


def _load(kind: str, path: Path) -> tuple[Any, Any]:
    """Tokenizer and model of a folder, ready to answer. Raises SettingError when it holds none."""
    library = _transformers()
    if not path.is_dir():
        raise SettingError(f"there is no model at {path}", hint="Give the folder of a model that transformers saved.")
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        model = getattr(library, kind).from_pretrained(str(path), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise SettingError(f"{path} holds no model that can be used: {error}") from error
    return tokenizer, model.eval()


class MaskedModel:
    """A masked language model (BERT and its kin): which words it would put in the place of one."""

    def __init__(self, path: Path) -> None:
        self._tokenizer, self._model = _load("AutoModelForMaskedLM", path)
        if self._tokenizer.mask_token is None:
            raise SettingError(f"the tokenizer of {path} has no mask", hint="Give a masked language model.")

    def candidates(self, before: str, word: str, after: str) -> list[str]:
        """The likeliest words, in lower case, between two texts in the place of ``word``, which is none of them.

        Empty when the text is too long for the model.
        """
        import torch  # noqa: PLC0415 - heavy, and an optional part

        encoded = self._tokenizer(f"{before}{self._tokenizer.mask_token}{after}", return_tensors="pt")
        ids = encoded["input_ids"]
        places = (ids[0] == self._tokenizer.mask_token_id).nonzero()
        if len(places) != 1 or ids.shape[1] > min(LONGEST, _room(self._model)):
            return []
        with torch.no_grad():
            scores = self._model(**encoded).logits[0, int(places[0, 0])]
        found: list[str] = []
        for number in torch.argsort(scores, descending=True, stable=True).tolist():
            if len(found) == CANDIDATES:
                break
            guess = str(self._tokenizer.decode([number])).strip()
            if _LETTERS.fullmatch(guess) and guess.lower() != word.lower() and guess == guess.lower():
                found.append(guess)
        return found


class Translator:
    """A model that turns one language into another (Marian, T5 and their kin)."""

    def __init__(self, path: Path) -> None:
        self._tokenizer, self._model = _load("AutoModelForSeq2SeqLM", path)

    def __call__(self, text: str) -> str | None:
        """The likeliest translation, greedily; None when the text is too long for the model."""
        import torch  # noqa: PLC0415 - heavy, and an optional part

        encoded = self._tokenizer(text, return_tensors="pt")
        if encoded["input_ids"].shape[1] > min(LONGEST, _room(self._model)):
            return None
        known = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        room = min(LONGEST, _room(self._model) - 1, 16 + 2 * encoded["input_ids"].shape[1])
        with torch.no_grad():
            made = self._model.generate(**known, do_sample=False, num_beams=1, max_new_tokens=room)
        return str(self._tokenizer.decode(made[0], skip_special_tokens=True)).strip()


class BackTranslation:
    """Two translators, there and back again."""

    def __init__(self, there: Path, back: Path) -> None:
        self._there, self._back = Translator(there), Translator(back)

    def __call__(self, text: str) -> str | None:
        """The text in other words, or None when it is too long for the models."""
        abroad = self._there(text)
        return self._back(abroad) if abroad else None


class Embedder:
    """A model whose last layer, averaged over the tokens, stands for a text."""

    def __init__(self, path: Path) -> None:
        self._tokenizer, self._model = _load("AutoModel", path)

    def embed(self, text: str) -> list[float]:
        """The embedding, of length 1. What is beyond the model's length is cut off."""
        import torch  # noqa: PLC0415 - heavy, and an optional part

        room = min(LONGEST, _room(self._model))
        encoded = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=room)
        with torch.no_grad():
            states = self._model(**encoded).last_hidden_state[0]
        mean = [float(value) for value in states.mean(dim=0).tolist()]
        length = math.sqrt(math.fsum(value * value for value in mean)) or 1.0
        return [value / length for value in mean]

    def __call__(self, one: str, other: str) -> float:
        """Cosine similarity of two texts, −1 to 1."""
        return _dot(self.embed(one), self.embed(other))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(left * right for left, right in zip(one, other, strict=True))


def _room(model: Any) -> int:
    """How many tokens a model takes; T5 and its kin say no number and take any."""
    room = getattr(model.config, "max_position_embeddings", None)
    return room if isinstance(room, int) and room > 0 else LONGEST
