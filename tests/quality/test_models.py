"""Models by path: tiny ones with random weights, made here, whose likeliest word is set by hand. Needs torch."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tracemill.core.errors import SettingError
from tracemill.quality.augment import DataAugmentor
from tracemill.quality.models import CANDIDATES, BackTranslation, Embedder, MaskedModel, Translator

INSTALLED = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("transformers") is not None
needs_torch = pytest.mark.skipif(not INSTALLED, reason="torch and transformers are not installed")
WORDS = (
    *("please", "show", "me", "the", "quick", "fast", "rapid", "way", "to", "change", "my", "address", "in", "Boston"),
    *("5", "not", "hello", "##s", ","),
)
QUESTION = "please show me the quick way to change my address in Boston"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not INSTALLED:
        pytest.skip("torch and transformers are not installed")
    path = tmp_path_factory.mktemp("models")
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        BertConfig,
        BertForMaskedLM,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(1)
    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    plain.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    names = {
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "unk_token": "[UNK]",
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, **names)
    size = {"vocab_size": len(vocabulary), "max_position_embeddings": 40}
    bert = BertForMaskedLM(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, **size)
    )
    bias = bert.cls.predictions.decoder.bias
    for rank, word in enumerate(("Boston", "5", "##s", ",", "fast", "rapid", "quick")):
        bias.data[vocabulary[word]] = 100.0 - rank
    layers = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
              (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip
    ids = {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "forced_eos_token_id": 2,
    }
    bart = BartForConditionalGeneration(BartConfig(d_model=16, **layers, **ids, **size))
    bart.final_logits_bias[0, vocabulary["hello"]] = 1000.0
    for name, model in (("masked", bert), ("bart", bart)):
        model.save_pretrained(path / name)
        tokenizer.save_pretrained(path / name)
    return path


@needs_torch
def test_candidates_are_plain_other_words_likeliest_first(folder: Path) -> None:
    model = MaskedModel(folder / "masked")
    found = model.candidates("please show me the ", "quick", " way")
    assert found[:2] == ["fast", "rapid"]
    assert len(found) <= CANDIDATES
    assert not {"quick", "Boston", "5", ",", "[PAD]"} & set(found)
    assert model.candidates("the " * 50, "quick", " way") == []  # longer than the model can take
    assert model.candidates("the [MASK] ", "quick", " way") == []  # a text with a mask of its own


@needs_torch
def test_words_are_replaced_in_context(folder: Path) -> None:
    augmentor = DataAugmentor(("context",), masked_model=folder / "masked", similarity=0.5, rate=0.2, per_example=4)
    rows = augmentor.augment_llm_data([{"text": QUESTION}])[1:]
    assert rows
    for row in rows:
        before, after = QUESTION.split(), row["text"].split()
        assert len(before) == len(after)
        assert 1 <= sum(one != other for one, other in zip(before, after, strict=True)) <= 2
        assert after[-1] == "Boston"
        assert row["augmented"]["operation"] == "context"
    again = DataAugmentor(("context",), masked_model=folder / "masked", similarity=0.5, rate=0.2, per_example=4)
    assert again.augment_llm_data([{"text": QUESTION}])[1:] == rows


@needs_torch
def test_what_a_translator_garbles_is_refused(folder: Path) -> None:
    there = Translator(folder / "bart")
    said = there(QUESTION)
    assert said is not None
    assert set(said.split()) == {"hello"}
    assert there("the " * 50) is None
    assert BackTranslation(folder / "bart", folder / "bart")(QUESTION) is not None
    augmentor = DataAugmentor(("back_translation",), translation=(folder / "bart", folder / "bart"))
    assert len(augmentor.augment_llm_data([{"text": QUESTION}, {"text": "show me the way"}])) == 2
    assert augmentor.refused == Counter({"back_translation.names_changed": 1, "back_translation.meaning_changed": 1})


@needs_torch
def test_an_embedder_judges_and_embeds(folder: Path) -> None:
    model = Embedder(folder / "masked")
    one = model.embed(QUESTION)
    assert len(one) == 16
    assert math.isclose(math.fsum(value * value for value in one), 1.0)
    assert model(QUESTION, QUESTION) == pytest.approx(1.0)
    assert -1 <= model(QUESTION, "hello") < 1
    assert model.embed("the " * 200)
    augmentor = DataAugmentor(("swap",), embedding_model=folder / "masked", similarity=0.0)
    rows = augmentor.augment_embedding_data([QUESTION], [one])
    assert rows[1]["embedding"] == pytest.approx(model.embed(rows[1]["text"]))
    strict = DataAugmentor(("deletion",), embedding_model=folder / "masked", similarity=1.0)
    assert len(strict.augment_llm_data([{"text": QUESTION}])) == 1
    assert strict.refused == Counter({"deletion.meaning_changed": 1})


@needs_torch
def test_no_model_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    for kind in (MaskedModel, Translator, Embedder):
        with pytest.raises(SettingError, match="no model at"):
            kind(tmp_path / "none")
        with pytest.raises(SettingError, match="no model that can be used"):
            kind(tmp_path)


def test_without_the_packages_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = lambda _: None  # noqa: E731
    monkeypatch.setattr("tracemill.quality.models.find_spec", missing)
    with pytest.raises(SettingError, match="transformers and torch") as raised:
        DataAugmentor(("context",), masked_model=tmp_path).augment_llm_data([{"text": QUESTION}])
    assert "tracemill[models]" in raised.value.hint
