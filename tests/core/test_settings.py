"""Where settings come from, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.settings_page import page
from tracemill.core.errors import SettingError
from tracemill.core.settings import Settings, load_settings, setting_table

ROOT = Path(__file__).resolve().parents[2]


def test_an_argument_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    config = tmp_path / "tracemill.yaml"
    config.write_text("platform: file\nworkspace: file\ndurability: power\n")
    environment = {"TRACEMILL_PLATFORM": "environment", "TRACEMILL_WORKSPACE": "environment"}
    settings = load_settings({"platform": "argument", "workspace": None}, environment=environment, config=config)
    assert (settings.platform, settings.workspace, settings.durability) == ("argument", "environment", "power")
    assert settings.queue_max_records == Settings().queue_max_records


def test_older_names_of_the_environment_are_read() -> None:
    settings = load_settings(environment={"GEPETO_DATA_PATH": "/data", "ENABLE_DATA_COLLECTION": "false"})
    assert (settings.gepeto_path, settings.enabled) == ("/data", False)
    both = {"GEPETO_DATA_PATH": "/old", "TRACEMILL_GEPETO_PATH": "/new"}
    assert load_settings(environment=both).gepeto_path == "/new"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"TRACEMILL_QUEUE_MAX_RECORDS": "many"}, "TRACEMILL_QUEUE_MAX_RECORDS"),
        ({"TRACEMILL_QUEUE_MAX_RECORDS": "0"}, "queue_max_records"),
        ({"TRACEMILL_DURABILITY": "eternal"}, "eternal"),
        ({"TRACEMILL_ENABLED": "perhaps"}, "enabled"),
        ({"TRACEMILL_CONFIG": "/does/not/exist.yaml"}, "does not exist"),
    ],
)
def test_a_wrong_value_names_itself_and_its_place(environment: dict[str, str], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        load_settings(environment=environment)


@pytest.mark.parametrize("content", ["plattform: x", "- a list", "platform: [", "platform: {a: 1}"])
def test_a_wrong_file_is_refused(tmp_path: Path, content: str) -> None:
    config = tmp_path / "tracemill.yaml"
    config.write_text(content)
    with pytest.raises(SettingError):
        load_settings(environment={}, config=config)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    config = tmp_path / "tracemill.yaml"
    config.write_text("")
    assert load_settings(environment={}, config=config) == Settings()


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(SettingError, match="colour"):
        load_settings({"colour": "blue"}, environment={})


def test_every_setting_is_documented_as_it_is() -> None:
    assert all(setting.description for setting in setting_table())
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page(), "run: python scripts/settings_page.py"
