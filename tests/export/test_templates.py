"""Chat templates and tokenizers: by what is written down, and letter for letter as `transformers` does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.dataset.support import calls, result, says, tau_bench_source
from tests.export.test_consumers import TOOLS
from tests.export.tokenizers_made import CHATML, FORGETFUL, MARKED, STRICT, save_tokenizer
from tracemill.core.errors import ExportError
from tracemill.core.records import Message
from tracemill.dataset.history import split_tail
from tracemill.export import tokenizer as module
from tracemill.export.losses import RefusedError
from tracemill.export.templates import ChatTemplate
from tracemill.export.tokenizer import ChatTokenizer
from tracemill.export.tokens import _inside, _with_objects

TALK = [
    says("system", "be kind"),
    says("user", "é 世 <b> \"x\" & 'y'"),
    _with_objects(calls("f", '{"a": [1, "é"]}', "c1")),
    result("c1", "{}", "f"),
    says("assistant", " done ", reasoning_content="because"),
]


@pytest.fixture(scope="module")
def conversations(shared_data: Path) -> list[list[dict[str, Any]]]:
    source = tau_bench_source(shared_data / "tau_bench_airline_gpt4o.json")
    found = [split_tail(run["traj"])[0] for run in list(source.values())[:20]]
    return [TALK, *([_with_objects(message) for message in messages] for messages in found)]


def test_marks_of_answers_are_found_and_gone() -> None:
    template = ChatTemplate(MARKED, {})
    assert template.marks_answers
    assert not ChatTemplate(CHATML, {}).marks_answers
    rendered = template.render(TALK, TOOLS)
    said = [rendered.text[begin:end] for begin, end in rendered.generated]
    assert said == [
        '<tool_call>{"name": "f", "arguments": {"a": [1, "é"]}}</tool_call><|im_end|>',
        " done <|im_end|>",
    ]
    assert json.dumps(TOOLS, ensure_ascii=False) in rendered.text
    assert not set(rendered.text) & {"\ufdd0", "\ufdd1"}


def test_a_template_that_raises_refuses_the_row() -> None:
    template = ChatTemplate(STRICT, {"eos_token": "!"})
    assert template.render([says("user", "q"), says("assistant", "a")]).text == "user: q!assistant: a!"
    with pytest.raises(RefusedError, match="a conversation begins with the user"):
        template.render([says("assistant", "a")])
    with pytest.raises(RefusedError, match=r"UndefinedError: .*no attribute .content."):
        template.render([says("user", "q"), calls("f", "{}", "c")])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for n in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_templates_run_in_a_sandbox(source: str) -> None:
    with pytest.raises(RefusedError):
        ChatTemplate(source, {}).render([says("user", "q")])


def test_the_clock_stands_still_and_loops_can_end() -> None:
    source = "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ strftime_now('%d %b %Y') }}{% endfor %}"
    assert ChatTemplate(source, {}).render(TALK).text == "26 Jul 2024"


def test_what_is_no_template_is_said() -> None:
    with pytest.raises(ExportError, match="chat template"):
        ChatTemplate("{% for %}", {})


def test_tokens_inside_of_spans() -> None:
    offsets = [(0, 2), (2, 4), (4, 4), (4, 9), (9, 10)]
    assert _inside(offsets, [(2, 4), (9, 10)]) == ([1, 4], 0)
    assert _inside(offsets, [(0, 3)]) == ([0, 1], 1)
    assert _inside(offsets, [(3, 5)]) == ([2, 3], 2)
    assert _inside(offsets, [(5, 5), (6, 9)]) == ([], 1)
    assert _inside(offsets, []) == ([], 0)


# -- folders


def test_a_tokenizer_counts_and_knows_its_special_tokens(tmp_path: Path) -> None:
    made = ChatTokenizer(save_tokenizer(tmp_path, ["hello world"], CHATML))
    assert made.special == ["<|end|>", "<|im_end|>", "<|im_start|>"]
    encoded = made.encode("<|im_start|>hello")
    assert encoded.offsets[0] == (0, len("<|im_start|>"))
    assert "".join("<|im_start|>hello"[begin:end] for begin, end in encoded.offsets) == "<|im_start|>hello"


def test_templates_of_every_place_are_found(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, ["a"], "from the configuration")

    def texts() -> tuple[str, str]:
        made = ChatTokenizer(folder)
        return made.template(tools=False).render([]).text, made.template(tools=True).render([]).text

    assert texts() == ("from the configuration", "from the configuration")
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    config["chat_template"] = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert texts() == ("d", "t")
    (folder / "chat_template.jinja").write_text("file")
    assert texts() == ("file", "t")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ eos_token }}")
    assert texts() == ("file", "<|im_end|>")


def test_the_digest_is_of_the_tokenizer_and_its_template(tmp_path: Path) -> None:
    first = ChatTokenizer(save_tokenizer(tmp_path / "a", ["a"], CHATML)).sha256
    assert ChatTokenizer(save_tokenizer(tmp_path / "b", ["a"], CHATML, as_file=True)).sha256 == first
    assert ChatTokenizer(save_tokenizer(tmp_path / "c", ["a"], MARKED)).sha256 != first
    assert ChatTokenizer(save_tokenizer(tmp_path / "d", ["aba ab ab"], CHATML)).sha256 != first


def broken(folder: Path, name: str, text: str | None) -> Path:
    save_tokenizer(folder, ["a"], CHATML)
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tokenizer.json", None, "no tokenizer.json"),
        ("tokenizer.json", "{}", "is no tokenizer"),
        ("tokenizer_config.json", "{", "is no JSON"),
        ("tokenizer_config.json", "[]", "no JSON object"),
    ],
)
def test_what_is_no_tokenizer_is_said(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=said):
        ChatTokenizer(broken(tmp_path, name, text))


def test_without_a_template_conversations_cannot_be_rendered(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no chat template"):
        ChatTokenizer(save_tokenizer(tmp_path, ["a"], None)).template(tools=False)


def test_without_the_package_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ExportError) as caught:
        ChatTokenizer(tmp_path)
    assert caught.value.hint == "Install `tracemill[tokens]`."


# -- against transformers


def loaded(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


@pytest.mark.parametrize("template", [CHATML, MARKED, FORGETFUL])
@pytest.mark.parametrize("as_file", [False, True])
def test_texts_and_tokens_are_those_of_transformers(
    template: str, as_file: bool, conversations: list[list[dict[str, Any]]], tmp_path: Path
) -> None:
    words = [str(message.get("content")) for messages in conversations for message in messages]
    folder = save_tokenizer(tmp_path, words, template, as_file=as_file)
    theirs, mine = loaded(folder), ChatTokenizer(folder)
    for tools in (TOOLS, []):
        for messages in conversations:
            for prompt in (False, True):
                text = mine.template(tools=bool(tools)).render(messages, tools, prompt=prompt).text
                given: dict[str, Any] = {"tools": tools or None, "add_generation_prompt": prompt}
                assert text == theirs.apply_chat_template(messages, tokenize=False, **given)
                assert list(mine.encode(text).ids) == list(
                    theirs.apply_chat_template(messages, return_dict=True, **given)["input_ids"]
                )


def test_masks_are_those_of_transformers(conversations: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    words = [str(message.get("content")) for messages in conversations for message in messages]
    folder = save_tokenizer(tmp_path, words, MARKED)
    theirs, mine = loaded(folder), ChatTokenizer(folder)
    for messages in conversations:
        rendered = mine.template(tools=True).render(messages, TOOLS)
        learnt, across = _inside(mine.encode(rendered.text).offsets, rendered.generated)
        found = theirs.apply_chat_template(messages, tools=TOOLS, return_dict=True, return_assistant_tokens_mask=True)
        assert learnt == [at for at, bit in enumerate(found["assistant_masks"]) if bit]
        assert across == 0


def test_a_text_cannot_pass_for_what_the_assistant_says() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    forged: list[Message] = [
        {"role": "user", "content": "learn \ufdd0this\ufdd1"},
        {"role": "assistant", "content": "ok"},
    ]
    with pytest.raises(RefusedError, match="U\\+FDD0"):
        ChatTemplate(source, {}).render(forged)
