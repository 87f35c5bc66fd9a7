"""Addresses of other machines, checked before anything is sent to them, and requests that go to what was checked.

A name is resolved once: every address it stands for is judged, and the connection is made to one of the judged addresses
(with the name in TLS and in ``Host``), so that an answer of the name service that changes in between changes nothing. No
redirect is followed: whoever asks is given the 3xx as it is, and credentials go nowhere else. No proxy is used.

What is refused follows the ranges of RFC 6890 and the OWASP Server Side Request Forgery Prevention Cheat Sheet.
"""

from __future__ import annotations

import email.message
import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from tracemill.core.errors import TargetError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_REPLY = 1024 * 1024
"""Bytes of an answer that are read at most, unless the caller says otherwise."""
REPLY_PATIENCE = 3
"""A whole answer may take so many times the timeout of a single wait: one that drips in is given up."""
_PORTS = {"https": 443, "http": 80}
_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_METADATA = frozenset({"169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"})
"""Where clouds (AWS and others, Alibaba, Azure) tell a machine its own secrets: refused whatever is allowed."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """An address that was checked. ``addresses`` are what its name stood for, in the resolver's order; ``path`` has the query.

    ``loopback`` says that it is this machine.
    """

    scheme: str
    host: str
    port: int
    addresses: tuple[str, ...]
    path: str
    loopback: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request. ``body`` is cut at the limit asked for, ``cut`` says that it was."""

    status: int
    headers: email.message.Message = field(repr=False)
    body: bytes = field(repr=False)
    cut: bool = False


def check_target(
    url: str,
    *,
    allow_private: bool = False,
    allowed_hosts: Collection[str] = (),
    allow_loopback: bool = True,
) -> Target:
    """The parts of ``url`` and the addresses it stands for now.

    ``allow_private`` lets private ranges pass (RFC 1918, RFC 4193, RFC 6598), and so do names in ``allowed_hosts`` for
    themselves; addresses that are link-local, multicast, unspecified, reserved, IPv4 dressed as IPv6 or a cloud's metadata
    service never pass. ``http`` is for ``localhost`` and loopback addresses alone, and not even these pass when
    ``allow_loopback`` is off. Raises TargetError.
    """
    scheme, host, port, path = _parts(url)
    literal = _literal(host)
    loopback = host == "localhost" or (literal is not None and literal.is_loopback)
    if loopback and not allow_loopback:
        raise TargetError(f"{host} is this machine, which is not allowed as a target")
    if scheme == "http" and not loopback:
        raise TargetError(
            f"{host} would be talked to over an unencrypted line", hint="Use https; http is for this machine alone."
        )
    found = (literal,) if literal is not None else _resolve(host, port)
    private = allow_private or host in {name.lower() for name in allowed_hosts}
    for address in found:
        problem = "" if loopback and address.is_loopback else _problem(address, private)
        if loopback and not address.is_loopback:
            problem = "not this machine"
        if problem:
            shown = str(address) if literal is not None else f"{host} stands for {address}, which"
            raise TargetError(
                f"{shown} is {problem}: nothing is sent there",
                hint="" if private or problem not in _PRIVATE else "Allow private ranges if this is meant.",
            )
    return Target(scheme, host, port, tuple(dict.fromkeys(map(str, found))), path, loopback)


