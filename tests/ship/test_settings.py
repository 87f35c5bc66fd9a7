"""The existing exporter's flags, keys and names mean what they mean there, and no secret is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tracemill.core.errors import SettingError
from tracemill.core.settings import DataCollectorSection, UserDataCollection
from tracemill.ship.settings import ShipSettings, credentials_of, load_ship_settings, shown, token_reader
from tracemill.ship.tokens import OpenShiftCredentials, SsoCredentials

YAML = """
data_dir: "{folder}"
service_id: "service"
ingress_server_url: "https://receiver.example/upload"
ingress_server_auth_token: "token-of-the-file"
identity_id: "unknown"
collection_interval: 300
cleanup_after_send: false
ingress_connection_timeout: 31
retry_interval: 60
allowed_subdirs: ["feedback", "transcripts"]
log_level: "debug"
rich_logs: true
"""


def load(flags: dict[str, Any], tmp_path: Path, text: str = YAML, **environment: str) -> ShipSettings:
    config = tmp_path / "config.yaml"
    config.write_text(text.replace("{folder}", str(tmp_path)))
    return load_ship_settings(flags, environment=environment, config=config)


def test_every_key_of_the_exporter(tmp_path: Path) -> None:
    found = load({}, tmp_path)
    assert (found.data_dir, found.service_id, found.identity_id) == (str(tmp_path), "service", "unknown")
    assert (found.collection_interval, found.retry_interval, found.ingress_connection_timeout) == (300, 60, 31)
    assert (found.cleanup_after_send, found.allowed_subdirs) == (False, ("feedback", "transcripts"))
    assert (found.log_level, found.rich_logs, found.mode) == ("DEBUG", True, "manual")
    assert found.state == tmp_path / ".tracemill-ship"


def test_the_exporters_defaults(tmp_path: Path) -> None:
    flags = {"data_dir": str(tmp_path), "service_id": "s", "ingress_server_url": "https://a.example"}
    found = load_ship_settings(flags, environment={})
    assert (found.collection_interval, found.retry_interval, found.ingress_connection_timeout) == (7200, 300, 30)
    assert (found.cleanup_after_send, found.allowed_subdirs, found.max_package_bytes) == (True, (), 104857600)
    assert found.sso_url == "https://sso.redhat.com/auth/realms/redhat-external/protocol/openid-connect/token"
    assert found.sso_accounts_url == "https://api.openshift.com/api/accounts_mgmt/v1/access_token"
    assert found.kubernetes_url == "https://kubernetes.default.svc:443"
    stage = {"USE_SSO_STAGE": "", "KUBERNETES_SERVICE_HOST": "fd01::1", "KUBERNETES_SERVICE_PORT": "6443"}
    found = load_ship_settings(flags, environment=stage)
    assert found.sso_url.startswith("https://sso.stage.redhat.com/")
    assert found.sso_accounts_url.startswith("https://api.stage.openshift.com/")
    assert found.kubernetes_url == "https://[fd01::1]:6443"


def test_a_flag_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    assert load({}, tmp_path).ingress_server_auth_token == "token-of-the-file"
    environment = {"INGRESS_SERVER_AUTH_TOKEN": "token-of-the-environment"}
    assert load({}, tmp_path, **environment).ingress_server_auth_token == "token-of-the-environment"
    flags = {"ingress_server_auth_token": "token-of-the-flag", "service_id": None}
    assert load(flags, tmp_path, **environment).ingress_server_auth_token == "token-of-the-flag"
    assert load(flags, tmp_path, CLIENT_ID="a", CLIENT_SECRET="b").client_secret == "b"


def test_no_secret_is_shown(tmp_path: Path) -> None:
    found = load({"client_secret": "hush"}, tmp_path)
    text = json.dumps(shown(found)) + repr(found) + str(found)
    assert "token-of-the-file" not in text
    assert "hush" not in text
    assert (shown(found)["client_secret"], shown(found)["ingress_server_auth_token"]) == ("(set)", "(set)")
    with pytest.raises(SettingError) as error:
        load({}, tmp_path, YAML.replace('"token-of-the-file"', "[hush]"))
    assert "hush" not in str(error.value)
    with pytest.raises(SettingError, match="no YAML") as error:
        load({}, tmp_path, "ingress_server_auth_token: 'hush")
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"collection_interval": -1}, "collection_interval"),
        ({"service_id": ""}, "service_id"),
        ({"service_id": "a\r\nX: y"}, "service_id"),
        ({"identity_id": "a\nb"}, "identity_id"),
        ({"ingress_server_url": ""}, "ingress_server_url"),
        ({"ingress_server_url": "https://user:hush@a.example"}, "user, a password"),
        ({"data_dir": "/nowhere/at/all"}, "no folder"),
        ({"data_dir": ""}, "no data_dir"),
        ({"spool": True}, "exclude"),
        ({"mode": "magic"}, "mode"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_what_cannot_be_used_says_so(flags: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=says) as found:
        load(flags, tmp_path)
    assert "hush" not in str(found.value)


@pytest.mark.parametrize("text", ["- a", "1: 2", "unheard_of: 1"])
def test_a_file_that_is_none_says_so(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError):
        load({}, tmp_path, text)
    with pytest.raises(SettingError, match="cannot be read"):
        load_ship_settings({}, config=tmp_path / "nowhere.yaml")


LIGHTSPEED = """
name: a whole configuration of Lightspeed
service: {host: localhost}
user_data_collection:
  feedback_enabled: true
  feedback_storage: "{folder}/feedback"
  transcripts_enabled: true
  transcripts_storage: "{folder}/transcripts"
  data_collector:
    enabled: true
    ingress_server_url: https://receiver.example/upload
    ingress_server_auth_token: hush
    ingress_content_service_name: lightspeed
    collection_interval: 60
    cleanup_after_send: false
    connection_timeout_seconds: 7
