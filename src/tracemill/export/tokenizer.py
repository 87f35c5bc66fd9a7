"""A tokenizer out of a folder: ``tokenizer.json`` and the chat template beside it. Nothing is ever downloaded.

Read are the files of Hugging Face ``transformers``: ``tokenizer.json``, ``tokenizer_config.json``, ``special_tokens_map.json``,
``chat_template.jinja``, ``additional_chat_templates/*.jinja`` and ``chat_template.json``. The package ``tokenizers``, which
does the work in ``transformers`` too, is all that is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tracemill.core.errors import ExportError
from tracemill.export.templates import ChatTemplate

_SAVE = "Give the folder that `AutoTokenizer.from_pretrained(…).save_pretrained(folder)` writes."


class ChatTokenizer:
    """A tokenizer with its chat templates.

    ``sha256`` is the digest of all that figures depend on: the tokenizer, its special tokens and templates. ``special`` are
    the texts that become one special token wherever they stand. Raises ExportError where ``folder`` holds no tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("tokenizers") is None:
            raise ExportError("counting tokens needs the package tokenizers", hint="Install `tracemill[tokens]`.")
        from tokenizers import Tokenizer  # noqa: PLC0415 - an optional part

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ExportError(f"there is no tokenizer.json in {folder}", hint=_SAVE)
        config = _read(folder / "tokenizer_config.json")
        variables = _special_tokens({**_read(folder / "special_tokens_map.json"), **config})
        sources = _templates(folder, config)
        data = path.read_bytes()
        try:
            self._tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:  # the package raises nothing narrower
            raise ExportError(f"{path} is no tokenizer: {error}", hint=_SAVE) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        _add_tokens(self._tokenizer, config, variables)
        added = self._tokenizer.get_added_tokens_decoder().values()
        self.special = sorted(token.content for token in added if token.special)
        self._templates = {name: ChatTemplate(source, variables) for name, source in sources.items()}
        told = json.dumps([variables, sources, sorted((t.content, t.special) for t in added)], sort_keys=True)
        self.sha256 = hashlib.sha256(hashlib.sha256(data).digest() + told.encode()).hexdigest()

    def template(self, *, tools: bool) -> ChatTemplate:
        """The template for conversations with or without tools. Raises ExportError where there is none."""
        names = ("tool_use", "default") if tools else ("default",)
        found = next((self._templates[name] for name in names if name in self._templates), None)
        if found is None:
            raise ExportError("the tokenizer has no chat template", hint="Put a chat_template.jinja into its folder.")
        return found

    def encode(self, text: str, *, special: bool = False) -> Any:
        """The encoding of a text: ``ids`` and ``offsets``. With ``special``, the tokens a model wants around it are added."""
        return self._tokenizer.encode(text, add_special_tokens=special)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ExportError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ExportError(f"{path} is no JSON object")
    return found


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name; files of their own go before what the configuration says."""
    said = _read(folder / "chat_template.json").get("chat_template", config.get("chat_template"))
    if isinstance(said, list):
        found = {str(entry["name"]): str(entry["template"]) for entry in said}
    else:
        found = {} if said is None else {"default": str(said)}
    more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    files = {"default": folder / "chat_template.jinja", **{path.stem: path for path in more}}
    return found | {name: path.read_text(encoding="utf-8") for name, path in files.items() if path.is_file()}


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """``bos_token`` and the like, with their texts."""
    found = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _add_tokens(tokenizer: Any, config: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    """Add what the configuration names as a token and ``tokenizer.json`` does not have."""
    from tokenizers import AddedToken  # noqa: PLC0415 - an optional part

    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    fields = ("lstrip", "normalized", "rstrip", "single_word")
    decoder = config.get("added_tokens_decoder") or {}
    for _, token in sorted(decoder.items(), key=lambda entry: int(entry[0])):
        if token["content"] not in known:
            more = {field: bool(token[field]) for field in fields if field in token}
            tokenizer.add_tokens([AddedToken(token["content"], special=bool(token.get("special")), **more)])
            known.add(token["content"])
    tokenizer.add_special_tokens([text for text in dict.fromkeys(variables.values()) if text not in known])
