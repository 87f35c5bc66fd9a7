"""The request is the existing exporter's, and no answer but one means that a package has arrived."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.ship import receiver as behaviours
from tests.ship.receiver import Behaviour, Receiver, answers
from tracemill.ship.packing import Member, Package, write_package
from tracemill.ship.upload import Outcome, upload
from tracemill.ship.upload import Receiver as Where


def pack(folder: Path, content: bytes = b"{}") -> tuple[Path, Package]:
    path = folder / "package.tgz"
    return path, write_package(path, [Member("feedback/a.json", content)])


def outcome(folder: Path, *turns: Behaviour, **more: Any) -> tuple[Outcome, Receiver]:
    path, package = pack(folder)
    with Receiver(*turns, folder=folder) as receiver:
        where = Where(receiver.upload_url, "my-service", 0.5, **more)
        return upload(where, path, package, "secret-token", "cluster-1"), receiver


def test_the_request_is_what_requests_sends(tmp_path: Path) -> None:
    requests = pytest.importorskip("requests")
    path, package = pack(tmp_path)
    with Receiver(folder=tmp_path) as receiver:
        upload(Where(receiver.upload_url, "my-service", 5), path, package, "secret-token", "cluster-1")
        with requests.Session() as session:  # the call of the exporter's ingress client
            session.headers = {
                "User-Agent": "openshift-lightspeed-operator/user-data-collection cluster/cluster-1",
                "Authorization": "Bearer secret-token",
            }
            session.post(
                url=receiver.upload_url,
                files={
                    "file": (
                        "lightspeed-assistant.tgz",
                        path.read_bytes(),
                        "application/vnd.redhat.my-service.periodic+tar",
                    )
                },
                timeout=5,
            )
    ours, theirs = receiver.requests
    boundaries = [request.header("Content-Type").partition("boundary=")[2] for request in (ours, theirs)]
    assert ours.body.replace(boundaries[0].encode(), b"B") == theirs.body.replace(boundaries[1].encode(), b"B")
    assert len(boundaries[0]) == len(boundaries[1])
    assert ours.line == theirs.line
    kept = [
        {name.lower(): value.replace(boundary, "B") for name, value in request.headers}
        for request, boundary in zip((ours, theirs), boundaries, strict=True)
    ]
    assert kept[0] == kept[1]


def test_an_arrival(tmp_path: Path) -> None:
    found, receiver = outcome(tmp_path)
    assert found == Outcome(202, "request-1")
    assert receiver.files == {"feedback/a.json": b"{}"}
    assert receiver.requests[0].header("Idempotency-Key") == ""


def test_a_retry_sends_the_same_bytes_and_says_so_when_asked(tmp_path: Path) -> None:
    path, package = pack(tmp_path)
    with Receiver(answers(500), behaviours.accepts, folder=tmp_path) as receiver:
        where = Where(receiver.upload_url, "s", 5, idempotency_key=True)
        assert upload(where, path, package, "t", "i").status == 500
        assert upload(where, path, package, "t", "i").request_id
    assert receiver.requests[0] == receiver.requests[1]
    assert receiver.requests[0].header("Idempotency-Key") == package.sha256


@pytest.mark.parametrize(
    "turn",
    [
        answers(202),
        answers(202, b""),
        answers(202, b'{"request_id": 17}'),
        answers(202, b'{"request_id": ""}'),
        answers(202, b'{"request_id": "a\\nb"}'),
        answers(202, b'{"request_id": "' + b"x" * 300 + b'"}'),
        answers(202, b"[" * 100_000),
        answers(202, b"\xff"),
        answers(200, b'{"request_id": "a"}'),
        answers(204, b""),
        answers(500),
        behaviours.resets_midway,
        behaviours.keeps_and_breaks_off,
        behaviours.hangs,
        behaviours.floods,
    ],
)
def test_nothing_else_is_an_arrival(turn: Behaviour, tmp_path: Path) -> None:
    found, _ = outcome(tmp_path, turn)
    assert not found.request_id
    assert found.problem
    assert "secret-token" not in repr(found)


def test_what_a_status_asks_for(tmp_path: Path) -> None:
    assert outcome(tmp_path, answers(503, Retry_After="7"))[0].wait_seconds == 7


@pytest.mark.parametrize(
    ("status", "unauthorized", "only"),
    [
        (401, True, False),
        (403, True, False),
        (413, False, True),
        (422, False, True),
        (404, False, False),
        (503, False, False),
    ],
)
def test_what_a_status_is_about(status: int, unauthorized: bool, only: bool, tmp_path: Path) -> None:
    found, _ = outcome(tmp_path, answers(status))
    assert (found.status, found.unauthorized, found.only_this_one) == (status, unauthorized, only)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_gets_no_token(status: int, tmp_path: Path) -> None:
    with Receiver(folder=tmp_path) as thief:
        found, receiver = outcome(tmp_path, answers(status, Location=thief.url))
    assert "redirect" in found.problem
    assert len(receiver.requests) == 1
    assert thief.requests == []


def test_a_large_package_refused_before_it_is_read_is_understood(tmp_path: Path) -> None:
    path, package = pack(tmp_path, b'"' + b"".join(b"%x" % (n * n * 7919) for n in range(500_000)) + b'"')
    with Receiver(answers(413), folder=tmp_path) as receiver:
        assert upload(Where(receiver.upload_url, "s", 5), path, package, "t", "i").status == 413


@pytest.mark.parametrize("url", ["http://example.com/", "https://10.0.0.1/", "https://169.254.169.254/", "nothing"])
def test_nothing_goes_to_a_hostile_target(url: str, tmp_path: Path) -> None:
    path, package = pack(tmp_path)
    found = upload(Where(url, "s", 5), path, package, "secret-token", "i")
    assert found.status == 0
    assert found.problem


def test_a_token_that_breaks_the_header_is_not_shown(tmp_path: Path) -> None:
    path, package = pack(tmp_path)
    with Receiver(folder=tmp_path) as receiver:
        found = upload(Where(receiver.upload_url, "s", 5), path, package, "secret\r\nX: y", "i")
    assert "secret" not in found.problem
    assert receiver.requests == []


def authority(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for a name and for loopback, signed by itself, and a server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    start = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    return certificate, context


class Encrypted(Receiver):
    """A receiver behind TLS, which remembers the names it was asked by."""

    def __init__(self, context: ssl.SSLContext, folder: Path) -> None:
        super().__init__(folder=folder)
        self.names: list[str | None] = []
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._context = context
        self.upload_url = self.upload_url.replace("http:", "https:")

    def _serve(self, connection: Any) -> None:
        try:
            connection = self._context.wrap_socket(connection, server_side=True)
        except OSError:
            return
        super()._serve(connection)


def test_tls_is_checked_against_the_name(tmp_path: Path) -> None:
    certificate, context = authority(tmp_path, "localhost")
    path, package = pack(tmp_path)
    with Encrypted(context, tmp_path) as receiver:
        trusted = Where(receiver.upload_url, "s", 5, ca_file=str(certificate))
        found = upload(trusted, path, package, "t", "i")
        assert found.request_id == "request-1", found
        named = dataclasses.replace(trusted, url=receiver.upload_url.replace("127.0.0.1", "localhost"))
        assert upload(named, path, package, "t", "i").request_id == "request-2"
        assert receiver.names == [None, "localhost"]
        untrusted = upload(dataclasses.replace(trusted, ca_file=""), path, package, "t", "i")
        assert "certificate is not trusted" in untrusted.problem
    assert receiver.requests[1].header("Host").startswith("localhost:")
    assert len(receiver.requests) == 2
