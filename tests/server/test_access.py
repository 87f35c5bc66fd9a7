"""Who may do what: every route, every role, and the ways a credential can be wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi.routing import APIRoute

from tests.server.conftest import Serve, Served
from tracemill.core.access import SCOPES, Scope, digest_of, key_id_of, make_secret
from tracemill.core.errors import SettingError
from tracemill.core.ids import now
from tracemill.server.access import scopes_of
from tracemill.server.routes import FAMILIES
from tracemill.server.run import check_host
from tracemill.server.tokens import check_address

OPEN = {"/healthz", "/readyz"}
"""All that may be asked without a key."""


def routes(served: Served) -> Iterator[tuple[str, str, tuple[Scope, ...] | None]]:
    """Method, path and scopes of every route."""
    direct = [route for route in served.app.routes if not hasattr(route, "original_router")]
    for route in [*direct, *(route for family in FAMILIES for route in family.router.routes)]:
        assert isinstance(route, APIRoute), f"{route} is reached without a handler that asks for a key"
        found = [scopes_of(dependency.call) for dependency in route.dependant.dependencies]
        scopes = next((scope for scope in found if scope is not None), None)
        for method in route.methods or ():
            yield method, route.path, scopes


def ask(client: httpx.Client, method: str, path: str, scopes: tuple[Scope, ...] | None = None) -> httpx.Response:
    """Ask for a path with its parameters filled in by a word.

    Two interfaces have a ``/feedback``: LangSmith's, for keys to send with, is the one its clients find by their name.
    """
    headers = {"User-Agent": "langsmith-py"} if path == "/feedback" and scopes == ("ingest",) else {}
    filled = "/".join("x" if part.startswith("{") else part for part in path.split("/"))
    return client.request(method, filled.replace("{", "").replace("}", ""), headers=headers)


def test_every_route_needs_a_key(serve: Serve) -> None:
    served = serve()
    served.key("admin")
    client = served.client()
    asked = 0
    for method, path, scopes in routes(served):
        if path in OPEN:
            assert ask(client, method, path).status_code == 200
            continue
        assert scopes, f"{method} {path} asks for no scope"
        reply = ask(client, method, path, scopes)
        assert (reply.status_code, reply.json()["error"]["type"]) == (401, "unauthenticated"), f"{method} {path}"
        assert "www-authenticate" in reply.headers
        asked += 1
    assert asked >= 9
    assert client.get("/no/such/path").status_code == 404


def test_every_route_turns_away_every_other_role(serve: Serve) -> None:
    served = serve()
    keys: dict[Scope, str] = {scope: served.key(scope, user="someone") for scope in SCOPES}
    for method, path, scopes in routes(served):
        if scopes is None:
            continue
        for scope, key in keys.items():
            allowed = scope == "admin" or scope in scopes or (scope == "reviewer" and "user" in scopes)
            reply = ask(served.client(key), method, path, scopes)
            refused = reply.status_code == 403 and reply.json()["error"]["type"] == "forbidden"
            assert refused is not allowed, f"{scope}: {method} {path} → {reply.status_code}"


def test_a_key_to_send_with_reads_nothing(serve: Serve) -> None:
    served = serve()
    ingest = served.client(served.key("ingest"))
    for path in ("/v1/records", "/v1/records/x", "/v1/interactions/x", "/v1/quarantine", "/metrics"):
        assert ingest.get(path).status_code == 403, path


def test_a_credential_is_found_where_clients_put_it(serve: Serve) -> None:
    served = serve()
    key = served.key("user")
    basic = base64.b64encode(f"public:{key}".encode()).decode()
    as_name = base64.b64encode(f"{key}:".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer  {key}"},
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"Basic {as_name}"},
        {"x-api-key": key},
        {"api-key": key},
    ):
        assert served.client().get("/v1/records", headers=headers).status_code == 200, headers
    mistyped = key[:-1] + ("1" if key[-1] == "0" else "0")
    for value in ("Bearer", "Basic !!!", "Basic /w==", "Digest x", f"Bearer {mistyped}", "Bearer " + "x" * 5000, key):
        assert served.client().get("/v1/records", headers={"Authorization": value}).status_code == 401, value


def test_a_page_asked_for_by_a_browser_may_give_the_key_as_password(serve: Serve) -> None:
    served = serve()
    key = served.key("user")
    refused = served.client().get("/docs", headers={"Accept": "text/html"})
    assert refused.headers["www-authenticate"].startswith("Basic")
    page = served.client(auth=("me", key)).get("/docs")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for name in ("start.js", "swagger-ui.js", "swagger-ui.css"):
        assert served.client(key).get(f"/docs/{name}").status_code == 200
    assert served.client(key).get("/docs/other").status_code == 404
    assert "/v1/records" in served.client(key).get("/openapi.json").json()["paths"]


def test_expired_and_revoked_keys_are_turned_away(serve: Serve) -> None:
    served = serve()
    for change in ({"expires": now() - timedelta(seconds=1)}, {"revoked": now()}):
        secret = served.key("user")
        identity = key_id_of(secret)
        assert identity is not None
        key = served.workspace.store.api_key(identity)
        assert key is not None
        served.workspace.store.put_api_key(msgspec.structs.replace(key, **change))
        served.app.state.access.refresh()
        assert served.client(secret).get("/v1/records").status_code == 401


def test_the_use_of_a_key_is_noted(serve: Serve) -> None:
    served = serve()
    secret = served.key("user")
    served.client(secret).get("/v1/records")
    key = served.workspace.store.api_key(key_id_of(secret) or "")
    assert key is not None
    assert key.last_used is not None


def test_a_secret_is_nowhere_in_the_database(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    secret = served.key("user")
    served.client(secret).get("/v1/records")
    for path in (tmp_path / "workspace").rglob("*"):
        if path.is_file():
            assert secret[25:60].encode() not in path.read_bytes(), path


def test_a_mistyped_key_is_known_without_the_database() -> None:
    identity, secret, digest = make_secret()
    assert (key_id_of(secret), digest_of(secret)) == (identity, digest)
    for index in range(len(secret)):
        wrong = secret[:index] + ("0" if secret[index] != "0" else "1") + secret[index + 1 :]
        assert key_id_of(wrong) is None


def test_a_key_may_ask_only_so_often(serve: Serve) -> None:
    served = serve(rate_limit_per_minute=12)
    client, other = served.client(served.key("user")), served.client(served.key("user"))
    statuses = [client.get("/v1/records").status_code for _ in range(4)]
    assert statuses.count(429) >= 1
    refused = client.get("/v1/records")
    assert int(refused.headers["retry-after"]) >= 1
    assert other.get("/v1/records").status_code == 200


def test_without_keys_only_this_machine_s_programs_are_answered(serve: Serve) -> None:
    client = serve().client()
    assert client.get("/v1/records").status_code == 200
    for headers in (
        {"Host": "attacker.example"},
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Host": ""},
    ):
        reply = client.get("/v1/records", headers=headers)
        assert reply.status_code in (400, 403), headers
    assert client.get("/v1/records", headers={"Origin": "http://localhost:3000"}).status_code == 200


def test_pages_of_named_origins_may_call(serve: Serve) -> None:
    served = serve(cors_origins="https://app.example")
    client = served.client()
    allowed = client.get("/v1/records", headers={"Origin": "https://app.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    plain = serve("other").client().get("/v1/records", headers={"Origin": "http://localhost"})
    assert "access-control-allow-origin" not in plain.headers


def test_beyond_loopback_nobody_is_served_without_keys() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "tracemill.example", ""):
        with pytest.raises(SettingError, match="beyond this machine"):
            check_host(host, guarded=False)
        check_host(host, guarded=True)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_host(host, guarded=False)


ISSUER = "https://issuer.example"


@pytest.fixture(scope="module")
def signing() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def token(key: Any, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    body = {"iss": ISSUER, "aud": "tracemill", "exp": now() + timedelta(minutes=5), "sub": "alice", **claims}
    body = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(body, key, algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture
def issued(serve: Serve, tmp_path: Path, signing: rsa.RSAPrivateKey) -> Served:
    published = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(signing.public_key()))
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**published, "kid": "one", "alg": "RS256", "use": "sig"}]}))
    return serve(jwt_issuer=ISSUER, jwt_jwks=str(path))


def test_a_token_of_the_issuer_is_a_user(issued: Served, signing: rsa.RSAPrivateKey) -> None:
    assert issued.client().get("/v1/records").status_code == 401
    client = issued.client(token(signing))
    assert client.get("/v1/records").status_code == 200
    assert client.get("/v1/quarantine").status_code == 403
    for scope in ("admin", "openid tracemill:admin", ["tracemill:admin"]):
        assert issued.client(token(signing, scope=scope)).get("/v1/quarantine").status_code == 200


def test_a_token_that_proves_nothing_is_refused(issued: Served, signing: rsa.RSAPrivateKey) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = signing.public_key().public_numbers().n.to_bytes(256)
    none = jwt.encode({"iss": ISSUER, "aud": "tracemill", "sub": "alice", "exp": 2**31}, "", "none")
    wrong = [
        token(other),
        token(signing, kid="two"),
        token(signing, iss="https://other.example"),
        token(signing, aud="other"),
        token(signing, exp=now() - timedelta(minutes=5)),
        token(signing, exp=None),
        token(signing, aud=None),
        token(signing, sub=None),
        token(signing, sub=""),
        token(public, "HS256"),
        none,
        "a.b.c",
        "",
    ]
    for text in wrong:
        assert issued.client(text).get("/v1/records").status_code == 401, text[:20]


def test_keys_of_an_issuer_are_fetched_over_https_only() -> None:
    check_address("https://issuer.example/keys")
    check_address("http://127.0.0.1:8000/keys")
    for address in ("http://issuer.example/keys", "ftp://issuer.example/keys", "file:///etc/passwd"):
        with pytest.raises(SettingError):
            check_address(address)
