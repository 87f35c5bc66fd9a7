"""The command that takes what applications wrote into folders to a receiver."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.opening import Folder, Json, options_of, settings_of
from tracemill.cli.output import Options, emit_json, say
from tracemill.core.errors import SettingError

if TYPE_CHECKING:
    from tracemill.ship.report import Report
    from tracemill.ship.settings import ShipSettings

SETTINGS = {"allow_extra_args": True}  # --allowed-subdirs a b c, as the existing exporter has it
Text = str | None


def ship(
    context: typer.Context,
    config: Annotated[Text, typer.Option(help="YAML file of the exporter, or Lightspeed's own.")] = None,
    mode: Annotated[Text, typer.Option(help="Where the token comes from: manual, openshift or sso.")] = None,
    data_dir: Annotated[Text, typer.Option(help="Folder whose .json and .jsonl files are shipped.")] = None,
    spool: Annotated[bool, typer.Option("--spool", help="Ship what finished processes left in the spool.")] = False,
    service_id: Annotated[Text, typer.Option(help="Service name in the packages' content type.")] = None,
    ingress_server_url: Annotated[Text, typer.Option(help="Where packages go.")] = None,
    ingress_server_auth_token: Annotated[
        Text, typer.Option(help="Token for it; rather set INGRESS_SERVER_AUTH_TOKEN: others see arguments.")
    ] = None,
    ingress_server_auth_token_file: Annotated[Text, typer.Option(help="File that holds the token.")] = None,
    identity_id: Annotated[Text, typer.Option(help="Who sends (default: lightspeed-exporter).")] = None,
    collection_interval: Annotated[
        int | None, typer.Option(help="Seconds between cycles (default: 7200); 0: one cycle.")
    ] = None,
    ingress_connection_timeout: Annotated[
        float | None, typer.Option(help="Longest wait for the receiver, in seconds (default: 30).")
    ] = None,
    retry_interval: Annotated[
        float | None, typer.Option(help="Longest pause after a failure, in seconds (default: 300).")
    ] = None,
    no_cleanup: Annotated[
        bool, typer.Option("--no-cleanup", help="Delete no file, not even one that arrived.")
    ] = False,
    allowed_subdirs: Annotated[
        list[str] | None, typer.Option(help="Only these folders of the data folder; several may follow.")
    ] = None,
    log_level: Annotated[Text, typer.Option(help="DEBUG, INFO, WARNING or ERROR (default: INFO).")] = None,
    rich_logs: Annotated[bool, typer.Option("--rich-logs", help="Coloured log lines.")] = False,
    client_id: Annotated[Text, typer.Option(help="Client id of mode sso; also CLIENT_ID.")] = None,
    client_secret: Annotated[Text, typer.Option(help="Its secret; rather set CLIENT_SECRET.")] = None,
    state_dir: Annotated[
        Text, typer.Option(help="Folder of ledger and outbox (default: .tracemill-ship in the data folder).")
    ] = None,
    quiet_seconds: Annotated[
        float | None, typer.Option(help="How long a file must not have been touched (default: 5).")
    ] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Take out what names a person before it leaves.")] = False,
    allow_private_targets: Annotated[
        bool, typer.Option("--allow-private-targets", help="Let the receiver have a private address.")
    ] = False,
    print_config_and_exit: Annotated[
        bool, typer.Option("--print-config-and-exit", help="Print the settings in force, without secrets, and stop.")
    ] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Upload finished files of a folder, as lightspeed-to-dataverse-exporter does, without losing or repeating any."""
    given = locals()  # every option, by the name of its setting
    if context.args and (allowed_subdirs is None or any(one.startswith("-") for one in context.args)):
        raise typer.BadParameter(f"unexpected argument: {context.args[0]}")
    options = options_of(context, workspace, json)
    _run(options, _flags(given, context.args), Path(config) if config else None, print_only=print_config_and_exit)


_VALUES = (
    *("mode", "data_dir", "service_id", "ingress_server_url", "ingress_server_auth_token", "identity_id"),
    *("ingress_server_auth_token_file", "collection_interval", "ingress_connection_timeout", "retry_interval"),
    *("client_id", "client_secret", "state_dir", "quiet_seconds"),
)
_SWITCHES = ("spool", "rich_logs", "redact", "allow_private_targets")


def _flags(given: dict[str, Any], more: list[str]) -> dict[str, Any]:
    """The options as settings; None for those that were not given."""
    flags = {name: given[name] for name in _VALUES} | {name: given[name] or None for name in _SWITCHES}
    flags["cleanup_after_send"] = False if given["no_cleanup"] else None
    flags["allowed_subdirs"] = [*given["allowed_subdirs"], *more] if given["allowed_subdirs"] else None
    flags["log_level"] = given["log_level"].upper() if given["log_level"] else None
    return flags


def _run(options: Options, flags: dict[str, Any], config: Path | None, *, print_only: bool) -> None:
    from tracemill.ship.redaction import redact_json
    from tracemill.ship.run import Stop
    from tracemill.ship.run import ship as ship_files
    from tracemill.ship.settings import credentials_of, load_ship_settings, shown, token_reader

    ours = settings_of(options)
    if flags.get("spool"):
        flags["workspace"] = ours.workspace
    settings = load_ship_settings(flags, config=config, section=ours.user_data_collection)
    if print_only:
        emit_json(shown(settings))
        return
    _log(settings, options)
    credentials = credentials_of(settings, token_reader(flags, settings, config=config))
    stop = Stop()

    def said(report: Report) -> None:
        if options.json:
            emit_json(report.as_json())
            sys.stdout.flush()
            return
        for problem in report.problems:
            logging.getLogger("tracemill.ship").error("%s", problem)
        say(options, report.as_text())

    with stop.on_signals():
        well = ship_files(
            settings, credentials, said=said, redaction=redact_json if settings.redact else None, stop=stop
        )
    if not well:
        raise typer.Exit(1)


def _log(settings: ShipSettings, options: Options) -> None:
    """Log lines on standard error; reports have standard output for themselves."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if settings.rich_logs:
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), markup=False)
    logger = logging.getLogger("tracemill")
    level = getattr(logging, settings.log_level, None)
    if level is None:
        raise SettingError(f"{settings.log_level!r} is no log level")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.ERROR if options.quiet else level)
