"""Exports in the hands of LLaMA-Factory's converters and Axolotl's chat template strategy, where they are installed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dataset.support import list_store, tau_bench
from tests.export.test_containers import lines, preferences
from tests.export.test_tokens import some
from tests.export.tokenizers_made import CHATML, save_tokenizer
from tracemill.core.records import AnyRecord
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.export.write import ExportReport, export_version

pytestmark = pytest.mark.filterwarnings("default")  # what those packages say to each other is theirs
ONE_SPLIT = Recipe(name="d", split={"train": 1.0})


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[AnyRecord]:
    return some(list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json")))


def exported(name: str, records: list[AnyRecord], folder: Path, **options: Any) -> ExportReport:
    version = build_version(list_store(records), ONE_SPLIT, folder / "datasets")
    return export_version(version, name, folder / "to", **options)


def converted(report: ExportReport) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row with what LLaMA-Factory makes of it, by the folder's own dataset_info.json."""
    why = "LLaMA-Factory is not installed"
    converter = pytest.importorskip("llamafactory.data.converter", reason=why, exc_type=ImportError)
    parser = pytest.importorskip("llamafactory.data.parser", reason=why, exc_type=ImportError)
    (name,) = json.loads((report.path / "dataset_info.json").read_bytes())
    (described,) = parser.get_dataset_list([name], str(report.path))
    convert = converter.get_dataset_converter(described.formatting, described, SimpleNamespace(media_dir=""))
    return [(row, convert(row)) for row in lines(report, "train")]


@pytest.mark.parametrize("name", ["sharegpt", "sharegpt-preference", "sharegpt-kto"])
def test_llama_factory_converts_every_turn(name: str, real: list[AnyRecord], tmp_path: Path) -> None:
    rows = converted(exported(name, real if name == "sharegpt" else preferences(), tmp_path))
    assert len(rows) > 2
    for row, found in rows:
        turns = [turn["value"] for turn in row["conversations"]]
        said = [message["content"] for message in (*found["_prompt"], *found["_response"])]
        if name == "sharegpt-preference":
            turns += [row["chosen"]["value"], row["rejected"]["value"]]
        elif name == "sharegpt-kto":
            assert said[-1 if row["kto_tag"] else -2] == ""
            said.remove("")
        assert said == turns
        assert (found["_system"], found["_tools"]) == (row["system"], row["tools"])


def test_llama_factory_converts_instructions(tmp_path: Path) -> None:
    rows = converted(exported("alpaca", preferences(), tmp_path))
    assert len(rows) > 2
    for row, found in rows:
        said = [message["content"] for message in (*found["_prompt"], *found["_response"])]
        before = [text for pair in row["history"] for text in pair]
        assert said == [*before, row["instruction"], row["output"]]
        assert found["_system"] == row["system"]


def test_axolotl_tokenizes_every_row_as_it_was_counted(real: list[AnyRecord], tmp_path: Path) -> None:
    why = "Axolotl is not installed"
    module = pytest.importorskip("axolotl.prompt_strategies.chat_template", reason=why, exc_type=ImportError)
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = save_tokenizer(tmp_path / "tokenizer", [json.dumps(getattr(real[0], "messages", ""))], CHATML)
    report = exported("axolotl", real, tmp_path, tokenizer=folder)
    assert report.manifest.tokens is not None
    counts = report.manifest.tokens.splits["train"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    prompter = module.ChatTemplatePrompter(
        tokenizer, chat_template=CHATML, max_length=1_000_000, field_messages="messages"
    )
    strategy = module.ChatTemplateStrategy(
        prompter, tokenizer=tokenizer, train_on_inputs=False, sequence_len=1_000_000, roles_to_train=["assistant"]
    )
    total = 0
    for row in lines(report, "train"):
        found = strategy.tokenize_prompt(row)
        total += len(found["input_ids"])
        learnt = tokenizer.decode([label for label in found["labels"] if label != module.IGNORE_TOKEN_ID])
        for message in row["messages"]:
            if message["role"] == "assistant" and message.get("content"):
                assert message["content"] in learnt
            for call in message.get("tool_calls", ()):
                assert call["function"]["name"] in learnt
    assert total == counts.tokens
