"""Every setting of tracemill, once: type, default, environment names and meaning stand in :class:`Settings`.

Order of precedence: an argument of the call, then the environment, then ``tracemill.yaml`` (in the working directory,
or the file ``TRACEMILL_CONFIG`` names), then the default. Every setting is read from ``TRACEMILL_<NAME>``; the names
older collectors used are read too and listed beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tracemill.core.errors import SettingError
from tracemill.core.records import Purpose

CONFIG_FILE = "tracemill.yaml"
CONFIG_VARIABLE = "TRACEMILL_CONFIG"
_KIB, _MIB = 1024, 1024 * 1024


def _also(description: str, *names: str, secret: bool = False) -> Meta:
    return Meta(description=description, extra={"also": names, "secret": secret})


class DataCollectorSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``data_collector`` part of a Lightspeed configuration, accepted as it is; `tracemill ship` reads it."""

    enabled: bool = False
    ingress_server_url: str | None = None
    ingress_server_auth_token: str | None = None
    ingress_content_service_name: str | None = None
    collection_interval: Annotated[int, Meta(ge=0)] = 7200
    cleanup_after_send: bool = True
    connection_timeout_seconds: Annotated[int, Meta(gt=0)] = 30


class UserDataCollection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``user_data_collection`` section of a Lightspeed configuration, under its own names."""

    feedback_enabled: bool = False
    feedback_storage: str | None = None
    transcripts_enabled: bool = False
    transcripts_storage: str | None = None
    data_collector: DataCollectorSection = DataCollectorSection()


class StoragePrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one kind of storage costs, in US dollars: a list price, of the day in ``dated``.

    ``writes`` and ``reads`` are for a thousand requests, ``retrieval`` for a GB read, ``minimum_days`` is how long an object
    is paid for at least, and ``minimum_bytes`` the size it is paid for at least.
    """

    gb_month: Annotated[float, Meta(ge=0)]
    writes: Annotated[float, Meta(ge=0)] = 0.0
    reads: Annotated[float, Meta(ge=0)] = 0.0
    retrieval: Annotated[float, Meta(ge=0)] = 0.0
    minimum_days: Annotated[int, Meta(ge=0)] = 0
    minimum_bytes: Annotated[int, Meta(ge=0)] = 0
    dated: str = ""


class RetentionRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the records of one platform are kept, in days from their time; None keeps the general setting.

    After ``hot_days`` they leave the database for the archive. After ``store_days`` they are removed from both, unless a
    legal hold stands. After ``train_days`` no new dataset version and no export takes them any more.
    """

    hot_days: Annotated[int, Meta(ge=0)] | None = None
    store_days: Annotated[int, Meta(ge=1)] | None = None
    train_days: Annotated[int, Meta(ge=1)] | None = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings in force. Made by :func:`load_settings`; sizes are bytes unless the name says otherwise."""

    workspace: Annotated[str, _also("Folder that holds the spool, the store, keys, datasets and exports.")] = (
        "tracemill-data"
    )
    database: Annotated[str, _also("SQLAlchemy URL of the hot store. Empty: `store.db` (SQLite) in the workspace.")] = (
        ""
    )
    platform: Annotated[str, _also("Platform name written into records that name none.")] = "default"
    enabled: Annotated[bool, _also("Off: nothing is captured and nothing is written.", "ENABLE_DATA_COLLECTION")] = True
    keep_raw_user_ids: Annotated[bool, _also("Store raw user ids beside their pseudonyms.")] = False
    durability: Annotated[
        Literal["process", "power"],
        _also("`process`: a captured record survives kill -9. `power`: it is also synced to the device in groups."),
    ] = "process"
    sync_interval_ms: Annotated[
        float,
        Meta(gt=0),
        _also("With `durability: power`, the longest time between two syncs, in milliseconds."),
    ] = 50.0
    queue_max_records: Annotated[
        int, Meta(ge=1), _also("Records waiting in memory at most; more are dropped and counted.")
    ] = 10_000
    queue_max_bytes: Annotated[
        int, Meta(ge=1024), _also("Estimated size of the records waiting in memory at most.")
    ] = 64 * _MIB
    record_max_bytes: Annotated[
        int, Meta(ge=1024), _also("A record that is larger when encoded is dropped and counted.")
    ] = 64 * _MIB
    spool_max_bytes: Annotated[
        int,
        Meta(ge=_MIB),
        _also("Size of the spool on disk at most; beyond it new records are dropped and counted."),
    ] = 1024 * _MIB
    spool_segment_bytes: Annotated[int, Meta(ge=64 * _KIB), _also("Size of one spool segment.")] = 8 * _MIB
    delivery_batch_records: Annotated[
        int, Meta(ge=1), _also("Records handed to the store in one transaction at most.")
    ] = 1000
    delivery_interval_ms: Annotated[
        float, Meta(gt=0), _also("Pause between two looks for new records to deliver, in milliseconds.")
    ] = 200.0
    exit_timeout_seconds: Annotated[
        float,
        Meta(ge=0),
        _also("Longest wait at exit for spooled records to be delivered; the rest is delivered by the next run."),
    ] = 2.0
    raise_errors: Annotated[
        Literal["auto", "always", "never"],
        _also("Whether capture raises its own errors into the application. `auto`: only under pytest."),
    ] = "auto"
    gepeto_path: Annotated[
        str,
        _also(
            "Folder to which interactions are also written as Gepeto JSON files. Empty: not written.",
            "GEPETO_DATA_PATH",
        ),
    ] = ""
    part_threshold_bytes: Annotated[
        int,
        Meta(ge=256),
        _also("A text or artifact of at least this size is kept once by its hash, however many records hold it."),
    ] = 4 * _KIB
    store_cache_bytes: Annotated[
        int, Meta(ge=_MIB), _also("Memory for message chains kept at hand while writing and scanning.")
    ] = 32 * _MIB
    endpoint: Annotated[
        str,
        _also("URL of a tracemill server the SDK delivers to. Empty: the store of the workspace itself."),
    ] = ""
    api_key: Annotated[str, _also("API key the SDK sends to the endpoint.", secret=True)] = ""
    http_timeout_seconds: Annotated[
        float, Meta(gt=0), _also("Longest wait for the endpoint to connect, or for its next bytes.")
    ] = 10.0
    host: Annotated[str, _also("Address the server listens on. Beyond loopback only with API keys or JWT set up.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535), _also("Port the server listens on; 0 takes a free one.")] = 8321
    body_max_bytes: Annotated[
        int, Meta(ge=1024), _also("Size of a request's body at most, as sent and when decompressed.")
    ] = 64 * _MIB
    decompression_max_ratio: Annotated[
        int, Meta(ge=2), _also("How many times its compressed size a body may grow to, beyond the first MiB.")
    ] = 100
    batch_max_records: Annotated[int, Meta(ge=1), _also("Records the server takes in one request at most.")] = 10_000
    page_max_records: Annotated[int, Meta(ge=1), _also("Records the server gives in one page at most.")] = 1000
    package_max_bytes: Annotated[
        int, Meta(ge=_MIB), _also("Size of an uploaded package at most, as sent, and of the files in it together.")
    ] = 128 * _MIB
    package_file_max_bytes: Annotated[
        int, Meta(ge=1024), _also("A file of an uploaded package that is larger is refused, its mates are taken.")
    ] = 64 * _MIB
    package_max_files: Annotated[int, Meta(ge=1), _also("Files and folders in an uploaded package at most.")] = 100_000
    request_timeout_seconds: Annotated[
        float, Meta(gt=0), _also("Longest time a client may take to send a request's body.")
    ] = 60.0
    ingest_queue_bytes: Annotated[
        int,
        Meta(ge=_MIB),
        _also("Encoded records waiting for the store at most; beyond it the server answers 503 with Retry-After."),
    ] = 128 * _MIB
    rate_limit_per_minute: Annotated[
        int, Meta(ge=0), _also("Requests a minute each key may make of this process; 0 is no limit.")
    ] = 0
    cors_origins: Annotated[
        str, _also("Origins whose pages may call the server, separated by commas. Empty: none.")
    ] = ""
    shutdown_timeout_seconds: Annotated[
        float, Meta(gt=0), _also("Longest wait for requests under way when the server is told to stop.")
    ] = 20.0
    upstream_url: Annotated[
        str,
        _also("Base URL of the OpenAI-compatible API behind the proxy and the Lightspeed routes, with its `/v1`."),
    ] = ""
    upstream_api_key: Annotated[str, _also("Key for that API. It never reaches a client.", secret=True)] = ""
    upstream_model: Annotated[str, _also("Model the Lightspeed routes ask when the query names none.")] = ""
    upstream_provider: Annotated[str, _also("Provider name written into the proxy's records.")] = "openai"
    upstream_timeout_seconds: Annotated[
        float, Meta(gt=0), _also("Longest wait for the API behind the proxy to begin or go on with its answer.")
    ] = 300.0
    jwt_issuer: Annotated[str, _also("Issuer (`iss`) of accepted bearer tokens. Empty: tokens are not accepted.")] = ""
    jwt_audience: Annotated[str, _also("Audience (`aud`) a bearer token must be for.")] = "tracemill"
    jwt_jwks: Annotated[
        str,
        _also("URL or file of the issuer's public keys (JWKS). Empty: found by the issuer's OpenID configuration."),
    ] = ""
    jwt_user_claim: Annotated[str, _also("Claim that holds the user's id.")] = "sub"
    jwt_scope_claim: Annotated[
        str, _also("Claim that holds scopes (text or list); `tracemill:admin` and `admin` both mean admin.")
    ] = "scope"
    pending_quiet_seconds: Annotated[
        float,
        Meta(ge=0),
        _also("How long parts of a record that arrive apart (a span and its log events) must be quiet to be joined."),
    ] = 2.0
    pending_expire_seconds: Annotated[
        float, Meta(gt=0), _also("After how long a record is made of the parts that came, missing ones or not.")
    ] = 600.0
    data_retention_days: Annotated[
        int,
        Meta(ge=0),
        _also("Days after which records leave the database for the archive.", "DATA_RETENTION_DAYS"),
    ] = 30
    retention: Annotated[
        dict[str, RetentionRule],
        _also(
            "By platform: `hot_days`, `store_days`, `train_days` (docs/archive.md). `*` is every other one. File only."
        ),
    ] = {}
    archive_url: Annotated[
        str,
        _also(
            "Where the archive lies: a folder, `s3://bucket/prefix`, or an R2 bucket's URL. Empty: `archive` in the"
            " workspace, or the bucket that `s3_bucket_name` names."
        ),
    ] = ""
    archive_format: Annotated[
        Literal["parquet", "jsonl.gz"], _also("Format of new objects of the archive; both are read.")
    ] = "parquet"
    archive_file_bytes: Annotated[int, Meta(ge=_MIB), _also("Size up to which the archive's objects are merged.")] = (
        256 * _MIB
    )
    archive_lease_seconds: Annotated[
        float, Meta(gt=0), _also("How long one archiver may work on an object before another may take its place.")
    ] = 900.0
    archive_interval_seconds: Annotated[
        float,
        Meta(ge=0),
        _also("Pause between two maintenance runs of the server (archive, retention, open erasures); 0: none."),
    ] = 0.0
    cold_cache_bytes: Annotated[
        int, Meta(ge=_MIB), _also("Memory for columns and row groups of the archive kept at hand.")
    ] = 256 * _MIB
    prices: Annotated[
        dict[str, StoragePrice],
        _also(
            "Prices by storage, over those of docs/costs.md, such as `S3 STANDARD` or `hosted PostgreSQL`. File only."
        ),
    ] = {}
    price_hot: Annotated[str, _also("Which of the prices the database is reckoned at.")] = "hosted PostgreSQL"
    price_cold: Annotated[str, _also("Which of the prices the archive is reckoned at. Empty: by where it lies.")] = ""
    s3_endpoint: Annotated[str, _also("URL of an S3-compatible service. Empty: AWS.", "S3_ENDPOINT")] = ""
    s3_access_key: Annotated[
        str,
        _also(
            "Its access key. Empty: as the AWS tools find it (environment, files, role).", "S3_ACCESS_KEY", secret=True
        ),
    ] = ""
    s3_secret_key: Annotated[str, _also("Its secret key.", "S3_SECRET_KEY", secret=True)] = ""
    s3_bucket_name: Annotated[str, _also("Bucket of the archive.", "S3_BUCKET_NAME")] = ""
    s3_region: Annotated[str, _also("Its region; `auto` for R2.", "S3_REGION")] = "us-east-1"
    s3_storage_class: Annotated[
        str, _also("Storage class of new objects, such as STANDARD_IA. Empty: the bucket's own.", "S3_STORAGE_CLASS")
    ] = ""
    s3_timeout_seconds: Annotated[float, Meta(gt=0), _also("How long one request to the object storage may take.")] = (
        60.0
    )
    s3_retries: Annotated[int, Meta(ge=0, le=100), _also("How often a failed request to it is tried again.")] = 4
    consent_defaults: Annotated[
        dict[Purpose, Literal["granted", "denied"]],
        _also(
            "By purpose (`store`, `evaluate`, `train`, `share`): what holds for people who said nothing, `granted` or"
            " `denied`; a purpose left out is granted (docs/consent.md). File only."
        ),
    ] = {}
    subject_encryption: Annotated[
        bool, _also("Seal what people say with a key of their own, in the database and the archive (docs/erasure.md).")
    ] = False
    subject_keys: Annotated[
        str,
        _also("File of those keys, best on another device than the data. Empty: keys/subjects.db in the workspace."),
    ] = ""
    master_key: Annotated[
        str, _also("Key they are wrapped with, 64 hex digits. Empty: keys/master.key in the workspace.", secret=True)
    ] = ""
    engine: Annotated[
        Literal["native", "ray"],
        _also("What builds datasets: the cores of this machine, or a Ray cluster (docs/scale.md)."),
    ] = "native"
    workers: Annotated[
        int, Meta(ge=0), _also("Processes that work on a build at most; 0: one a core of the machine or the cluster.")
    ] = 0
    ray_address: Annotated[
        str, _also("Address of the Ray cluster, such as `ray://head:10001` or `auto`. Empty: as Ray finds it.")
    ] = ""
    judge_url: Annotated[
        str,
        _also("Base URL of the OpenAI-compatible API that judges quality, with its `/v1`. Empty: nothing is judged."),
    ] = ""
    judge_model: Annotated[str, _also("Model that judges.")] = ""
    judge_key: Annotated[str, _also("Key for that API.", secret=True)] = ""
    judge_timeout_seconds: Annotated[float, Meta(gt=0), _also("Longest wait for an answer of the judge.")] = 120.0
    redaction: Annotated[
        str,
        _also(
            "Policy by which personal data and secrets are replaced before anything is stored (docs/privacy.md):"
            " `standard`, `safe-harbor`, `mask`, or one of your own. Empty: records are stored as they come."
        ),
    ] = ""
    redact_in_process: Annotated[
        bool,
        _also("With `redaction`: already in the application's process, before the spool, in a background thread."),
    ] = False
    policies: Annotated[str, _also("YAML file of redaction policies of your own. Empty: the built-in ones only.")] = ""
    user_data_collection: Annotated[
        UserDataCollection,
        _also("Lightspeed's section of that name: transcripts and feedback also written as its JSON files. File only."),
    ] = UserDataCollection()


class SettingInfo(Struct, frozen=True):
    """One row of the settings table, for documentation and error messages."""

    name: str
    type: str
    default: Any
    environment: tuple[str, ...]
    description: str
    secret: bool = False


def _type_name(info: msgspec.inspect.Type) -> str:
    if isinstance(info, (msgspec.inspect.StructType, msgspec.inspect.DictType)):
        return "section"
    if isinstance(info, msgspec.inspect.LiteralType):
        return " | ".join(str(value) for value in info.values)
    return type(info).__name__.removesuffix("Type").lower()


def setting_table() -> list[SettingInfo]:
    """Every setting with its environment names, in the order they are declared."""
    rows = []
    info = msgspec.inspect.type_info(Settings)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        metadata: msgspec.inspect.Type = field.type
        schema: dict[str, Any] | None = None
        extra: dict[str, Any] = {}
        while isinstance(metadata, msgspec.inspect.Metadata):
            schema, extra = metadata.extra_json_schema or schema, metadata.extra or extra
            metadata = metadata.type
        section = isinstance(metadata, (msgspec.inspect.StructType, msgspec.inspect.DictType))  # text cannot hold one
        names = () if section else (f"TRACEMILL_{field.name.upper()}", *extra.get("also", ()))
        default = "" if section else field.default
        meaning = (schema or {}).get("description", "")
        rows.append(SettingInfo(field.name, _type_name(metadata), default, names, meaning, bool(extra.get("secret"))))
    return rows


def load_settings(
    arguments: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """The settings in force. ``arguments`` that are None count as not given.

    Raises SettingError, which names the setting, the value and where it was set; also for a setting nobody knows.
    """
    values = _given(arguments, environment, config)
    for name, (value, origin) in values.items():
        try:
            msgspec.convert({name: value}, Settings, strict=False)
        except msgspec.ValidationError as error:
            raise SettingError(
                f"setting {name!r} has the value {value!r} from {origin}: {error}",
                hint="docs/settings.md lists every setting with its type and default.",
            ) from None
    return msgspec.convert({name: value for name, (value, _) in values.items()}, Settings, strict=False)


def setting_origins(
    arguments: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> dict[str, str]:
    """Where the value of each setting comes from, for the same arguments as :func:`load_settings`, by its name."""
    given = _given(arguments, environment, config)
    return {row.name: given[row.name][1] if row.name in given else "the default" for row in setting_table()}


def _given(
    arguments: Mapping[str, Any] | None, environment: Mapping[str, str] | None, config: Path | None
) -> dict[str, tuple[Any, str]]:
    """Every value that is set, with where, the strongest origin of each."""
    environment = os.environ if environment is None else environment
    values: dict[str, tuple[Any, str]] = {}
    for name, value in _read_config(environment, config).items():
        values[name] = (value, "the configuration file")
    for row in setting_table():
        for variable in reversed(row.environment):
            if environment.get(variable):
                values[row.name] = (environment[variable], f"the environment variable {variable}")
    for name, value in (arguments or {}).items():
        if value is not None:
            values[name] = (value, "an argument")
    return values


def _read_config(environment: Mapping[str, str], config: Path | None) -> dict[str, Any]:
    named = config or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    path = named or Path(CONFIG_FILE)
    if not path.exists():
        if named is not None:
            raise SettingError(f"the configuration file {path} does not exist")
        return {}
    try:
        content = msgspec.yaml.decode(path.read_bytes())  # imports PyYAML, and only where there is such a file
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingError(f"the configuration file {path} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingError(f"the configuration file {path} holds no mapping of settings")
    return content
