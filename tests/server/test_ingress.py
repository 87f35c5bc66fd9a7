"""Packages as Lightspeed's exporter sends them: stored once, answered after the commit, and refused with a reason."""

from __future__ import annotations

import gzip
import json
import os
import socket
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.capture.test_package_entries import FEEDBACK, TRANSCRIPT, as_bytes
from tests.capture.test_packages import entry, tar
from tests.server.conftest import Serve, Served
from tests.server.test_records import interaction
from tracemill.core.codec import encode_json
from tracemill.core.records import Feedback, Interaction

PATH = "/api/ingress/v1/upload"
KIND = "application/vnd.redhat.lightspeed.periodic+tar"
AGENT = "openshift-lightspeed-operator/user-data-collection cluster/"
TURN, MARK = ("transcripts/u/c-1/1.json", as_bytes(TRANSCRIPT)), ("feedback/2.json", as_bytes(FEEDBACK))


def packed(*files: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    return gzip.compress(tar(*files))


def send(
    served: Served, package: bytes, key: str | None = None, *, kind: str = KIND, identity: str = "cluster-7"
) -> requests.Response:
    """The exporter's own request: the bytes that `requests` prepares of it."""
    headers = {"User-Agent": AGENT + identity, **({"Authorization": f"Bearer {key}"} if key else {})}
    files = {"file": ("lightspeed-assistant.tgz", package, kind)}
    with requests.Session() as session:
        session.trust_env = False
        prepared = requests.Request("POST", served.url + PATH, files=files, headers=headers).prepare()
        return session.send(prepared, timeout=30)


def counts(reply: requests.Response) -> tuple[int, int, int, int]:
    assert reply.status_code == 202, reply.text
    found = reply.json()["upload"]
    return found["files"], found["stored"], found["duplicates"], found["rejected"]


def error_of(reply: requests.Response) -> tuple[int, str]:
    error = reply.json()["error"]
    assert set(error) == {"type", "message", "hint", "param", "code", "request_id"}
    return reply.status_code, error["type"]


def quarantined(served: Served) -> dict[str, tuple[str, bytes]]:
    """By the message's first word, the file: why and what."""
    return {item.message.partition(":")[0]: (item.reason, item.raw) for item in served.workspace.quarantined(1000)}


def test_an_upload_is_stored_when_it_is_answered(serve: Serve) -> None:
    served = serve()
    reply = send(served, packed(TURN, MARK))
    assert counts(reply) == (2, 2, 0, 0)
    assert reply.json()["request_id"] == reply.headers["X-Request-Id"]
    turn, mark = served.records()
    assert isinstance(turn, Interaction)
    assert isinstance(mark, Feedback)
    assert turn.user == mark.user == served.context.pseudonymizer.user("ada")
    assert turn.extra["exporter_identity"] == mark.extra["exporter_identity"] == "cluster-7"
    assert counts(send(served, packed(TURN, MARK))) == (2, 0, 2, 0)
    assert counts(send(served, packed(("feedback/renamed.json", MARK[1])), identity="other")) == (1, 0, 1, 0)
    assert served.records() == [turn, mark]
    page = served.client().get("/metrics").text
    assert 'tracemill_records_stored_total{source="ingress"} 2.0' in page
    assert 'tracemill_records_duplicate_total{source="ingress"} 3.0' in page


def test_an_ingest_key_sends_and_reads_nothing(serve: Serve) -> None:
    served = serve()
    package = packed(TURN)
    key = served.key("ingest")
    assert counts(send(served, package, key)) == (1, 1, 0, 0)
    assert served.client(key).get("/v1/records").status_code == 403
    assert error_of(send(served, package)) == (401, "unauthenticated")
    assert error_of(send(served, package, "tm_wrong")) == (401, "unauthenticated")
    for scope in ("user", "reviewer"):
        assert error_of(send(served, package, served.key(scope, user="ada"))) == (403, "forbidden")
    assert counts(send(served, package, served.key("admin"))) == (1, 0, 1, 0)


def test_a_key_of_a_project_writes_into_it(serve: Serve) -> None:
    served = serve()
    mine, foreign = interaction(), interaction(platform="other")
    lines = encode_json(mine) + b"\n" + encode_json(foreign) + b"\n"
    reply = send(served, packed(TURN, ("records/1.jsonl", lines)), served.key("ingest", project="shop"))
    assert counts(reply) == (2, 2, 0, 1)
    assert {record.platform for record in served.records()} == {"shop"}
    ((reason, raw),) = quarantined(served).values()
    assert (reason, json.loads(raw)["id"]) == ("wrong_project", foreign.id)


def test_the_rate_is_limited_as_elsewhere(serve: Serve) -> None:
    served = serve(rate_limit_per_minute=6)
    key = served.key("ingest")
    assert [send(served, packed(TURN), key).status_code for _ in range(2)] == [202, 429]


@pytest.mark.parametrize(
    ("identity", "kept"),
    [
        ("3f2a-0c", "3f2a-0c"),
        ("a" * 128, "a" * 128),
        ("a" * 129, None),
        ("ada@example.org", None),
        ("<script>", None),
        ("../x", None),
        ("", None),
    ],
)
def test_who_exported_is_kept_if_it_is_an_identity(serve: Serve, identity: str, kept: str | None) -> None:
    served = serve()
    assert counts(send(served, packed(TURN), identity=identity)) == (1, 1, 0, 0)
    (record,) = served.records()
    assert record.extra.get("exporter_identity") == kept


def test_records_come_out_as_they_went_in(serve: Serve) -> None:
    served = serve()
    sent = [interaction(sequence=number, extra={"n": number}) for number in range(1200)]
    files = [
        (f"records/{at}.jsonl", b"\n".join(map(encode_json, sent[at : at + 100]))) for at in range(0, len(sent), 100)
    ]
    assert counts(send(served, packed(*files))) == (12, 1200, 0, 0)
    assert served.records() == sent
    assert counts(send(served, packed(*files))) == (12, 0, 1200, 0)
    changed = encode_json(interaction(id=sent[0].id, extra={"n": -1}))
    assert counts(send(served, packed(("records/a.jsonl", changed)))) == (1, 0, 0, 1)
    assert [reason for reason, _ in quarantined(served).values()] == ["conflict"]


def test_what_cannot_be_used_is_kept_with_its_reason(serve: Serve) -> None:
    bad: list[tuple[str | tarfile.TarInfo, bytes]] = [
        ("../../etc/cron.d/x", b"* * * * *"),
        ("/etc/passwd", b"root"),
        ("C:/x.json", b"drive"),
        (entry("transcripts/l.json", tarfile.SYMTYPE, linkname="/etc/shadow"), b""),
        (entry("transcripts/h.json", tarfile.LNKTYPE, linkname=TURN[0]), b""),
        (entry("transcripts/z.json", tarfile.CHRTYPE, devmajor=1, devminor=5), b""),
        (TURN[0], b"another"),
        ("transcripts/" + "x" * 300, b"long"),
        ("transcripts/u/large.json", b"[" + b" " * 20_000),
        ("transcripts/inner.json", packed(("transcripts/a.json", b"1"))),
        ("transcripts/torn.json", TURN[1][:60]),
        ("config_status/models.json", b"{}"),
        ("records/1.jsonl", b'{"type": "interaction"}\n'),
    ]
    served = serve(package_file_max_bytes=10_000)
    for _ in range(2):
        reply = send(served, packed(TURN, *bad, MARK))
        assert reply.status_code == 202
        assert (reply.json()["upload"]["files"], reply.json()["upload"]["rejected"]) == (15, 13)
    assert len(served.records()) == 2
    kept = quarantined(served)
    assert len(kept) == served.workspace.store.quarantine_count() == 13
    reasons = {name: reason for name, (reason, _) in kept.items()}
    assert reasons["../../etc/cron.d/x"] == reasons["/etc/passwd"] == reasons["C"] == "unsafe_name"
    assert reasons["transcripts/l.json"] == reasons["transcripts/h.json"] == "link"
    assert (reasons["transcripts/z.json"], reasons[TURN[0]]) == ("not_a_file", "duplicate_name")
    assert (reasons["transcripts/u/large.json"], reasons["transcripts/inner.json"]) == ("too_large", "nested_archive")
    assert (reasons["config_status/models.json"], reasons["transcripts/torn.json"]) == ("unknown_file", "malformed")
    assert kept["transcripts/torn.json"][1] == TURN[1][:60]
    assert sorted(reasons.values()).count("name_too_long") == 1


def test_a_package_that_is_not_whole_stores_nothing(serve: Serve) -> None:
    served = serve(package_max_bytes=2**20, package_max_files=50)
    package = packed(TURN, MARK)
    many = packed(*((f"feedback/{number}.json", b"{}") for number in range(51)))
    bomb = packed(TURN, ("feedback/b.json", bytes(3_000_000)))
    for content, expected in [
        (package[:-20], (400, "malformed")),
        (b"", (400, "malformed")),
        (b"{}", (400, "malformed")),
        (package[:-8] + b"12345678", (400, "malformed")),
        (many, (413, "too_many_files")),
        (bomb, (413, "too_large")),
        (tar(TURN, ("feedback/b.json", bytes(2**20))), (413, "too_large")),
        (packed(), (422, "invalid")),
    ]:
        assert error_of(send(served, content)) == expected
    assert served.records() == []
    assert served.workspace.store.quarantine_count() == 0
    assert counts(send(served, package)) == (2, 2, 0, 0)


def post(served: Served, body: bytes, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(served.url + PATH, data=body, headers=headers, timeout=30)


def form(*parts: tuple[str, str, bytes]) -> bytes:
    return b"".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="../f"\r\nContent-Type: {kind}\r\n\r\n'.encode()
        + content + b"\r\n" for name, kind, content in parts
    ) + b"--x--\r\n"  # fmt: skip


def test_forms_that_are_none(serve: Serve) -> None:
    served = serve()
    kind, package = {"Content-Type": "multipart/form-data; boundary=x"}, packed(TURN)
    right = ("file", KIND, package)
    assert error_of(send(served, package, kind="text/plain")) == (415, "unsupported_media_type")
    assert error_of(post(served, package, **{"Content-Type": KIND})) == (415, "unsupported_media_type")
    encoded = {**kind, "Content-Encoding": "gzip"}
    assert error_of(post(served, form(right), **encoded)) == (415, "unsupported_media_type")
    for boundary in ("", "; boundary=", "; boundary=" + "y" * 71):
        content_type = {"Content-Type": "multipart/form-data" + boundary}
        assert error_of(post(served, form(right), **content_type)) == (400, "malformed")
    assert error_of(post(served, form(right)[:-8], **kind)) == (400, "malformed")
    assert error_of(post(served, b"no form", **kind)) == (400, "malformed")
    assert error_of(post(served, form(("other", KIND, package)), **kind)) == (422, "invalid")
    assert error_of(post(served, form(right, right), **kind)) == (422, "invalid")
    many = [("metadata", "application/json", b"{}")] * 17
    assert error_of(post(served, form(*many, right), **kind)) == (413, "too_large")
    assert served.records() == []
    assert counts(post(served, form(("metadata", "application/json", b"{}"), right), **kind)) == (1, 1, 0, 0)


def stored_once(servers: list[Served]) -> None:
    turns = ({**TRANSCRIPT, "llm_response": f"{number}"} for number in range(700))
    package = packed(*((f"transcripts/u/c/{number}.json", as_bytes(turn)) for number, turn in enumerate(turns)))
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda number: counts(send(servers[number % 2], package)), range(4)))
    assert [(read, rejected) for read, _, _, rejected in replies] == [(700, 0)] * 4
    assert sum(stored for _, stored, _, _ in replies) == 700
    assert sum(duplicates for _, _, duplicates, _ in replies) == 2100
    assert len(servers[0].records()) == 700


