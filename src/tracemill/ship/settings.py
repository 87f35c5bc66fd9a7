"""What `tracemill ship` is told: flags, YAML keys and environment names of `lightspeed-to-dataverse-exporter`, and some more.

Order of precedence: a flag, the environment, the YAML file, the ``user_data_collection`` section of a Lightspeed
configuration, the default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from tracemill.core.errors import SettingError
from tracemill.core.settings import UserDataCollection
from tracemill.ship.tokens import Credentials, ManualCredentials, OpenShiftCredentials, SsoCredentials
from tracemill.ship.upload import Receiver

_MIB = 1024 * 1024
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SECTION = "user_data_collection"
SECRETS = ("ingress_server_auth_token", "client_secret")
_ENVIRONMENT = {
    "ingress_server_auth_token": "INGRESS_SERVER_AUTH_TOKEN",
    "client_id": "CLIENT_ID",
    "client_secret": "CLIENT_SECRET",
}
_STATE = ".tracemill-ship"
LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_HEADER = r"^[\x20-\x7e]*$"


class ShipSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings in force; sizes are bytes, times seconds. The keys down to ``client_secret`` are the existing exporter's.

    ``collection_interval`` 0 is one cycle and an exit code. ``data_dir`` may be empty when ``spool`` is on: then the records
    that finished processes left in the workspace are shipped, and the workspace holds the state. ``quiet_seconds`` is how long
    a file must not have been touched. ``max_unsent_bytes`` is what unsent files may take before they are compressed.
    """

    mode: Literal["manual", "openshift", "sso"] = "manual"
    data_dir: str = ""
    service_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$&^_.+-]*$")] = ""
    ingress_server_url: str = ""
    ingress_server_auth_token: str = ""
    identity_id: Annotated[str, Meta(pattern=_HEADER, max_length=200)] = ""
    collection_interval: Annotated[int, Meta(ge=0)] = 7200
    cleanup_after_send: bool = True
    ingress_connection_timeout: Annotated[float, Meta(gt=0)] = 30
    retry_interval: Annotated[float, Meta(gt=0)] = 300
    allowed_subdirs: tuple[str, ...] = ()
    log_level: LogLevel = "INFO"
    rich_logs: bool = False
    client_id: str = ""
    client_secret: str = ""
    ingress_server_auth_token_file: str = ""
    state_dir: str = ""
    spool: bool = False
    workspace: str = ""
    quiet_seconds: Annotated[float, Meta(ge=0)] = 5
    max_package_bytes: Annotated[int, Meta(ge=1024)] = 100 * _MIB
    max_unsent_bytes: Annotated[int, Meta(ge=0)] = 200 * _MIB
    redact: bool = False
    idempotency_key: bool = False
    allow_private_targets: bool = False
    ca_file: str = ""
    sso_url: str = ""
    sso_accounts_url: str = ""
    kubernetes_url: str = ""
    kubernetes_token_file: str = f"{_ACCOUNT}/token"
    kubernetes_ca_file: str = f"{_ACCOUNT}/ca.crt"

    def __repr__(self) -> str:
        return f"ShipSettings({shown(self)})"  # a traceback or a log line must not show a secret

    @property
    def state(self) -> Path:
        """The folder of the ledger, the outbox, the lock and what is set aside."""
        return Path(self.state_dir or Path(self.data_dir or self.workspace) / _STATE)

    @property
    def receiver(self) -> Receiver:
        """Where packages go."""
        return Receiver(
            self.ingress_server_url,
            self.service_id,
            self.ingress_connection_timeout,
            self.allow_private_targets,
            self.ca_file,
            self.idempotency_key,
        )


def load_ship_settings(
    flags: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
    section: UserDataCollection | None = None,
) -> ShipSettings:
    """The settings in force. ``flags`` that are None count as not given; ``section`` is Lightspeed's, of ``tracemill.yaml``.

    Raises SettingError for a value that cannot be used, a key nobody knows and for what is missing; it shows no secret.
    """
    environment = os.environ if environment is None else environment
    given: dict[str, tuple[Any, str]] = {}
    for values, origin in (
        (_of_section(section or UserDataCollection(), folders=not flags.get("spool")), _SECTION),
        (_of_file(config), f"the file {config}"),
        ({name: environment[key] for name, key in _ENVIRONMENT.items() if environment.get(key)}, "the environment"),
        ({name: value for name, value in flags.items() if value is not None}, "a flag"),
    ):
        given.update({name: (value, origin) for name, value in values.items()})
    for name, (value, origin) in given.items():
        _convert({name: value}, name, origin)
    settings = _convert({name: value for name, (value, _) in given.items()}, "", "")
    return _complete(settings, environment)


def _convert(values: dict[str, Any], name: str, origin: str) -> ShipSettings:
    try:
        return msgspec.convert(values, ShipSettings, strict=False)
    except msgspec.ValidationError as error:
        reason = "it is not what it should be" if name in SECRETS else str(error)
        raise SettingError(
            f"setting {name!r} from {origin} cannot be used: {reason}", hint="docs/ship.md lists every setting."
        ) from None


