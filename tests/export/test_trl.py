"""Exports in the hands of TRL's own trainers: what they make of the rows is what the export said of them.

Each trainer gets the folder as `datasets` loads it, a tokenizer and a model of a few thousand weights, prepares the rows and
takes one step with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import list_store, tau_bench
from tests.export.test_containers import preferences
from tests.export.test_tokens import some
from tests.export.tokenizers_made import CHATML, MARKED, save_tokenizer
from tracemill.core.examples import TokenCounts
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.export.write import ExportReport, export_version

pytest.importorskip("torch", reason="torch is not installed")
trl = pytest.importorskip("trl", reason="trl is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
datasets = pytest.importorskip("datasets", reason="Hugging Face `datasets` is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # what those packages say to each other is theirs


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets.disable_progress_bars()


def exported(
    name: str, template: str, records: list[AnyRecord], folder: Path, **options: Any
) -> tuple[ExportReport, TokenCounts, Any]:
    """An export, its counts, and the tokenizer as transformers has it."""
    words = [json.dumps(getattr(record, "messages", "")) for record in records[:5]]
    tokenizer = save_tokenizer(folder / "tokenizer", words, template)
    version = build_version(list_store(records), Recipe(name="d", split={"train": 1.0}), folder / "datasets")
    report = export_version(version, name, folder / "to", tokenizer=tokenizer, **options)
    assert report.manifest.tokens is not None
    counts = report.manifest.tokens.splits["train"]
    assert counts.unread == 0
    return report, counts, transformers.AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)


def model(tokenizer: Any, folder: Path) -> Any:
    """A model that was saved and loaded: trainers load it a second time, for reference."""
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
    )
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    return transformers.Qwen2ForCausalLM.from_pretrained(folder / "model", local_files_only=True)


def arguments(kind: Any, folder: Path, **more: Any) -> Any:
    common = {"max_steps": 1, "per_device_train_batch_size": 2, "report_to": [], "use_cpu": True, "bf16": False}
    return kind(
        output_dir=str(folder / "run"), max_length=None, save_strategy="no", disable_tqdm=True, **common, **more
    )


def loaded(report: ExportReport) -> Any:
    return datasets.load_dataset(str(report.path), split="train")


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[AnyRecord]:
    return some(list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json")))[:24]


def prepared(kind: Any, report: ExportReport, tokenizer: Any, args: Any) -> Any:
    """The rows as a trainer prepares them, after a step of training on them."""
    trainer = kind(
        model=model(tokenizer, report.path.parent), args=args, train_dataset=loaded(report), processing_class=tokenizer
    )
    rows = trainer.train_dataset
    trainer.train()
    return rows


def test_sft_learns_what_the_assistant_says(real: list[AnyRecord], tmp_path: Path) -> None:
    report, counts, tokenizer = exported("trl-sft", MARKED, real, tmp_path)
    args = arguments(trl.SFTConfig, tmp_path, assistant_only_loss=True)
    rows = prepared(trl.SFTTrainer, report, tokenizer, args)
    assert len(rows) == report.rows > 2
    assert sum(len(row["input_ids"]) for row in rows) == counts.tokens
    assert sum(label != -100 for row in rows for label in row["labels"]) == counts.loss_tokens
    assert max(len(row["input_ids"]) for row in rows) == counts.longest


@pytest.mark.parametrize("limited", [False, True])
def test_sft_learns_the_completion_within_the_limit(limited: bool, real: list[AnyRecord], tmp_path: Path) -> None:
    limit = None
    if limited:
        _, whole, _ = exported("trl-prompt-completion", CHATML, real, tmp_path / "whole")
        limit = whole.tokens // whole.sequences
    report, counts, tokenizer = exported("trl-prompt-completion", CHATML, real, tmp_path, max_tokens=limit)
    args = arguments(trl.SFTConfig, tmp_path)
    args.max_length = limit
    rows = prepared(trl.SFTTrainer, report, tokenizer, args)
    emptied = report.manifest.losses.get("nothing_to_learn", 0)
    assert len(rows) == report.rows - emptied
    learnt = sum(label != -100 for row in rows for label in row["labels"])
    assert learnt == counts.loss_tokens - counts.cut_loss_tokens
    if limit is None:
        assert sum(len(row["input_ids"]) for row in rows) == counts.tokens
    else:
        assert 0 < emptied < report.rows
        assert counts.over > 0


def test_dpo_parts_at_the_answer(tmp_path: Path) -> None:
    report, counts, tokenizer = exported("trl-dpo", CHATML, preferences(), tmp_path)
    rows = prepared(trl.DPOTrainer, report, tokenizer, arguments(trl.DPOConfig, tmp_path))
    assert len(rows) == report.rows > 5
    answers = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    assert answers == counts.loss_tokens
    assert answers + 2 * sum(len(row["prompt_ids"]) for row in rows) == counts.tokens


def test_kto_takes_prompt_and_completion(real: list[AnyRecord], tmp_path: Path) -> None:
    report, counts, tokenizer = exported("trl-kto", CHATML, real, tmp_path)
    trainer = getattr(trl, "KTOTrainer", None)
    if trainer is None:
        pytest.skip("this TRL has no KTOTrainer")
    rows = prepared(trainer, report, tokenizer, arguments(trl.KTOConfig, tmp_path))
    assert len(rows) == report.rows > 2
    assert sum(len(row["completion_ids"]) for row in rows) == counts.loss_tokens
    assert sum(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows) == counts.tokens
    labels = [json.loads(line)["label"] for line in (report.path / "train.jsonl").read_bytes().splitlines()]
    assert [row["label"] for row in rows] == labels