def test_two_servers_store_a_package_once(serve: Serve) -> None:
    stored_once([serve(), serve()])


def test_two_servers_over_one_postgresql_store_a_package_once(serve: Serve, postgres: str) -> None:
    import psycopg  # an optional package; the fixture skips where it is missing

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ingress")
    database = postgres.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", "/ingress?")
    stored_once([serve(database=database), serve(database=database)])


def test_a_large_package_goes_through_a_file(serve: Serve) -> None:

    served = serve()
    noise: list[tuple[str | tarfile.TarInfo, bytes]] = [
        (f"feedback/{number}.json", as_bytes({**FEEDBACK, "user_feedback": os.urandom(1_500_000).hex()}))
        for number in range(8)
    ]
    package = packed(*noise)
    assert len(package) > 8 * 2**20
    assert counts(send(served, package)) == (8, 8, 0, 0)


def test_no_room_to_unpack_is_told_and_nothing_is_lost(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
        reply = send(served, packed(TURN))
        assert error_of(reply) == (503, "unavailable")
        assert reply.headers["Retry-After"] == "60"
    assert counts(send(served, packed(TURN))) == (1, 1, 0, 0)


def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve) -> None:
    served = serve(request_timeout_seconds=0.3)
    address = urlsplit(served.url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=30) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n--x\r\n".encode())
        assert b" 408 " in connection.recv(4096).partition(b"\r\n")[0]
