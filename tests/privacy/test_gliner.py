"""Names by a GLiNER model: a tiny one with random weights, made here, which finds something nearly everywhere."""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tracemill.core.errors import SettingError
from tracemill.privacy.detect import Detector
from tracemill.privacy.names import NamedDetector, open_names

WORDS = [f"word{number}" for number in range(100)]
WINDOW = 40
gliner = pytest.mark.skipif(
    find_spec("gliner") is None or find_spec("torch") is None,
    reason="gliner and torch are not installed (pip install 'tracemill[gliner]')",
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of one layer in a folder."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from gliner import GLiNER, GLiNERConfig
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words: Any = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator([" ".join(WORDS)], trainers.WordLevelTrainer(special_tokens=list(special.values())))
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=words, **special)
    backbone = tmp_path / "backbone"
    tokenizer.save_pretrained(backbone)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(backbone)
    made: Any = GLiNER.from_config(
        GLiNERConfig(model_name=str(backbone), hidden_size=32, max_len=WINDOW, max_width=4, num_rnn_layers=0)
    )
    made.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@gliner
def test_a_text_longer_than_the_model_reads_is_looked_at_to_its_end(model: Path) -> None:
    names = open_names(f"gliner:{model}")
    text = " ".join(WORDS)
    found = names.names(text)
    assert names.names(text) == found
    assert {one.kind for one in found} <= {"person_name", "city"}
    assert all(set(text[one.start : one.end].split()) <= set(WORDS) for one in found)  # whole words, in their places
    beginnings = [text[: one.start].count(" ") for one in found]
    assert min(beginnings) < WINDOW < 2 * WINDOW < max(beginnings)


@gliner
def test_its_findings_are_merged_with_those_of_the_rules(model: Path) -> None:
    both = NamedDetector(Detector(threshold=0.3), open_names(f"gliner:{model}"))
    text = "word1 word2 writes to somebody@mail.example"
    found = both.find(text)
    assert ("email", "somebody@mail.example") in [(one.kind, text[one.start : one.end]) for one in found]
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    assert not open_names(f"gliner:{model}").names("")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        open_names(f"gliner:{tmp_path / 'absent'}")
    there = find_spec("gliner") is not None and find_spec("torch") is not None
    assert ("there is no folder" if there else "packages that are not installed") in str(caught.value.message)


@gliner
def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be loaded"):
        open_names(f"gliner:{tmp_path}")
