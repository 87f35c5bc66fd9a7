"""Tokens are fetched when they are needed, fetched anew when they are refused, and never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.ship.receiver import Behaviour, Receiver, answers, floods, says
from tracemill.core.errors import DeliveryError, SettingError, TracemillError
from tracemill.ship.tokens import ManualCredentials, OpenShiftCredentials, SsoCredentials, name_in


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def jwt(**claims: str) -> str:
    return f"{encoded({'alg': 'none'})}.{encoded(claims)}.x"


AUTHS = {"auths": {"cloud.openshift.com": {"auth": "receiver-token"}}}
SECRET = {"data": {".dockerconfigjson": base64.b64encode(json.dumps(AUTHS).encode()).decode()}}


def test_a_token_by_hand_is_read_again_when_it_is_refused() -> None:
    written = [" one \n", "two", "two"]
    credentials = ManualCredentials(lambda: written.pop(0))
    assert (credentials.token(), credentials.token(), credentials.identity()) == ("one", "one", "lightspeed-exporter")
    assert credentials.refresh()
    assert credentials.token() == "two"
    assert not credentials.refresh()
    assert ManualCredentials(str, "me").identity() == "me"
    with pytest.raises(SettingError, match="no token"):
        ManualCredentials(lambda: " \n").token()


def sso(receiver: Receiver, identity: str = "") -> SsoCredentials:
    return SsoCredentials(
        "client-1", "hush & hush", sso_url=f"{receiver.url}/sso", accounts_url=f"{receiver.url}/access_token",
        identity_id=identity,
    )  # fmt: skip


def test_single_sign_on(tmp_path: Path) -> None:
    access = jwt(preferred_username="service-account-1", sub="subject")
    turns = [says({"access_token": access}), says(AUTHS)]
    with Receiver(*turns, *turns, folder=tmp_path) as receiver:
        credentials = sso(receiver)
        assert (credentials.token(), credentials.identity()) == ("receiver-token", "service-account-1")
        assert len(receiver.requests) == 2
        assert credentials.refresh()
        assert credentials.token() == "receiver-token"
    first, second, *rest = receiver.requests
    assert len(rest) == 2
    assert (first.line, second.line) == ("POST /sso HTTP/1.1", "POST /access_token HTTP/1.1")
    assert parse_qs(first.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["client-1"],
        "client_secret": ["hush & hush"],
        "scope": ["api.console"],
    }
    assert second.header("Authorization") == f"Bearer {access}"


def test_an_identity_that_was_given_stays(tmp_path: Path) -> None:
    with Receiver(says({"access_token": jwt(sub="subject")}), says(AUTHS), folder=tmp_path) as receiver:
        credentials = sso(receiver, "mine")
        assert credentials.token() == "receiver-token"
        assert credentials.identity() == "mine"


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (jwt(preferred_username="a", sub="b"), "a"),
        (jwt(sub="b"), "b"),
        (jwt(), "unknown"),
        ("opaque", "unknown"),
        ("a.!!!.b", "unknown"),
        (f"a.{encoded([1])}.b", "unknown"),
        (f"a.{encoded({'sub': 17})}.b", "unknown"),
    ],
)
def test_the_name_in_a_token(token: str, name: str) -> None:
    assert name_in(token) == name


@pytest.mark.parametrize(
    "turns",
    [
        [answers(401, b'{"error": "hush & hush"}')],
        [answers(307, Location="http://127.0.0.1:1/")],
        [answers(200, b"hush & hush")],
        [says({})],
        [says([])],
        [says({"access_token": 17})],
        [says({"access_token": jwt(sub="a")}), answers(500)],
        [says({"access_token": jwt(sub="a")}), says({"auths": {}})],
        [says({"access_token": jwt(sub="a b\r\nX: y")}), says(AUTHS)],
        [says({"access_token": "line\r\nX: y"}), says(AUTHS)],
        [floods],
    ],
)
def test_what_goes_wrong_is_told_without_secrets(turns: list[Behaviour], tmp_path: Path) -> None:
    with Receiver(*turns, folder=tmp_path) as receiver, pytest.raises(TracemillError) as found:
        sso(receiver).identity()
    told = found.value.message + found.value.hint + repr(found.value)
    assert "hush" not in told
    assert "receiver-token" not in told


def test_single_sign_on_needs_both_halves() -> None:
    with pytest.raises(SettingError, match="client id"):
        SsoCredentials("a", "", sso_url="https://a.example", accounts_url="https://b.example")
    with pytest.raises(DeliveryError, match="unencrypted"):
        SsoCredentials("a", "b", sso_url="http://a.example", accounts_url="https://b.example").token()


def test_a_cluster(tmp_path: Path) -> None:
    account = tmp_path / "token"
    account.write_text("first-account\n")
    turns = [says(SECRET), says({"spec": {"clusterID": "cluster-1"}}), says(SECRET)]
    with Receiver(*turns, folder=tmp_path) as receiver:
        credentials = OpenShiftCredentials(receiver.url + "/", account, tmp_path / "ca.crt")
        assert (credentials.token(), credentials.identity()) == ("receiver-token", "cluster-1")
        assert (credentials.token(), credentials.identity()) == ("receiver-token", "cluster-1")
        account.write_text("second-account")
        assert credentials.refresh()
        assert credentials.token() == "receiver-token"
    assert [(request.line, request.header("Authorization")) for request in receiver.requests] == [
        ("GET /api/v1/namespaces/openshift-config/secrets/pull-secret HTTP/1.1", "Bearer first-account"),
        ("GET /apis/config.openshift.io/v1/clusterversions/version HTTP/1.1", "Bearer first-account"),
        ("GET /api/v1/namespaces/openshift-config/secrets/pull-secret HTTP/1.1", "Bearer second-account"),
    ]


@pytest.mark.parametrize(
    "secret",
    [{}, {"data": {".dockerconfigjson": "!"}}, {"data": {".dockerconfigjson": base64.b64encode(b"{}").decode()}}, []],
)
def test_a_cluster_without_the_secret(secret: object, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("account")
    with Receiver(says(secret), folder=tmp_path) as receiver, pytest.raises(DeliveryError):
        OpenShiftCredentials(receiver.url, tmp_path / "token", tmp_path / "ca.crt").token()


def test_no_cluster_at_all(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="service account"):
        OpenShiftCredentials("https://10.0.0.1", tmp_path / "token", tmp_path / "ca.crt").token()
