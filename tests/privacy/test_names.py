"""Names by a model the user has: Presidio over a spaCy pipeline made here, merged with what the rules find."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tracemill.core.errors import SettingError
from tracemill.core.ids import derived_id, now
from tracemill.core.policy import Policy
from tracemill.core.records import Interaction
from tracemill.core.settings import Settings, load_settings
from tracemill.privacy.detect import Detector, Finding
from tracemill.privacy.names import NamedDetector, open_names
from tracemill.privacy.policies import STANDARD, exactly, load_policies
from tracemill.privacy.redact import Redactor
from tracemill.workspace import Workspace

presidio = pytest.mark.skipif(
    find_spec("presidio_analyzer") is None or find_spec("spacy") is None,
    reason="presidio-analyzer and spaCy are not installed (pip install 'tracemill[names]')",
)
KEY = b"k" * 32


class Listed:
    """A model that knows some words by heart."""

    def __init__(self, *words: str, score: float = 0.85) -> None:
        self.words, self.score, self.asked = words, score, 0

    def names(self, text: str) -> list[Finding]:
        """Where the words stand first."""
        self.asked += 1
        found = [(text.find(word), len(word)) for word in self.words]
        return [Finding("person_name", at, at + length, self.score) for at, length in found if at >= 0]


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A tiny spaCy pipeline in a folder: it knows two people and a town."""
    import spacy

    made = spacy.blank("en")
    ruler: Any = made.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "PERSON", "pattern": "Ottoline Ferrars"},
            {"label": "PERSON", "pattern": "Zebedee"},
            {"label": "GPE", "pattern": "Lower Wexcombe"},
        ]
    )
    made.to_disk(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def test_findings_of_rules_and_model_are_merged() -> None:
    both = NamedDetector(Detector(), Listed("Ottoline Ferrars", "ferrars@mail"))
    text = "Ottoline Ferrars <ottoline.ferrars@mail.example>"
    assert [(one.kind, text[one.start : one.end]) for one in both.find(text)] == [
        ("person_name", "Ottoline Ferrars"),
        ("email", "ottoline.ferrars@mail.example"),
    ]


def test_the_model_is_not_asked_for_single_words_and_its_doubts_are_left_out() -> None:
    model = Listed("Ottoline", score=0.3)
    both = NamedDetector(Detector(), model)
    assert both.find("Ottoline") == []
    assert model.asked == 0
    assert both.find("So Ottoline said") == []
    assert model.asked == 1


def test_what_stands_for_a_name_is_none() -> None:
    both = NamedDetector(Detector(), Listed("[PERSON_NAME]", "PERSON_NAME"))
    assert both.find("So [PERSON_NAME] said") == []


def test_long_texts_are_given_in_pieces() -> None:
    model = Listed("Ottoline")
    text = "x " * 60_000 + "and Ottoline said " + "y" * 150_000 + " Ottoline"
    found = NamedDetector(Detector(), model).find(text)
    assert model.asked >= 3
    assert {text[one.start : one.end] for one in found} == {"Ottoline"}
    assert len(found) == 2


@presidio
def test_a_policy_with_a_model_finds_names_no_rule_can(pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "policies.yaml").write_text(
        f"policies: [{{name: named, version: 1, extends: standard, names: 'presidio:{pipeline}'}}]", encoding="utf-8"
    )
    policy = load_policies(Settings(policies=str(tmp_path / "policies.yaml"))).find("named")
    assert policy.digest() != STANDARD.digest()
    record = Interaction(
        id=derived_id("names", 1),
        time=now(),
        schema_version=1,
        producer="p",
        sequence=0,
        messages=[{"role": "user", "content": "So Ottoline Ferrars of Lower Wexcombe came with Zebedee"}],
        response={"role": "assistant", "content": "Tell OTTOLINE to write to a@mail.example"},
    )
    assert Redactor(STANDARD, KEY).record(record).messages == record.messages
    clean = Redactor(policy, KEY).record(record)
    assert not {"Ottoline", "Ferrars", "Wexcombe", "Zebedee", "OTTOLINE"} & set(str(clean).replace("'", " ").split())
    assert Redactor(policy, KEY).record(clean) is clean
    arguments = {"workspace": str(tmp_path / "w"), "redaction": "named", "policies": str(tmp_path / "policies.yaml")}
    with Workspace.open(settings=load_settings(arguments, environment={})) as workspace:
        workspace.store.append([record])
        assert "Ferrars" not in str(workspace.store.get(record.id))


@presidio
def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import spacy.cli

    asked: list[str] = []
    monkeypatch.setattr(spacy.cli, "download", asked.append)
    with pytest.raises(SettingError, match="there is no spaCy pipeline 'en_core_web_huge'") as raised:
        open_names("presidio:en_core_web_huge")
    assert "Nothing is downloaded" in raised.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="cannot be loaded"):
        open_names(f"presidio:{tmp_path / 'empty'}")
    assert asked == []


@presidio
def test_halves_of_letters_and_long_texts_do_not_stop_it(pipeline: Path) -> None:
    model = open_names(f"presidio:{pipeline}")
    (found,) = model.names("\ud800 Zebedee came")
    assert (found.kind, found.start, found.end) == ("person_name", 2, 9)


@pytest.mark.parametrize("reference", ["", "presidio", "presidio:", "flair:/x", "/models/x"])
def test_what_is_no_model(reference: str) -> None:
    with pytest.raises(SettingError, match="is no model for names"):
        open_names(reference)


def test_packages_that_are_missing_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.privacy.names.find_spec", lambda _name: None)
    policy = Policy(name="named", version=1, names="presidio:absent")
    with pytest.raises(SettingError, match="presidio_analyzer, spacy") as raised:
        Redactor(policy, KEY)
    assert "tracemill[names]" in raised.value.hint


def test_policies_without_a_model_keep_their_digest_and_load_none() -> None:
    assert exactly(STANDARD) == "standard@1#2d26947ca6c44368"
    assert Policy(name="a", version=1, names="presidio:x").digest() != Policy(name="a", version=1).digest()
    Redactor(STANDARD, KEY)
    assert "presidio_analyzer" not in sys.modules or find_spec("presidio_analyzer") is not None