def _parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of a URL that has nothing odd about it. Raises TargetError, which never shows userinfo."""
    if not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise TargetError(
            "the URL has characters that no URL has", hint="Write names of other scripts in their ASCII form (xn--…)."
        )
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise TargetError("the URL cannot be read: its host or port is none") from error
    if split.scheme not in _PORTS or not split.netloc:
        raise TargetError("the URL does not begin with https:// and a host")
    if "@" in split.netloc:
        raise TargetError(
            "the URL has a user or password in it", hint="Credentials go into a header, never into a URL."
        )
    if split.fragment:
        raise TargetError("the URL has a fragment (#…), which is never sent")
    host = (split.hostname or "").lower().removesuffix(".")
    if not host or port == 0:
        raise TargetError("the URL has no usable host and port")
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    return split.scheme, host, port or _PORTS[split.scheme], path


def _literal(host: str) -> Address | None:
    """The address a host is written as, None for a name. Raises TargetError for an address in disguise and for no name."""
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError:
            raise TargetError(f"{host!r} is no IPv6 address") from None
        if address.scope_id:
            raise TargetError(f"{host!r} names a link of this machine")
        return address
    if _NUMBER.fullmatch(host.rsplit(".", 1)[-1]):  # every client would read it as a number, each in its own way
        try:
            return ipaddress.IPv4Address(host)
        except ValueError:
            raise TargetError(f"{host!r} is an address in disguise (decimal, octal, hexadecimal or short)") from None
    if not _NAME.fullmatch(host):
        raise TargetError(f"{host!r} is no host name")
    return None


def _resolve(host: str, port: int) -> tuple[Address, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TargetError(f"the name {host} cannot be resolved ({type(error).__name__})") from error
    if not found:
        raise TargetError(f"the name {host} stands for no address")
    return tuple(ipaddress.ip_address(str(place[0])) for *_, place in found)


_PRIVATE = ("in a private range", "this machine")


def _problem(address: Address, allow_private: bool) -> str:
    """Why nothing is sent to an address; empty when something may be."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:  # what an IPv6-only network gives for an IPv4 address (RFC 6052)
            return _problem(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF), allow_private)
        dressed = address.ipv4_mapped or address.sixtofour or address.teredo
        if dressed or (address in _COMPATIBLE and int(address) > 1):
            return "an IPv4 address dressed as IPv6"
        if address.scope_id or address.is_site_local:
            return "link-local"
    checks = (
        (str(address) in _METADATA, "a cloud's metadata service"),
        (address.is_unspecified, "no address"),
        (address.is_multicast, "multicast"),
        (address.is_link_local, "link-local"),
    )
    for holds, name in checks:
        if holds:
            return name
    if address.is_loopback:
        return "" if allow_private else "this machine"
    if address.is_global:
        return ""
    shared = isinstance(address, ipaddress.IPv4Address) and address in ipaddress.IPv4Network("100.64.0.0/10")
    local = any(address in network for network in _LOCAL if network.version == address.version)
    if shared or local:
        return "" if allow_private else "in a private range"
    return "in a reserved range"


_LOCAL = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


def open_connection(
    target: Target, timeout: float, context: ssl.SSLContext | None = None
) -> http.client.HTTPConnection:
    """A connection to one of the target's addresses, with the name in TLS. ``timeout`` is for each wait, in seconds.

    Raises OSError (ssl.SSLError and TimeoutError are among it).
    """
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.host, target.port, timeout=timeout)
    connection.auto_open = 0  # it never connects by itself, which would be by name
    raw = _dial(target, timeout)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.scheme == "https":
            raw = (context or ssl.create_default_context()).wrap_socket(raw, server_hostname=target.host)
    except BaseException:  # whatever it was, the socket does not stay open
        raw.close()
        raise
    connection.sock = raw
    return connection


def _dial(target: Target, timeout: float) -> socket.socket:
    failure: OSError | None = None
    for address in target.addresses:
        try:
            return socket.create_connection((address, target.port), timeout)
        except OSError as error:
            failure = error
    raise failure or OSError("the target has no address")


def request(
    target: Target,
    method: str,
    headers: dict[str, str],
    body: Iterable[bytes] = (),
    *,
    timeout: float,
    limit: int = MAX_REPLY,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request and give its answer, whatever its status is. Redirects are not followed.

    ``body`` comes in pieces, each of which may take ``timeout`` seconds to be sent; ``headers`` say its Content-Length.
    At most ``limit`` bytes of the answer are read. Raises OSError and http.client.HTTPException.
    """
    connection = open_connection(target, timeout, context)
    try:
        connection.putrequest(method, target.path)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        _send(connection, body)
        guard = _guard(connection.sock, timeout * REPLY_PATIENCE)
        try:
            with connection.getresponse() as answer:
                content = answer.read(limit + 1)
        finally:
            guard.cancel()
    finally:
        connection.close()
    return Answer(answer.status, answer.headers, content[:limit], len(content) > limit)


def _send(connection: http.client.HTTPConnection, body: Iterable[bytes]) -> None:
    """Send a body; whoever stops listening half way has perhaps said why, so that its answer is read all the same."""
    try:
        for piece in body:
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        pass


def _guard(connection: socket.socket, seconds: float) -> threading.Timer:
    """Shut a connection down after a while, whatever it is doing: a timeout of the socket ends single waits only."""

    def shut() -> None:
        with suppress(OSError):  # it is closed already
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not TLS's own, which pulls the rug from a reader

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    return timer
