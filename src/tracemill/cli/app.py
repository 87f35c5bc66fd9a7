"""The commands and their options."""

from __future__ import annotations

from typing import Annotated

import typer

import tracemill.cli.archive as archive
import tracemill.cli.certificates as certificates
import tracemill.cli.consent as consent
import tracemill.cli.data as data
import tracemill.cli.datasets as datasets
import tracemill.cli.detection as detection
import tracemill.cli.packages as packages
import tracemill.cli.patterns as patterns
import tracemill.cli.policies as policy_commands
import tracemill.cli.privacy as privacy
import tracemill.cli.quality as quality
import tracemill.cli.reports as reports
import tracemill.cli.server as server
import tracemill.cli.ship as ship
import tracemill.cli.versions as versions
from tracemill import __version__
from tracemill.cli.output import Options

app = typer.Typer(
    name="tracemill",
    help="Turn what an LLM application does in production into training data its owner can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tracemill {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    workspace: Annotated[str | None, typer.Option(help="Folder of the workspace (default: tracemill-data).")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration file (default: tracemill.yaml).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    del version
    context.obj = Options(workspace, config, json, quiet)


app.command()(data.init)
app.command()(data.doctor)
app.command(name="import")(data.import_)
app.command()(data.deliver)
app.command()(data.records)
app.command()(data.show)
app.command()(data.search)
app.command()(data.quarantine)
app.command()(data.settings)
app.command()(reports.stats)
app.command()(reports.report)
app.command()(reports.readiness)
app.command()(patterns.patterns)
dataset = typer.Typer(help="Build and look at dataset versions.", no_args_is_help=True)
dataset.command()(datasets.build)
dataset.command(name="list")(datasets.list_)
dataset.command()(datasets.show)
dataset.command()(datasets.verify)
dataset.command()(certificates.certify)
dataset.command()(certificates.certificate)
dataset.command()(certificates.anonymity)
dataset.command()(packages.packages)
dataset.command()(versions.diff)
dataset.command()(versions.history)
dataset.command()(versions.rollback)
dataset.command()(versions.propose)
dataset.command()(versions.approve)
dataset.command()(versions.refuse)
dataset.command()(privacy.trained)
dataset.command()(privacy.models)
app.add_typer(dataset, name="dataset")
app.command()(datasets.export)
archived = typer.Typer(help="Move old records out of the database, and look after them there.", no_args_is_help=True)
archived.command()(archive.run)
archived.command(name="list")(archive.list_)
archived.command()(archive.verify)
archived.command()(archive.restore)
archived.command()(archive.compact)
app.add_typer(archived, name="archive")
app.command()(archive.storage)
app.command()(archive.prices)
app.command()(archive.maintain)
app.command()(privacy.erase)
app.command()(privacy.receipt)
app.command(name="export-user")(privacy.export_user)
detected = typer.Typer(help="Find personal data and secrets, and measure how well that goes.", no_args_is_help=True)
detected.command()(detection.scan)
detected.command(name="eval")(detection.evaluate)
policies = typer.Typer(help="The redaction policies there are, and what they do.", no_args_is_help=True)
policies.command(name="list")(policy_commands.list_)
policies.command()(policy_commands.show)
detected.add_typer(policies, name="policies")
app.add_typer(detected, name="privacy")
consented = typer.Typer(help="What people allow: shown, granted, withdrawn.", no_args_is_help=True)
consented.command()(consent.show)
consented.command()(consent.grant)
consented.command()(consent.withdraw)
consented.command(name="list")(consent.list_)
app.add_typer(consented, name="consent")
judged = typer.Typer(help="Measure how good records and data files are.", no_args_is_help=True)
judged.command()(quality.table)
judged.command()(quality.summary)
judged.command()(quality.validate)
judged.command()(quality.judge)
judged.command()(quality.agreement)
app.add_typer(judged, name="quality")
hold = typer.Typer(help="Legal holds: what must be kept, whoever asks for its erasure.", no_args_is_help=True)
hold.command(name="place")(privacy.hold_place)
hold.command(name="release")(privacy.hold_release)
hold.command(name="list")(privacy.hold_list)
app.add_typer(hold, name="hold")
audit = typer.Typer(help="The append-only log of everything privileged.", no_args_is_help=True)
audit.command(name="list")(privacy.audit_list)
audit.command(name="verify")(privacy.audit_verify)
audit.command(name="head")(privacy.audit_head)
app.add_typer(audit, name="audit")
app.command()(server.serve)
keys = typer.Typer(help="Make, list and revoke the API keys of the server.", no_args_is_help=True)
keys.command()(server.create)
keys.command(name="list")(server.list_)
keys.command()(server.revoke)
app.add_typer(keys, name="keys")
app.command(context_settings=ship.SETTINGS)(ship.ship)
app.command()(reports.demo)