def _complete(settings: ShipSettings, environment: Mapping[str, str]) -> ShipSettings:
    """Check what belongs together, and fill in what depends on other things."""
    if not settings.data_dir and not settings.spool:
        raise SettingError(
            "there is no data_dir", hint="Say --data-dir FOLDER, or --spool for a workspace's own records."
        )
    if settings.data_dir and settings.spool:
        raise SettingError("--data-dir and --spool exclude each other", hint="Run one `tracemill ship` for each.")
    if settings.data_dir and not Path(settings.data_dir).is_dir():
        raise SettingError(f"the data_dir {settings.data_dir} is no folder")
    for name in ("service_id", "ingress_server_url"):
        if not getattr(settings, name):
            raise SettingError(
                f"there is no {name}", hint=f"Say --{name.replace('_', '-')}, or write it into the file."
            )
    if re.search(r"[\x00-\x20\x7f@]", settings.ingress_server_url):
        raise SettingError(
            "ingress_server_url has a user, a password or characters in it that no URL has",
            hint="The token goes into INGRESS_SERVER_AUTH_TOKEN.",
        )
    stage = ".stage" if environment.get("USE_SSO_STAGE") is not None else ""
    path = "/auth/realms/redhat-external/protocol/openid-connect/token"
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host or "kubernetes.default.svc"
    return msgspec.structs.replace(
        settings,
        sso_url=settings.sso_url or f"https://sso{stage}.redhat.com{path}",
        sso_accounts_url=settings.sso_accounts_url
        or f"https://api{stage}.openshift.com/api/accounts_mgmt/v1/access_token",
        kubernetes_url=settings.kubernetes_url or f"https://{host}:{port}",
    )


def _of_file(config: Path | None) -> dict[str, Any]:
    """The keys of a YAML file: the exporter's, or a whole Lightspeed configuration, of which one section is read."""
    if config is None:
        return {}
    try:
        content = msgspec.yaml.decode(config.read_bytes())
    except OSError as error:
        raise SettingError(f"the file {config} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError:  # what is wrong may stand beside a token, so it is not shown
        raise SettingError(f"the file {config} is no YAML") from None
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingError(f"the file {config} holds no mapping of settings")
    if _SECTION not in content:
        return _with_level(content)
    try:
        section = msgspec.convert(content[_SECTION], UserDataCollection, strict=False)
    except msgspec.ValidationError as error:
        raise SettingError(f"{_SECTION} in {config} cannot be used: {error}") from None
    ours = {key: value for key, value in content.items() if key in ShipSettings.__struct_fields__}
    return {**_of_section(section), **_level_of_service(content.get("service")), **_with_level(ours)}


def _level_of_service(service: Any) -> dict[str, Any]:
    """The ``log_level`` of a Lightspeed configuration's ``service``, where it is one of ours; nothing else of it is read."""
    level = service.get("log_level") if isinstance(service, dict) else None
    wanted = level.upper() if isinstance(level, str) else ""
    return {"log_level": wanted} if wanted in get_args(LogLevel) else {}


def _with_level(content: dict[str, Any]) -> dict[str, Any]:
    level = content.get("log_level")
    return {**content, "log_level": level.upper()} if isinstance(level, str) else content


def _of_section(section: UserDataCollection, *, folders: bool = True) -> dict[str, Any]:
    """Lightspeed's own section in the exporter's terms. Its two folders, if wanted, become one with two names below."""
    collector = section.data_collector
    values: dict[str, Any] = {
        "ingress_server_url": collector.ingress_server_url,
        "ingress_server_auth_token": collector.ingress_server_auth_token,
        "service_id": collector.ingress_content_service_name,
    }
    if collector.enabled or collector.ingress_server_url:
        values |= {
            "collection_interval": collector.collection_interval,
            "cleanup_after_send": collector.cleanup_after_send,
            "ingress_connection_timeout": collector.connection_timeout_seconds,
        }
    kept = {name: value for name, value in values.items() if value is not None}
    storages = [folder for folder in (section.feedback_storage, section.transcripts_storage) if folder]
    if collector.enabled and storages and folders:
        parents = {str(PurePosixPath(folder).parent) for folder in storages}
        if len(parents) > 1:
            raise SettingError(
                "feedback_storage and transcripts_storage lie in different folders",
                hint="Say --data-dir, and run one `tracemill ship` for each of them.",
            )
        kept |= {"data_dir": parents.pop(), "allowed_subdirs": [PurePosixPath(folder).name for folder in storages]}
    return kept


def token_reader(
    flags: Mapping[str, Any],
    settings: ShipSettings,
    *,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Callable[[], str]:
    """Looks for the token where it was written, again each time: somebody may have written a new one there."""
    environment = os.environ if environment is None else environment
    name = "ingress_server_auth_token"

    def read() -> str:
        said = flags.get(name) or environment.get(_ENVIRONMENT[name])
        if said:
            return str(said)
        if settings.ingress_server_auth_token_file:
            try:
                return Path(settings.ingress_server_auth_token_file).read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingError(
                    f"the token's file {settings.ingress_server_auth_token_file} cannot be read"
                    f" ({type(error).__name__})"
                ) from None
        return str(_of_file(config).get(name) or settings.ingress_server_auth_token)

    return read


def credentials_of(settings: ShipSettings, read: Callable[[], str]) -> Credentials:
    """Where tokens come from in the mode that is set. Raises SettingError when the mode lacks something."""
    if settings.mode == "openshift":
        return OpenShiftCredentials(
            settings.kubernetes_url, Path(settings.kubernetes_token_file), Path(settings.kubernetes_ca_file)
        )
    if settings.mode == "sso":
        return SsoCredentials(
            settings.client_id,
            settings.client_secret,
            sso_url=settings.sso_url,
            accounts_url=settings.sso_accounts_url,
            identity_id=settings.identity_id,
            ca_file=Path(settings.ca_file) if settings.ca_file else None,
            allow_private=settings.allow_private_targets,
        )
    return ManualCredentials(read, settings.identity_id)


def shown(settings: ShipSettings) -> dict[str, Any]:
    """The settings for people to read: whether a secret is set, never what it is."""
    values: dict[str, Any] = msgspec.to_builtins(settings)
    return {**values, **{name: "(set)" if values[name] else "" for name in SECRETS}, "state_dir": str(settings.state)}
