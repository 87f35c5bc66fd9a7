"""Token counts, loss masks and what a template does not show, by hand and over real trajectories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import calls, feedback, interaction, list_store, result, says, tau_bench
from tests.export.test_check import GOOD
from tests.export.test_consumers import TOOLS
from tests.export.test_containers import preferences
from tests.export.tokenizers_made import CHATML, FORGETFUL, MARKED, STRICT, save_tokenizer
from tracemill.core.errors import ExportError
from tracemill.core.examples import ActionExample, ExportManifest, RetrievalExample, RewardExample, TokenCounts
from tracemill.core.records import AnyRecord, Interaction
from tracemill.dataset.build import build_version
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import Version
from tracemill.export.formats import FORMATS
from tracemill.export.tokenizer import ChatTokenizer
from tracemill.export.tokens import TokenCheck, _with_objects
from tracemill.export.write import ExportReport, export_version, make_row

pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")

WORDS = ["the quick brown fox jumps over the lazy dog", "hello there, how may I help you"]


def version_of(records: list[AnyRecord], folder: Path) -> Version:
    return build_version(list_store(records), Recipe(name="d", split={"train": 1.0}), folder / "datasets")


def losses(report: ExportReport) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (report.path / "losses.jsonl").read_bytes().splitlines()]


def reasons(report: ExportReport) -> list[tuple[str, str]]:
    return sorted((loss["reason"], loss.get("path", "")) for loss in losses(report))


def counts(report: ExportReport) -> TokenCounts:
    assert report.manifest.tokens is not None
    (found,) = report.manifest.tokens.splits.values()
    return found


def thought() -> list[AnyRecord]:
    """A conversation in which the assistant thinks, calls a tool, thinks again and answers."""
    call = {**calls("look", '{"at": "the sky"}', "c1"), "reasoning_content": "look up"}
    messages = [says("user", "what colour?"), call, result("c1", "blue", "look")]
    return [
        interaction("one", messages, response=says("assistant", "It is blue.", reasoning_content="so"), success=True)
    ]


def exported(
    records: list[AnyRecord], template: str, folder: Path, name: str = "trl-sft", **options: Any
) -> tuple[ExportReport, ChatTokenizer]:
    tokenizer = save_tokenizer(folder / "tokenizer", WORDS, template)
    version = version_of(records, folder)
    return export_version(version, name, folder / "to", tokenizer=tokenizer, **options), ChatTokenizer(tokenizer)


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_tokens_of_the_loss_are_the_assistants(template: str, tmp_path: Path) -> None:
    talk = [says("user", "hello"), says("assistant", "hi"), says("user", "who?")]
    records: list[AnyRecord] = [interaction("t", talk, response=says("assistant", "the fox"), success=True)]
    report, tokenizer = exported(records, template, tmp_path)
    text = "".join(
        f"<|im_start|>{role}\n{words}<|im_end|>\n"
        for role, words in (("user", "hello"), ("assistant", "hi"), ("user", "who?"), ("assistant", "the fox"))
    )
    end = "<|im_end|>\n" if template == CHATML else "<|im_end|>"
    answers = [f"hi{end}", f"the fox{end}"]
    learnt = sum(len(tokenizer.encode(answer).ids) for answer in answers)
    total = len(tokenizer.encode(text).ids)
    assert counts(report) == TokenCounts(sequences=1, tokens=total, loss_tokens=learnt, longest=total)
    assert report.manifest.tokens is not None
    assert report.manifest.tokens.mask == ("prefix" if template == CHATML else "generation")
    assert report.manifest.tokens.tokenizer_sha256 == tokenizer.sha256
    assert reasons(report) == []


def test_rows_are_the_same_with_a_tokenizer_and_the_manifest_comes_back(tmp_path: Path) -> None:
    report, _ = exported(thought(), CHATML, tmp_path, max_tokens=10)
    plain = export_version(version_of(thought(), tmp_path / "again"), "trl-sft")
    assert (report.path / "train.jsonl").read_bytes() == (plain.path / "train.jsonl").read_bytes()
    manifest = msgspec.json.decode((report.path / "export.json").read_bytes(), type=ExportManifest)
    assert manifest == report.manifest
    assert plain.manifest.tokens is None


def test_reasoning_that_a_template_drops_is_listed(tmp_path: Path) -> None:
    report, _ = exported(thought(), MARKED, tmp_path)
    assert reasons(report) == [
        ("not_rendered", "/messages/1/reasoning_content"),
        ("not_rendered", "/messages/3/reasoning_content"),
    ]


def test_an_answer_whose_history_is_written_anew_is_listed_and_not_learnt(tmp_path: Path) -> None:
    """The template shows reasoning only while it is the last: the first answer is another text once the talk goes on."""
    report, tokenizer = exported(thought(), FORGETFUL, tmp_path)
    assert ("prompt_not_kept", "/messages/1") in reasons(report)
    assert ("prompt_not_kept", "/messages/3") not in reasons(report)
    assert ("not_rendered", "/messages/1/tool_calls/0/function/name") in reasons(report)
    assert ("not_rendered", "/messages/1/tool_calls/0/function/arguments") in reasons(report)
    assert ("not_rendered", "/messages/1/reasoning_content") in reasons(report)
    last = "<think>so</think>It is blue.<|im_end|>\n"
    assert counts(report).loss_tokens == len(tokenizer.encode(last).ids)


def test_tools_that_a_template_does_not_show_are_listed(tmp_path: Path) -> None:
    talk = [says("user", "q")]
    records: list[AnyRecord] = [interaction("t", talk, response=says("assistant", "a"), success=True, tools=TOOLS)]
    assert reasons(exported(records, FORGETFUL, tmp_path / "a")[0]) == [("not_rendered", "/tools/0")]
    assert reasons(exported(records, CHATML, tmp_path / "b")[0]) == []


def test_an_answer_outside_of_the_marks_is_listed(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }};{% generation %}{{ m.role }}{% endgeneration %}"
    template += "{% endfor %}"
    records: list[AnyRecord] = [
        interaction("t", [says("user", "q")], response=says("assistant", "an answer"), success=True)
    ]
    assert reasons(exported(records, template, tmp_path)[0]) == [("not_learnt", "/messages/1/content")]


def test_marks_around_nothing_are_listed(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% generation %}{% endgeneration %}"
    report, _ = exported(thought()[:1], template, tmp_path)
    assert ("nothing_to_learn", "") in reasons(report)
    assert counts(report).loss_tokens == 0


def test_a_token_across_the_bounds_of_an_answer_is_listed(tmp_path: Path) -> None:
    """`the` is one token; the answer begins in the middle of it."""
    template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}"
    template += "{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}"
    records: list[AnyRecord] = [
        interaction("t", [says("user", "th")], response=says("assistant", "e fox"), success=True)
    ]
    report, tokenizer = exported(records, template, tmp_path)
    assert len(tokenizer.encode("the").ids) == 1
    assert ("token_across_mask", "") in reasons(report)


def test_rows_beyond_the_limit_are_listed_and_written(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        interaction(str(n), [says("user", "q" * n)], response=says("assistant", "hello"), success=True)
        for n in (1, 200)
    ]
    report, tokenizer = exported(records, CHATML, tmp_path, max_tokens=60)
    assert report.rows == 2
    found = counts(report)
    assert (found.sequences, found.over) == (2, 1)
    assert found.cut_tokens == found.longest - 60
    answer = len(tokenizer.encode("hello<|im_end|>\n").ids)
    assert (found.loss_tokens, found.cut_loss_tokens) == (2 * answer, answer)
    assert reasons(report) == [("longer_than_limit", ""), ("nothing_to_learn", "")]
    (row,) = {loss["row"] for loss in losses(report)}
    written = [json.loads(line) for line in (report.path / "train.jsonl").read_bytes().splitlines()]
    assert len(written[row - 1]["messages"][0]["content"]) == 200


def test_a_row_that_the_template_refuses_is_written_and_not_counted(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        interaction("a", [says("system", "s"), says("user", "q")], response=says("assistant", "a"), success=True),
        interaction("b", [says("user", "q")], response=says("assistant", "a"), success=True),
    ]
    report, tokenizer = exported(records, STRICT, tmp_path)
    assert report.rows == 2
    (loss,) = losses(report)
    assert loss["reason"] == "template_refuses"
    assert "a conversation begins with the user" in loss["detail"]
    found = counts(report)
    total = len(tokenizer.encode("user: q<|im_end|>assistant: a<|im_end|>").ids)
    assert (found.unread, found.sequences, found.tokens) == (1, 1, total)


def test_control_tokens_in_what_people_say_are_listed(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        interaction("a", [says("user", "now <|im_end|> yes")], response=says("assistant", "a"), success=True)
    ]
    assert reasons(exported(records, CHATML, tmp_path)[0]) == [("control_token_in_text", "/messages/0/content")]


def test_a_completion_is_what_follows_the_prompt(tmp_path: Path) -> None:
    report, tokenizer = exported(thought(), CHATML, tmp_path, "trl-prompt-completion")
    assert counts(report).loss_tokens == len(tokenizer.encode("<think>so</think>It is blue.<|im_end|>\n").ids)
    assert report.manifest.tokens is not None
    assert report.manifest.tokens.mask == "completion"
    assert reasons(report) == []


def test_both_sides_of_a_preference_are_sequences(tmp_path: Path) -> None:
    shared = [says("user", "which?")]
    records: list[AnyRecord] = [
        interaction("a", shared, response=says("assistant", "the dog")),
        feedback("e", "a", kind="edit", correction="the fox"),
    ]
    report, tokenizer = exported(records, CHATML, tmp_path, "trl-dpo", max_tokens=5)
    texts = [
        f"<|im_start|>user\nwhich?<|im_end|>\n<|im_start|>assistant\n{side}<|im_end|>\n"
        for side in ("the fox", "the dog")
    ]
    prompt = len(tokenizer.encode(texts[0].split("the fox")[0]).ids)
    lengths = [len(tokenizer.encode(text).ids) for text in texts]
    found = counts(report)
    assert (found.sequences, found.tokens, found.over) == (2, sum(lengths), 2)
    assert found.loss_tokens == found.cut_loss_tokens == sum(lengths) - 2 * prompt
    assert reasons(report) == [("longer_than_limit", ""), ("nothing_to_learn", "")]


def test_a_prompt_that_an_answer_changes_is_listed(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.content }}{{ loop.length }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    report, _ = exported(thought(), template, tmp_path, "trl-prompt-completion")
    assert ("prompt_not_kept", "/messages/3") in reasons(report)


def test_texts_are_counted_whole(tmp_path: Path) -> None:
    records: list[AnyRecord] = [
        interaction("a", [says("user", "hello")], response=says("assistant", "the fox"), success=True)
    ]
    folder = save_tokenizer(tmp_path / "tokenizer", WORDS, None)
    version = version_of(records, tmp_path)
    report = export_version(version, "embedding-pairs", tokenizer=folder)
    tokenizer = ChatTokenizer(folder)
    both = [len(tokenizer.encode(text).ids) for text in ("hello", "the fox")]
    assert counts(report) == TokenCounts(sequences=2, tokens=sum(both), loss_tokens=sum(both), longest=max(both))
    with pytest.raises(ExportError, match="no chat template"):
        export_version(version, "trl-sft", tokenizer=folder)


def test_a_limit_needs_a_tokenizer(tmp_path: Path) -> None:
    version = version_of(thought(), tmp_path)
    with pytest.raises(ExportError, match="needs a tokenizer"):
        export_version(version, "trl-sft", max_tokens=10)
    with pytest.raises(ExportError, match="one token at least"):
        export_version(version, "trl-sft", tokenizer=tmp_path, max_tokens=0)


def some(records: list[AnyRecord]) -> list[AnyRecord]:
    """The attempts at six tasks, and what was thought of them."""
    chosen = [record for record in records if isinstance(record, Interaction)]
    tasks = sorted({record.task_id for record in chosen if record.task_id})[:6]
    kept = {record.id for record in chosen if record.task_id in tasks}
    return [record for record in records if record.id in kept or getattr(record, "interaction_id", None) in kept]


TAGS = ("supervised", "labelled", "preference", "trajectory_preference")


@pytest.mark.parametrize("name", [name for name, made in FORMATS.items() if made.example.__struct_config__.tag in TAGS])
def test_every_format_is_counted(name: str, shared_data: Path, tmp_path: Path) -> None:
    """With a template that shows everything, nothing is listed for real rows but what the format itself loses."""
    tag = str(FORMATS[name].example.__struct_config__.tag)
    made = tag == "preference" or name in ("alpaca", "sharegpt-kto")
    records = preferences() if made else some(list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json")))
    version = version_of(records, tmp_path)
    folder = save_tokenizer(tmp_path / "tokenizer", WORDS, CHATML)
    plain = export_version(version, name, tmp_path / "plain")
    report = export_version(version, name, tmp_path / "to", tokenizer=folder)
    assert report.rows == plain.rows > 0
    assert report.manifest.losses == plain.manifest.losses
    found = counts(report)
    sides = {"preference": 2, "trajectory_preference": 2}.get(tag, 1)
    texts = {"embedding-pairs": 2, "embedding-triplets": 3}.get(name, sides)
    assert found.sequences == texts * report.rows
    assert 0 < found.loss_tokens <= found.tokens
    assert found.longest <= found.tokens


@pytest.mark.parametrize("name", ["next-action", "agent-execution", "reward", "retrieval-pairs", "retrieval-triplets"])
def test_rows_of_agents_are_counted(name: str, tmp_path: Path) -> None:
    made, example = FORMATS[name], dict(GOOD)[name]
    data, _, refused = make_row(example, made)
    assert data is not None, refused
    folder = save_tokenizer(tmp_path, WORDS, CHATML)
    tokenizer = ChatTokenizer(folder)
    check = TokenCheck(made, tokenizer, None)
    found = {(entry.reason, entry.path) for entry in check.look_at("train", data)}
    counted = check.statistics().splits["train"]
    if isinstance(example, RetrievalExample):
        texts = [example.query, example.positive, example.negative or ""][: len(made.columns)]
        lengths = [len(tokenizer.encode(text).ids) for text in texts]
        assert (counted.sequences, counted.tokens, counted.loss_tokens) == (len(texts), sum(lengths), sum(lengths))
    else:
        assert isinstance(example, (ActionExample, RewardExample))
        whole = [_with_objects(message) for message in [*example.prompt, *example.completion]]
        template = tokenizer.template(tools=True)
        text = template.render(whole, example.tools).text
        prompt = template.render(whole[: len(example.prompt)], example.tools, prompt=True).text
        lengths = [len(tokenizer.encode(part).ids) for part in (prompt, text)]
        assert text.startswith(prompt)
        assert (counted.sequences, counted.tokens, counted.loss_tokens) == (1, lengths[1], lengths[1] - lengths[0])
    assert found == set()
