"""Nothing is sent to an address that was not judged, and what was judged is what is connected to."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.core.errors import TargetError
from tracemill.core.network import Target, check_target, request


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https:///path",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com/#fragment",
        "https://exa mple.com/",
        "https://example.com\\@10.0.0.1/",
        "https://example.com/\r\nHost: other",
        "https://exämple.com/",
        "https://-example.com/",
        "https://a..b/",
        "https://[::1/",
        "https://[not-an-address]/",
        "",
    ],
)
def test_a_url_with_anything_odd_is_refused(url: str) -> None:
    with pytest.raises(TargetError) as found:
        check_target(url, allow_private=True)
    assert "secret" not in found.value.message + found.value.hint


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "017700000001", "0x7f000001", "127.1", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.01", "1.2.3.4.5"),
        *("10.0.0.256", "a.1", "0x", "169.254.169.254", "169.254.1.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"),
        *("240.0.0.1", "100.100.100.200", "168.63.129.16", "192.0.2.1", "198.18.0.1"),
        *("[::]", "[fe80::1]", "[fe80::1%25eth0]", "[ff02::1]", "[fd00:ec2::254]", "[::ffff:8.8.8.8]"),
        *("[::ffff:127.0.0.1]", "[::127.0.0.1]", "[2002:7f00:1::]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]"),
        *("[64:ff9b::169.254.169.254]", "[fec0::1]", "[2001:db8::1]"),
    ],
)
def test_addresses_that_never_pass(host: str) -> None:
    with pytest.raises(TargetError):
        check_target(f"https://{host}/", allow_private=True)


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "[fd12::1]", "[64:ff9b::10.0.0.1]"]
)
def test_private_ranges_pass_when_they_are_allowed(host: str) -> None:
    with pytest.raises(TargetError, match="private"):
        check_target(f"https://{host}/")
    assert check_target(f"https://{host}/", allow_private=True).host == host.strip("[]")
    assert check_target(f"https://{host}/", allowed_hosts={host.strip("[]")}).host == host.strip("[]")
    with pytest.raises(TargetError):
        check_target(f"https://{host}/", allowed_hosts={"another.example"})


@pytest.mark.parametrize("host", ["8.8.8.8", "[2001:4860:4860::8888]", "[64:ff9b::8.8.8.8]"])
def test_public_addresses_pass(host: str) -> None:
    found = check_target(f"https://{host}/a/b?c=d")
    assert (found.scheme, found.port, found.path, found.loopback) == ("https", 443, "/a/b?c=d", False)
    assert found.addresses == (str(ipaddress.ip_address(found.host)),)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LOCALHOST."])
def test_this_machine_may_be_talked_to_in_the_clear(host: str) -> None:
    found = check_target(f"http://{host}:8080")
    assert (found.loopback, found.port, found.path) == (True, 8080, "/")
    assert all(ipaddress.ip_address(address).is_loopback for address in found.addresses)
    with pytest.raises(TargetError, match="this machine"):
        check_target(f"http://{host}:8080", allow_loopback=False)


def answers_of_names(monkeypatch: pytest.MonkeyPatch, *rounds: list[str]) -> list[str]:
    """Stand in for the name service alone, which no test may ask; each round answers once, the last one stays."""
    asked: list[str] = []
    left = list(rounds)

    def answer(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        found = left.pop(0) if len(left) > 1 else left[0]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def test_every_address_of_a_name_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_of_names(monkeypatch, ["8.8.8.8", "8.8.4.4"], ["8.8.8.8", "10.0.0.1"], ["127.0.0.1"], [])
    assert check_target("https://name.example/").addresses == ("8.8.8.8", "8.8.4.4")
    with pytest.raises(TargetError, match=r"10\.0\.0\.1"):
        check_target("https://name.example/")
    with pytest.raises(TargetError, match="this machine"):
        check_target("https://name.example/")
    with pytest.raises(TargetError, match="cannot be resolved"):
        check_target("https://name.example/")


def test_localhost_that_is_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_of_names(monkeypatch, ["8.8.8.8"])
    with pytest.raises(TargetError, match="not this machine"):
        check_target("http://localhost/")


@given(st.ip_addresses())
def test_what_passes_without_leave_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    try:
        found = check_target(f"https://{host}/", allow_loopback=False)
    except TargetError:
        return
    assert found.addresses == (str(address),)
    assert address.is_global
    assert not address.is_multicast


class Handler(BaseHTTPRequestHandler):
    """Says what it was asked, redirects, floods or drips."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers["Host"], body))  # type: ignore[attr-defined]
        if self.path == "/redirect":
            self.send_response(307)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        try:
            if self.path == "/flood":
                while True:
                    self.wfile.write(b" " * 65536)
            while self.path == "/drip" and not self.server.ended.wait(0.02):  # type: ignore[attr-defined]
                self.wfile.write(b" ")
        except OSError:
            return

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.daemon_threads = True
        made.seen = []  # type: ignore[attr-defined]
        made.ended = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.ended.set()  # type: ignore[attr-defined]
        made.shutdown()


def at(server: ThreadingHTTPServer, path: str) -> Target:
    return check_target(f"http://127.0.0.1:{server.server_port}{path}")


def test_the_name_is_asked_once_and_its_address_used(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.server_port
    asked = answers_of_names(monkeypatch, ["127.0.0.1"], ["10.255.255.1"])
    found = check_target(f"http://localhost:{port}/x")
    monkeypatch.undo()  # connecting to an address asks nobody, but Python passes through the same function
    assert asked == ["localhost"]
    assert request(found, "POST", {"Content-Length": "2"}, [b"h", b"i"], timeout=5).status == 200
    assert server.seen == [("/x", f"localhost:{port}", b"hi")]  # type: ignore[attr-defined]


def test_redirects_are_handed_back(server: ThreadingHTTPServer) -> None:
    found = request(at(server, "/redirect"), "POST", {"Content-Length": "0"}, timeout=5)
    assert (found.status, found.headers["Location"]) == (307, "/elsewhere")
    assert [path for path, *_ in server.seen] == ["/redirect"]  # type: ignore[attr-defined]


def test_an_endless_answer_is_cut(server: ThreadingHTTPServer) -> None:
    found = request(at(server, "/flood"), "POST", {"Content-Length": "0"}, timeout=5, limit=1000)
    assert (len(found.body), found.cut) == (1000, True)


def test_a_dripping_answer_is_given_up(server: ThreadingHTTPServer) -> None:
    found = request(at(server, "/drip"), "POST", {"Content-Length": "0"}, timeout=0.1, limit=1_000_000)
    assert not found.cut
    assert len(found.body) < 100


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        request(check_target(f"http://127.0.0.1:{port}/"), "GET", {}, timeout=5)