"""


def test_lightspeeds_own_section(tmp_path: Path) -> None:
    found = load({}, tmp_path, LIGHTSPEED)
    assert (found.data_dir, found.allowed_subdirs) == (str(tmp_path), ("feedback", "transcripts"))
    assert (found.service_id, found.ingress_server_auth_token) == ("lightspeed", "hush")
    assert (found.collection_interval, found.cleanup_after_send, found.ingress_connection_timeout) == (60, False, 7)
    assert load({"collection_interval": 5}, tmp_path, LIGHTSPEED).collection_interval == 5
    with pytest.raises(SettingError, match="different folders"):
        load({}, tmp_path, LIGHTSPEED.replace("{folder}/feedback", "/elsewhere/feedback"))


@pytest.mark.parametrize(
    ("service", "level"),
    [("{log_level: debug}", "DEBUG"), ("{log_level: chatty}", "INFO"), ("{log_level: 3}", "INFO"), ("none", "INFO")],
)
def test_lightspeeds_own_log_level(service: str, level: str, tmp_path: Path) -> None:
    text = LIGHTSPEED.replace("{host: localhost}", service)
    assert load({}, tmp_path, text).log_level == level
    assert load({}, tmp_path, text + "log_level: warning\n").log_level == "WARNING"


def test_the_spool_instead_of_the_sections_folders(tmp_path: Path) -> None:
    section = UserDataCollection(
        feedback_storage=str(tmp_path / "feedback"),
        data_collector=DataCollectorSection(
            enabled=True, ingress_server_url="https://a.example", ingress_content_service_name="lightspeed"
        ),
    )
    assert load_ship_settings({}, environment={}, section=section).data_dir == str(tmp_path)
    found = load_ship_settings({"spool": True, "workspace": "w"}, environment={}, section=section)
    assert (found.data_dir, found.service_id, found.state) == ("", "lightspeed", Path("w/.tracemill-ship"))


def test_a_token_is_read_where_it_was_written(tmp_path: Path) -> None:
    config, file, environment = tmp_path / "config.yaml", tmp_path / "token", {"INGRESS_SERVER_AUTH_TOKEN": ""}
    settings = load({}, tmp_path)
    read = token_reader({}, settings, environment=environment, config=config)
    assert read() == "token-of-the-file"
    config.write_text(config.read_text().replace("token-of-the-file", "next"))
    assert read() == "next"
    environment["INGRESS_SERVER_AUTH_TOKEN"] = "from-outside"
    assert read() == "from-outside"
    settings = load({"ingress_server_auth_token_file": str(file)}, tmp_path)
    read = token_reader({}, settings, environment={}, config=config)
    with pytest.raises(SettingError, match="cannot be read"):
        read()
    file.write_text("mounted\n")
    assert credentials_of(settings, read).token() == "mounted"


def test_each_mode_has_its_credentials(tmp_path: Path) -> None:
    assert isinstance(credentials_of(load({"mode": "openshift"}, tmp_path), str), OpenShiftCredentials)
    found = load({"mode": "sso", "client_id": "a", "client_secret": "b"}, tmp_path)
    assert isinstance(credentials_of(found, str), SsoCredentials)
    with pytest.raises(SettingError, match="client id"):
        credentials_of(load({"mode": "sso"}, tmp_path), str)
