"""Commands that run the server and manage its keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import emit_json, say, table
from tracemill.core.access import LIVE_KEYS, SCOPES, ApiKey, Scope, make_secret
from tracemill.core.errors import SettingError
from tracemill.core.ids import now

_DURATION = re.compile(r"(\d+)([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: 8321).")] = None,
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the store (default: in the workspace).")
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(help="Base URL of the OpenAI-compatible API to pass calls to.")
    ] = None,
    workspace: Folder = None,
) -> None:
    """Listen for records, traces, feedback and model calls. Stops on Ctrl-C or SIGTERM without losing anything."""
    from tracemill.core.settings import load_settings

    options = options_of(context, workspace)
    arguments = {
        "workspace": options.workspace,
        "host": host,
        "port": port,
        "database": database,
        "upstream_url": upstream,
    }
    settings = load_settings(arguments, config=Path(options.config) if options.config else None)
    try:
        from tracemill.server.run import serve as serve_forever
    except ImportError as error:
        raise SettingError(
            f"the server's packages are not installed ({error.name} is missing)",
            hint="Install them with: pip install 'tracemill[server]'",
        ) from error
    address = f"http://{settings.host}:{settings.port}"
    say(
        options, f"tracemill serves {settings.workspace} on {address} (documentation: {address}/docs). Ctrl-C stops it."
    )
    serve_forever(settings, quiet=options.quiet)


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for, such as the application's name.")],
    scope: Annotated[list[str], typer.Option(help="ingest, user, reviewer or admin; may be given more than once.")],
    project: Annotated[str | None, typer.Option(help="Platform whose records alone the key reads and writes.")] = None,
    user: Annotated[str | None, typer.Option(help="Whose data a key of scope user may see: the raw user id.")] = None,
    expires: Annotated[str | None, typer.Option(help="After how long the key ends: 90d, 12h, 30m.")] = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Make an API key and print it, once: only its hash is kept. Two keys of one name may live at a time."""
    from tracemill.core.pseudonym import load_pseudonymizer

    unknown = [word for word in scope if word not in SCOPES]
    if unknown:
        raise SettingError(f"there is no scope {unknown[0]!r}", hint=f"Scopes are {', '.join(SCOPES)}.")
    options = options_of(context, workspace, json)
    moment = now()
    with open_workspace(options, make=True) as opened:
        same = [key for key in opened.store.api_keys() if key.name == name and key.live(moment)]
        if len(same) >= LIVE_KEYS:
            raise SettingError(
                f"{len(same)} keys named {name!r} are live already",
                hint=f"Revoke the older one first: tracemill keys revoke {same[0].id}",
            )
        pseudonymizer = load_pseudonymizer(opened.path, keep_raw=opened.settings.keep_raw_user_ids)
        identity, secret, digest = make_secret()
        key = ApiKey(
            id=identity,
            name=name,
            digest=digest,
            scopes=_scopes(scope),
            created=moment,
            project=project,
            user=None if user is None else pseudonymizer.user(user),
            expires=None if expires is None else moment + _duration(expires),
        )
        opened.store.put_api_key(key)
        opened.audit("keys.create", key.id, name=name, scopes=list(key.scopes), project=project)
    if options.json:
        emit_json({**_row(key), "key": secret})
        return
    typer.echo(secret)
    say(options, f"This is key {identity} with scope {', '.join(key.scopes)}. It is shown only now.")


def list_(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Print every key without its secret."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        rows = [_row(key) for key in opened.store.api_keys()]
    if options.json:
        emit_json(rows)
        return
    if not rows:
        say(options, "There are no keys: a server of this workspace answers programs on its own machine only.")
        return
    columns = ["id", "name", "scopes", "project", "state", "created", "last used"]
    cells = [
        [row["id"], row["name"], " ".join(row["scopes"]), row["project"] or "", row["state"], row["created"],
         row["last_used"] or "never"]
        for row in rows
    ]  # fmt: skip
    table(options, "", columns, cells)


def revoke(
    context: typer.Context,
    identity: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `tracemill keys list` prints it.")],
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """End a key for good. Running servers turn it away within five seconds."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        key = opened.store.api_key(identity)
        if key is None:
            raise SettingError(f"there is no key {identity!r}", hint="See `tracemill keys list`.")
        if key.revoked is None:
            key = msgspec.structs.replace(key, revoked=now())
            opened.store.put_api_key(key)
            opened.audit("keys.revoke", key.id, name=key.name)
    if options.json:
        emit_json(_row(key))
    say(options, f"Key {identity} ({key.name}) is revoked.")


def _scopes(words: list[str]) -> tuple[Scope, ...]:
    return tuple(scope for scope in SCOPES if scope in words)


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None or len(found[1]) > 6:
        raise SettingError(f"{text!r} is no duration", hint="Write 90d, 12h or 30m.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _row(key: ApiKey) -> dict[str, Any]:
    state = "revoked" if key.revoked else "live" if key.live(now()) else "expired"
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "project": key.project,
        "user": None if key.user is None else key.user.pseudonym,
        "state": state,
        "created": _time(key.created),
        "expires": _time(key.expires),
        "last_used": _time(key.last_used),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")
