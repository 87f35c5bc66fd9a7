"""Commands that say how good the records are: the table of measures and what it amounts to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import Options, emit_json, gentle_progress, say
from tracemill.cli.output import table as draw

if TYPE_CHECKING:
    from tracemill.drawing.measures import Distribution
    from tracemill.insight.quality import QualitySummary

Platform = Annotated[str | None, typer.Option(help="Only this platform.")]
Threshold = Annotated[
    float, typer.Option(min=0.01, max=0.99, help="Jaccard similarity from which on texts are of one cluster.")
]


def table(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="File to write; without one, JSON lines to standard output.")] = None,
    platform: Platform = None,
    format: Annotated[  # noqa: A002 - the word for it everywhere else
        str | None, typer.Option(help="jsonl, parquet or csv (default: by the file's ending).")
    ] = None,
    threshold: Threshold = 0.8,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Write one row a record: every measure with its reason, defects of the text, the cluster of near duplicates."""
    from tracemill.insight.quality import quality_rows, write_table

    options = options_of(context, workspace, json)
    if out is None:
        _print_rows(options, platform, threshold, format)
        return
    with open_workspace(options) as opened, gentle_progress(options) as shown:
        rows = quality_rows(opened.store, platform=platform, threshold=threshold, progress=shown)
        found = write_table(rows, out, format)
    if options.json:
        emit_json({"path": str(out), **_plain(found)})
    say(options, f"Wrote {found.records:,} rows to {out}; {found.defective:,} have a defect.")


def _print_rows(options: Options, platform: str | None, threshold: float, format: str | None) -> None:  # noqa: A002
    import json as plain_json

    from tracemill.core.errors import SettingError
    from tracemill.insight.quality import quality_rows

    if format not in (None, "jsonl"):
        raise SettingError(f"{format} goes into a file", hint="Say which one with --out.")
    with open_workspace(options) as opened, gentle_progress(options) as shown:
        for row in quality_rows(opened.store, platform=platform, threshold=threshold, progress=shown):
            typer.echo(plain_json.dumps(row.flat()))


