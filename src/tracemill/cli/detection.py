"""Commands that look for personal data and secrets, and measure how well that goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.opening import Json, options_of
from tracemill.cli.output import emit_json, say, table
from tracemill.core.errors import SettingError

if TYPE_CHECKING:
    from tracemill.drawing.measures import Rate
    from tracemill.privacy.detect import Detector

Only = Annotated[list[str] | None, typer.Option("--only", help="Look for this kind alone. May be repeated.")]
Threshold = Annotated[float, typer.Option(min=0.0, max=1.0, help="Leave out findings that are less sure than this.")]


def scan(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A text, or records as JSON lines.")],
    only: Only = None,
    threshold: Threshold = 0.5,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 when anything is found.")] = False,
    json: Json = False,
) -> None:
    """Say which personal data and secrets a file holds, and where. Never prints what stands there."""
    options = options_of(context, None, json)
    detector = _detector(only, threshold)
    from tracemill.privacy.evaluate import scan as scan_file

    found = scan_file(file, detector)
    if options.json:
        emit_json({"records": found.records, "counts": dict(found.counts), "places": found.places})
    elif not found.counts:
        say(options, f"Nothing found{f' in {found.records:,} records' if found.records else ''}.")
    else:
        rows = [[kind, number, ", ".join(found.places[kind])] for kind, number in found.counts.most_common()]
        table(options, "", ["kind", "found", "first places"], rows)
    if check and found.counts:
        raise typer.Exit(1)


def evaluate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help='JSON lines: {"text": …, "spans": [{"kind", "start", "end"}]}.')],
    only: Only = None,
    threshold: Threshold = 0.5,
    json: Json = False,
) -> None:
    """Measure recall and precision of every kind on labelled texts, with 95 % Wilson intervals.

    A label is recognised when findings of its kind cover it wholly, covered when findings of any kind do.
    """
    options = options_of(context, None, json)
    detector = _detector(only, threshold)
    from tracemill.drawing.measures import rate
    from tracemill.privacy.evaluate import Score, read_labelled
    from tracemill.privacy.evaluate import evaluate as measure

    scores = {kind: one for kind, one in measure(read_labelled(file), detector).items() if not only or kind in only}
    fields = ("labelled", "recognised", "covered", "found", "right")
    whole = Score(*(sum(getattr(score, name) for score in scores.values()) for name in fields))
    rows: list[list[Any]] = []
    document: dict[str, Any] = {}
    for kind, score in [*scores.items(), ("all", whole)]:
        recall, covered = rate(score.recognised, score.labelled), rate(score.covered, score.labelled)
        precision = rate(score.right, score.found)
        rows.append([kind, score.labelled, _shown(recall), _shown(covered), score.found, _shown(precision)])
        document[kind] = {"recall": _plain(recall), "covered": _plain(covered), "precision": _plain(precision)}
    if options.json:
        emit_json(document)
        return
    table(options, "", ["kind", "labelled", "recall %", "covered %", "found", "precision %"], rows)


def _detector(only: list[str] | None, threshold: float) -> Detector:
    try:
        from tracemill.privacy.detect import Detector
    except ImportError as error:
        raise SettingError(f"{error.name} is not installed", hint="pip install 'tracemill[privacy]'") from error
    try:
        return Detector(only, threshold=threshold)
    except ValueError as error:
        raise SettingError(str(error), hint="docs/privacy.md lists the kinds.") from error


def _plain(one: Rate) -> dict[str, Any]:
    return {"successes": one.successes, "total": one.total, "value": one.value, "low": one.low, "high": one.high}


def _shown(one: Rate) -> str:
    if one.value is None or one.low is None or one.high is None:
        return "–"
    return f"{100 * one.value:.1f} ({100 * one.low:.0f}–{100 * one.high:.0f})"
