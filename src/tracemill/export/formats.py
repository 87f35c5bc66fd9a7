"""The formats by name. How a row of each is made stands in the modules of its family; docs/exports.md shows them.

``openai-chat``, ``openai-preference``
    OpenAI's fine-tuning files. Tool-call arguments are JSON text, as captured; ``parallel_tool_calls`` is true where a message
    calls several tools at once, and absent otherwise.
``trl-sft``, ``trl-prompt-completion``, ``trl-dpo``, ``trl-kto``
    The conversational datasets of TRL. Tool-call arguments are objects, since chat templates write them out as JSON
    themselves. ``reasoning_content`` and ``thinking``, which templates know, stay.
``sharegpt``, ``sharegpt-preference``, ``sharegpt-kto``, ``alpaca``
    What LLaMA-Factory reads, with its ``dataset_info.json`` (:mod:`tracemill.export.llama_factory`).
``axolotl``
    Axolotl's ``type: chat_template``. Arguments are JSON text that means an object, which Axolotl parses.
``gemini``
    Vertex AI's and the Gemini API's contents and parts (:mod:`tracemill.export.gemini`).
``mistral``, ``together``, ``together-preference``
    OpenAI's forms within what these services take: plain text, and Mistral's tool-call ids.
``embedding-pairs``, ``embedding-triplets``
    Texts for sentence-transformers (:mod:`tracemill.export.embeddings`).
``atif``
    Harbor's trajectory documents, with what follows the last answer (:mod:`tracemill.export.atif`).
``trajectory-preference``
    Two whole attempts, everything as captured. No trainer of preferences between answers reads it as it is, and none should.
``next-action``, ``agent-execution``, ``conversation-example``, ``reward``, ``retrieval-pairs``, ``retrieval-triplets``
    What agents did next, as prompt and completion or as documents with context and metadata; scored completions; passages
    that answers used and did not use (:mod:`tracemill.export.agents`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tracemill.core.examples import (
    ActionExample,
    LabelledExample,
    PreferenceExample,
    RetrievalExample,
    RewardExample,
    SupervisedExample,
    TrajectoryPreference,
)
from tracemill.export import agents, atif, chat_services, embeddings, gemini, llama_factory
from tracemill.export.rows import Dialect, Format

_OPENAI_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal"})
_TEMPLATE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking"})
_PLAIN_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
OPENAI = Dialect(_OPENAI_FIELDS)
TRL = Dialect(_TEMPLATE_FIELDS, arguments="object", plain=True)
AXOLOTL = Dialect(_TEMPLATE_FIELDS, arguments="object text", plain=True)
MISTRAL = Dialect(_PLAIN_FIELDS, arguments="object text", plain=True, ids="nine")
TOGETHER = Dialect(_PLAIN_FIELDS, arguments="object text", plain=True)
WITHOUT_IDS = Dialect(_PLAIN_FIELDS, arguments="object", plain=True, ids="order")
ATIF = Dialect(_PLAIN_FIELDS | {"reasoning_content"}, arguments="object", plain=True)
VERBATIM = Dialect(None)

_JSON = "list: json"
_TEXT = "dtype: string"
_TOOLS = {"tools": _JSON}
_TURNS = "list:\n    - name: from\n      dtype: string\n    - name: value\n      dtype: string"
_TURN = "struct:\n    - name: from\n      dtype: string\n    - name: value\n      dtype: string"
_HEAD = {"system": _TEXT, "tools": _TEXT}
_MESSAGES = (("messages",),)
_BOTH_SIDES = (("prompt", "chosen"), ("prompt", "rejected"))

_OPENAI_CHAT = Format(
    name="openai-chat",
    summary="OpenAI fine-tuning: messages and tools",
    example=SupervisedExample,
    dialect=OPENAI,
    sides=("messages",),
    conversations=_MESSAGES,
    columns={"messages": _JSON},
    optional={"tools": _JSON, "parallel_tool_calls": "dtype: bool"},
    marks_parallel_calls=True,
)
_OPENAI_PREFERENCE = Format(
    name="openai-preference",
    summary="OpenAI preference fine-tuning (DPO)",
    example=PreferenceExample,
    dialect=OPENAI,
    sides=("prompt", "chosen", "rejected"),
    conversations=_BOTH_SIDES,
    columns={"input": "dtype: json", "preferred_output": _JSON, "non_preferred_output": _JSON},
    optional={},
    marks_parallel_calls=True,
    fold=chat_services.preference,
    unfold=chat_services.read_preference,
)
_TRL_SFT = replace(
    _OPENAI_CHAT,
    name="trl-sft",
    summary="TRL SFTTrainer: messages and tools",
    dialect=TRL,
    optional=_TOOLS,
    marks_parallel_calls=False,
)
_TRL_PROMPT_COMPLETION = replace(
    _TRL_SFT,
    name="trl-prompt-completion",
    summary="TRL SFTTrainer: the last message is the completion",
    columns={"prompt": _JSON, "completion": _JSON},
    fold=chat_services.prompt_completion,
    unfold=chat_services.read_prompt_completion,
)
_TRL_DPO = Format(
    name="trl-dpo",
    summary="TRL DPOTrainer",
    example=PreferenceExample,
    dialect=TRL,
    sides=("prompt", "chosen", "rejected"),
    conversations=_BOTH_SIDES,
    columns={"prompt": _JSON, "chosen": _JSON, "rejected": _JSON},
    optional=_TOOLS,
)
_TRL_KTO = Format(
    name="trl-kto",
    summary="TRL KTOTrainer",
    example=LabelledExample,
    dialect=TRL,
    sides=("prompt", "completion"),
    conversations=(("prompt", "completion"),),
    columns={"prompt": _JSON, "completion": _JSON, "label": "dtype: bool"},
    optional=_TOOLS,
    values=("label",),
)
_SHAREGPT = replace(
    _OPENAI_CHAT,
    name="sharegpt",
    summary="LLaMA-Factory: ShareGPT turns",
    dialect=WITHOUT_IDS,
    columns={"conversations": _TURNS, **_HEAD},
    optional={},
    marks_parallel_calls=False,
    fold=llama_factory.sharegpt,
    unfold=llama_factory.read_sharegpt,
)
_SHAREGPT_PREFERENCE = replace(
    _TRL_DPO,
    name="sharegpt-preference",
    summary="LLaMA-Factory: ShareGPT turns with two answers (ranking)",
    dialect=WITHOUT_IDS,
    columns={"conversations": _TURNS, "chosen": _TURN, "rejected": _TURN, **_HEAD},
    optional={},
    fold=llama_factory.sharegpt_preference,
    unfold=llama_factory.read_sharegpt_preference,
)
_SHAREGPT_KTO = replace(
    _TRL_KTO,
    name="sharegpt-kto",
    summary="LLaMA-Factory: ShareGPT turns with kto_tag",
    dialect=WITHOUT_IDS,
    columns={"conversations": _TURNS, "kto_tag": "dtype: bool", **_HEAD},
    optional={},
    fold=llama_factory.sharegpt_kto,
    unfold=llama_factory.read_sharegpt_kto,
)
_ALPACA = replace(
    _SHAREGPT,
    name="alpaca",
    summary="LLaMA-Factory: Alpaca instructions, for talk without tools",
    dialect=replace(WITHOUT_IDS, ids="kept"),
    columns={
        **dict.fromkeys(("instruction", "input", "output", "system"), _TEXT),
        "history": "list:\n      list: string",
    },
    fold=llama_factory.alpaca,
    unfold=llama_factory.read_alpaca,
)
_AXOLOTL = replace(_TRL_SFT, name="axolotl", summary="Axolotl: type chat_template", dialect=AXOLOTL)
_GEMINI = replace(
    _SHAREGPT,
    name="gemini",
    summary="Vertex AI and Gemini: contents and parts",
    columns={"contents": _JSON},
    optional={"systemInstruction": "dtype: json", "tools": _JSON},
    fold=gemini.gemini,
    unfold=gemini.read_gemini,
)
_MISTRAL = replace(_TRL_SFT, name="mistral", summary="Mistral fine-tuning", dialect=MISTRAL)
_TOGETHER = replace(_TRL_SFT, name="together", summary="Together fine-tuning", dialect=TOGETHER)
_TOGETHER_PREFERENCE = replace(
    _OPENAI_PREFERENCE,
    name="together-preference",
    summary="Together preference fine-tuning (DPO)",
    dialect=TOGETHER,
    marks_parallel_calls=False,
)
_PAIRS = replace(
    _TRL_SFT,
    name="embedding-pairs",
    summary="sentence-transformers: question and answer",
    columns={"anchor": _TEXT, "positive": _TEXT},
    optional={},
    fold=embeddings.pair,
    texts=True,
)
_TRIPLETS = replace(
    _TRL_DPO,
    name="embedding-triplets",
    summary="sentence-transformers: question, better and worse answer",
    columns={"anchor": _TEXT, "positive": _TEXT, "negative": _TEXT},
    optional={},
    fold=embeddings.triplet,
    texts=True,
)
_ATIF = replace(
    _TRL_SFT,
    name="atif",
    summary="Harbor: ATIF v1.7 documents",
    dialect=ATIF,
    sides=("messages", "tail"),
    conversations=(("messages", "tail"),),
    columns={"schema_version": _TEXT, "trajectory_id": _TEXT, "agent": "dtype: json", "steps": _JSON},
    optional={},
    marked={"extra": "dtype: json"},
    values=("id", "platform", "augmented"),
    ends_with_answer=False,
    fold=atif.atif,
    unfold=atif.read_atif,
)
_TRAJECTORY_PREFERENCE = Format(
    name="trajectory-preference",
    summary="two whole attempts at one task, as captured",
    example=TrajectoryPreference,
    dialect=VERBATIM,
    sides=("chosen", "rejected"),
    conversations=(("chosen",), ("rejected",)),
    columns={
        "chosen": _JSON,
        "rejected": _JSON,
        "shared": "dtype: int64",
        "chosen_score": "dtype: float64",
        "rejected_score": "dtype: float64",
        "rejected_tools": _JSON,
    },
    optional=_TOOLS,
    values=("shared", "chosen_score", "rejected_score", "rejected_tools"),
    ends_with_answer=False,
)
_NEXT_ACTION = Format(
    name="next-action",
    summary="prompt and completion: the state, and the action that was taken",
    example=ActionExample,
    dialect=TRL,
    sides=("prompt", "completion"),
    conversations=(("prompt", "completion"),),
    columns={"prompt": _JSON, "completion": _JSON},
    optional=_TOOLS,
)
_AGENT_EXECUTION = replace(
    _NEXT_ACTION,
    name="agent-execution",
    summary="training_example documents: context, expected output, metadata",
    dialect=VERBATIM,
    columns={"training_example": "dtype: json"},
    optional={},
    values=agents.EXECUTION_VALUES,
    fold=agents.agent_execution,
    unfold=agents.read_agent_execution,
)
_CONVERSATION_EXAMPLE = replace(
    _OPENAI_CHAT,
    name="conversation-example",
    summary="conversation_example documents: messages and metadata",
    dialect=Dialect(_TEMPLATE_FIELDS),
    columns={"conversation_example": "dtype: json"},
    optional={},
    values=agents.CONVERSATION_VALUES,
    marks_parallel_calls=False,
    fold=agents.conversation_example,
    unfold=agents.read_conversation_example,
)
_REWARD = replace(
    _NEXT_ACTION,
    name="reward",
    summary="prompt, completion and the score it got",
    example=RewardExample,
    columns={"prompt": _JSON, "completion": _JSON, "score": "dtype: float64", "score_name": _TEXT},
    values=("score", "score_name"),
)
_RETRIEVAL_PAIRS = Format(
    name="retrieval-pairs",
    summary="sentence-transformers: query and a passage that was used",
    example=RetrievalExample,
    dialect=VERBATIM,
    sides=(),
    conversations=(),
    columns={"anchor": _TEXT, "positive": _TEXT},
    optional={},
    values=("query", "positive", "negative"),
    ends_with_answer=False,
    fold=agents.retrieval_pair,
    unfold=agents.read_retrieval,
)
_RETRIEVAL_TRIPLETS = replace(
    _RETRIEVAL_PAIRS,
    name="retrieval-triplets",
    summary="sentence-transformers: query, a passage that was used, one that was not",
    columns={"anchor": _TEXT, "positive": _TEXT, "negative": _TEXT},
    fold=agents.retrieval_triplet,
)

FORMATS: Mapping[str, Format] = {
    made.name: made
    for made in (
        *(_OPENAI_CHAT, _OPENAI_PREFERENCE, _TRL_SFT, _TRL_PROMPT_COMPLETION, _TRL_DPO, _TRL_KTO),
        *(_SHAREGPT, _SHAREGPT_PREFERENCE, _SHAREGPT_KTO, _ALPACA, _AXOLOTL),
        *(_GEMINI, _MISTRAL, _TOGETHER, _TOGETHER_PREFERENCE, _PAIRS, _TRIPLETS, _ATIF, _TRAJECTORY_PREFERENCE),
        *(_NEXT_ACTION, _AGENT_EXECUTION, _CONVERSATION_EXAMPLE, _REWARD, _RETRIEVAL_PAIRS, _RETRIEVAL_TRIPLETS),
    )
}
"""Formats by name."""
