"""The commands and their options."""

from __future__ import annotations

from typing import Annotated

import typer

import tracemill.cli.data as data
import tracemill.cli.datasets as datasets
import tracemill.cli.reports as reports
import tracemill.cli.server as server
import tracemill.cli.ship as ship
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
app.command()(data.quarantine)
app.command()(data.settings)
app.command()(reports.stats)
app.command()(reports.report)
app.command()(reports.readiness)
dataset = typer.Typer(help="Build and look at dataset versions.", no_args_is_help=True)
dataset.command()(datasets.build)
dataset.command(name="list")(datasets.list_)
dataset.command()(datasets.show)
dataset.command()(datasets.verify)
app.add_typer(dataset, name="dataset")
app.command()(datasets.export)
app.command()(server.serve)
keys = typer.Typer(help="Make, list and revoke the API keys of the server.", no_args_is_help=True)
keys.command()(server.create)
keys.command(name="list")(server.list_)
keys.command()(server.revoke)
app.add_typer(keys, name="keys")
app.command(context_settings=ship.SETTINGS)(ship.ship)
app.command()(reports.demo)
