"""Where the token and the identity of an upload come from: said by hand, an OpenShift cluster, or Red Hat's single sign-on.

A token is fetched when it is first needed and again when the receiver refuses it. No error, log line or ``repr`` shows one,
and neither does any show what an answer said: answers may echo what was sent.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from tracemill.core.errors import DeliveryError, SettingError, TargetError
from tracemill.core.network import check_target, request

TIMEOUT = 10.0
"""Longest wait for a token, in seconds, as in the existing exporter."""
IDENTITY = "lightspeed-exporter"
_CLOUD = "cloud.openshift.com"
_SCOPE = "api.console"
_PULL_PATH = "/api/v1/namespaces/openshift-config/secrets/pull-secret"
_VERSION = "/apis/config.openshift.io/v1/clusterversions/version"
_IDENTITY = re.compile(r"[\x21-\x7e]{1,200}")


class Credentials(Protocol):
    """A token and an identity that are fetched when they are needed."""

    def token(self) -> str:
        """The token. Raises DeliveryError when it cannot be had now, SettingError when it never can."""

    def identity(self) -> str:
        """What the receiver is told about who sends. Raises as :meth:`token`."""

    def refresh(self) -> bool:
        """Forget the token, so that the next one is fetched anew; False when that can only give the same one."""


class ManualCredentials:
    """A token that somebody wrote somewhere; ``read`` looks there again."""

    def __init__(self, read: Callable[[], str], identity_id: str = "") -> None:
        self._read = read
        self._identity = identity_id or IDENTITY
        self._token = ""

    def token(self) -> str:
        """See :class:`Credentials`."""
        if not self._token:
            self._token = self._read().strip()
        if not self._token:
            raise SettingError(
                "there is no token for the receiver",
                hint="Set INGRESS_SERVER_AUTH_TOKEN, ingress_server_auth_token or ingress_server_auth_token_file.",
            )
        return self._token

    def identity(self) -> str:
        """See :class:`Credentials`."""
        return self._identity

    def refresh(self) -> bool:
        """See :class:`Credentials`."""
        before, self._token = self._token, ""
        return self.token() != before


class OpenShiftCredentials:
    """The token of a cluster's pull secret, and the cluster's id, asked of its API with the pod's service account."""

    def __init__(self, url: str, token_file: Path, ca_file: Path) -> None:
        self._url = url.rstrip("/")
        self._token_file, self._ca_file = token_file, ca_file
        self._token = self._identity = ""

    def token(self) -> str:
        """See :class:`Credentials`."""
        if not self._token:
            secret = self._ask(_PULL_PATH)
            try:
                config = msgspec.json.decode(base64.b64decode(_at(secret, "data", ".dockerconfigjson"), validate=True))
            except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise DeliveryError("the cluster's pull secret cannot be read") from None
            self._token = _at(config, "auths", _CLOUD, "auth")
        return self._token

    def identity(self) -> str:
        """See :class:`Credentials`."""
        if not self._identity:
            self._identity = _checked_identity(_at(self._ask(_VERSION), "spec", "clusterID"))
        return self._identity

    def refresh(self) -> bool:
        """See :class:`Credentials`."""
        self._token = ""
        return True

    def _ask(self, path: str) -> Any:
        try:  # read each time: the kubelet replaces it before it ends
            account = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(
                f"the service account's token {self._token_file} cannot be read ({type(error).__name__})",
                hint="Mode openshift is for pods of a cluster, with a service account that may read the pull secret.",
            ) from error
        headers = {"Authorization": f"Bearer {account}", "Accept": "application/json"}
        return _ask("GET", self._url + path, headers, b"", "the cluster's API", private=True, ca_file=self._ca_file)


class SsoCredentials:
    """The token of a service account: client credentials give an access token, and that gives the receiver's."""

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        sso_url: str,
        accounts_url: str,
        identity_id: str = "",
        ca_file: Path | None = None,
        allow_private: bool = False,
    ) -> None:
        """Raises SettingError without a client id or secret."""
        if not client_id or not client_secret:
            raise SettingError(
                "mode sso needs a client id and a client secret", hint="Set CLIENT_ID and CLIENT_PULL_PATH."
            )
        self._form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            "scope": _SCOPE,
        }
        self._sso_url, self._accounts_url = sso_url, accounts_url
        self._ca_file, self._private = ca_file, allow_private
        self._token, self._identity = "", identity_id

    def token(self) -> str:
        """See :class:`Credentials`."""
        if not self._token:
            self._fetch()
        return self._token

    def identity(self) -> str:
        """See :class:`Credentials`. Unless it was given it is the account's name in the access token."""
        if not self._identity:
            self._fetch()
        return self._identity

    def refresh(self) -> bool:
        """See :class:`Credentials`."""
        self._token = ""
        return True

    def _fetch(self) -> None:
        body = urlencode(self._form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        found = self._post(self._sso_url, headers, body, "the single sign-on")
        access = _at(found, "access_token")
        headers = {"Authorization": f"Bearer {access}", "Accept": "application/json"}
        self._token = _at(self._post(self._accounts_url, headers, b"", "the accounts API"), "auths", _CLOUD, "auth")
        self._identity = self._identity or _checked_identity(name_in(access))

    def _post(self, url: str, headers: dict[str, str], body: bytes, whom: str) -> Any:
        return _ask("POST", url, headers, body, whom, private=self._private, ca_file=self._ca_file)


def name_in(token: str) -> str:
    """``preferred_username`` or ``sub`` of a JSON Web Token that is not verified: it only labels what we send ourselves."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, msgspec.MsgspecError, RecursionError):
        return "unknown"
    found = claims.get("preferred_username") or claims.get("sub") if isinstance(claims, dict) else None
    return found if isinstance(found, str) else "unknown"


def _checked_identity(text: str) -> str:
    if not _IDENTITY.fullmatch(text):
        raise SettingError("the identity has characters that no header has", hint="Give one with --identity-id.")
    return text


def _at(value: Any, *path: str) -> str:
    """The text at a path of names. Raises DeliveryError, which names the path alone."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(value, str) or not value:
        raise DeliveryError(f"the answer has no {'.'.join(path)}")
    return value


def _ask(
    method: str, url: str, headers: dict[str, str], body: bytes, whom: str, *, private: bool, ca_file: Path | None
) -> Any:
    """The JSON of an answer. Raises DeliveryError, SettingError; neither says anything of what was sent or answered."""
    try:
        target = check_target(url, allow_private=private)
        context = ssl.create_default_context(cafile=ca_file) if target.scheme == "https" else None
        sent = {**headers, "User-Agent": "tracemill", "Content-Length": str(len(body))}
        answer = request(target, method, sent, [body] if body else (), timeout=TIMEOUT, context=context)
    except TargetError as error:
        raise DeliveryError(f"{whom} is not asked: {error.message}", hint=error.hint) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DeliveryError(f"{whom} cannot be reached ({type(error).__name__})") from None
    if answer.status != 200:
        raise DeliveryError(f"{whom} gives no token: it answers with status {answer.status}")
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise DeliveryError(f"{whom} answers with something that is no JSON") from None