def summary(
    context: typer.Context,
    platform: Platform = None,
    threshold: Threshold = 0.8,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Say how good the records are on the whole: each measure's spread, defects by rule, how much is new."""
    from tracemill.insight.quality import quality_rows, summarise

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened, gentle_progress(options) as shown:
        found = summarise(quality_rows(opened.store, platform=platform, threshold=threshold, progress=shown))
    if options.json:
        emit_json(_plain(found))
    _show(options, found)


def validate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON lines, or one JSON array.")],
    kind: Annotated[str, typer.Option(help="embedding (text and embedding each) or llm (examples).")] = "llm",
    limit: Annotated[
        list[str] | None, typer.Option(help="A limit of validation_config as name=value. May be repeated.")
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field of the text, with --kind embedding.")] = "text",
    embedding_field: Annotated[str, typer.Option(help="Field of the embedding.")] = "embedding",
    json: Json = False,
) -> None:
    """Validate a file of training data: exit code 1 when something is wrong with it."""
    from tracemill.core.errors import SettingError
    from tracemill.quality.reading import columns, read_samples
    from tracemill.quality.validator import DataValidator

    options = options_of(context, None, json)
    if kind not in ("embedding", "llm"):
        raise SettingError(f"--kind is {kind!r}", hint="Say embedding or llm.")
    validator = DataValidator(_limits(limit or []))
    samples = read_samples(file)
    if kind == "llm":
        result = validator.validate_llm_data(samples)
    else:
        result = validator.validate_embedding_data(*columns(samples, text_field, embedding_field))
    if options.json:
        emit_json(result)
    _show_result(options, result)
    if not result["is_valid"]:
        raise typer.Exit(1)


def judge(
    context: typer.Context,
    platform: Platform = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Compare every two trials of one task, in both orders.")
    ] = False,
    max_calls: Annotated[
        int | None, typer.Option(min=0, help="Calls at most, those that are tried again included.")
    ] = None,
    per_minute: Annotated[float, typer.Option(min=0, help="Calls a minute at most; 0 is no limit.")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Calls at a time.")] = 4,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Have a language model judge the records. Their content is sent to judge_url; scores are kept as feedback.

    It is redacted first by the policy that the file of policies names for the purpose evaluate, if it names one.
    What this model has judged before is not asked again, so a run that was stopped goes on where it was.
    """
    from dataclasses import asdict

    from tracemill.quality.judge_client import Pace

    options = options_of(context, workspace, json)
    pace = Pace(per_minute=per_minute, most=max_calls)
    with open_workspace(options) as opened, gentle_progress(options) as shown:
        report = opened.judge(platform=platform, pairs=pairs, pace=pace, workers=workers, progress=shown)
    if options.json:
        emit_json(asdict(report))
    what = "pairs" if pairs else "records"
    say(options, f"{report.judged:,} {what} judged with {report.calls:,} calls; {report.known:,} were judged before.")
    if report.redaction:
        say(options, f"What was sent was redacted by {report.redaction.partition('#')[0]}.")
    if report.denied:
        say(options, f"{report.denied:,} records are of people who do not allow their evaluation.")
    if report.contradicts:
        say(options, f"{report.contradicts:,} pairs were judged otherwise in the other order, and count as ties.")
    if report.unknown:
        draw(options, "", ["no answer", "times"], [[name, count] for name, count in sorted(report.unknown.items())])
    if report.spent:
        say(options, "The budget of --max-calls is spent; the next run goes on here.")


def agreement(context: typer.Context, platform: Platform = None, workspace: Folder = None, json: Json = False) -> None:
    """Say how far the judge and people agree, where both judged: Cohen's kappa and agreement, with 95 % intervals."""
    import msgspec

    from tracemill.insight.agreement import agreements

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        found = agreements(opened.store, platform=platform)
    if options.json:
        emit_json(msgspec.to_builtins(found))
    if not found:
        say(options, "There is no record that both a person and the judge have judged.")
        return
    rows = [
        [
            f"{one.human} / {one.judge}",
            one.both,
            f"{_shown(one.agree.value)} ({_shown(one.agree.low)}–{_shown(one.agree.high)})",
            f"{_shown(one.kappa)} ({_shown(one.kappa_low)}–{_shown(one.kappa_high)})",
        ]
        for one in found
    ]
    draw(options, "", ["people / judge", "records", "agree", "kappa"], rows)


def _limits(given: list[str]) -> dict[str, Any]:
    import json as plain_json

    from tracemill.core.errors import SettingError

    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        try:
            found[name] = plain_json.loads(value)
        except ValueError:
            raise SettingError(f"--limit {one}: a name, = and a number are expected") from None
        if not equals:
            raise SettingError(f"--limit {one}: a name, = and a number are expected")
    return found


def _show_result(options: Options, result: dict[str, Any]) -> None:
    say(options, result["message"])
    numbers = [
        [name, f"{value:.4g}" if isinstance(value, float) else value]
        for name, value in result["metrics"].items()
        if not isinstance(value, dict)
    ]
    draw(options, "", ["metric", "value"], numbers)
    for title in ("problems", "warnings"):
        if result[title]:
            rows = [[one["index"], one["reason"], one["detail"]] for one in result[title]]
            draw(options, "", ["sample", title, "detail"], rows)


def _plain(found: QualitySummary) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def _show(options: Options, found: QualitySummary) -> None:
    if not found.records:
        say(options, "There is no record to judge yet.")
        return
    spreads: dict[str, Distribution] = {
        "score": found.score,
        **{str(name): one for name, one in found.measures.items()},
    }
    rows = [[name, one.count, *map(_shown, (one.mean, one.p25, one.median, one.p75))] for name, one in spreads.items()]
    draw(options, "", ["measure", "known", "mean", "p25", "median", "p75"], rows)
    if found.defects:
        ordered = sorted(found.defects.items(), key=lambda item: (-item[1], item[0]))
        draw(options, "", ["defect", "records"], [[name, count] for name, count in ordered])
    say(options, f"{found.defective:,} of {found.records:,} records have a defect.")
    if found.coverage is not None:
        say(options, found.coverage.sentence())
    else:
        say(options, "Near duplicates were not looked for: pip install 'tracemill[quality]'.")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
