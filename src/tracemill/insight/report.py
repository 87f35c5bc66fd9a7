"""The report as one HTML file that needs nothing else: no network, no script, no font.

The page's content security policy allows its own style sheet, by its hash, and nothing more; so even a mistake in the
escaping of what comes from records could load and run nothing.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tracemill.core.errors import ExportError
from tracemill.core.ids import now
from tracemill.dataset.files import write_whole
from tracemill.drawing import wording
from tracemill.drawing.charts import WIDTH, Series, bars, columns, histogram, rates
from tracemill.drawing.measures import Distribution, Share
from tracemill.drawing.page import page_environment, page_style
from tracemill.drawing.wording import visible
from tracemill.insight.calendar import Period, periods
from tracemill.insight.figures import Group, Statistics

SECTIONS = (
    ("over-time", "Over time"),
    ("platforms", "Platforms and models"),
    ("tools", "Tools"),
    ("chats", "Conversations"),
    ("outcomes", "Success and failure"),
    ("trajectories", "Trajectories"),
    ("feedback", "Feedback"),
    ("validations", "Validations and edits"),
    ("decisions", "Decisions"),
    ("sessions", "Sessions"),
    ("method", "How this was counted"),
)
_MOST_BARS, _MOST_SHARES, _MOST_ROWS = 12, 10, 200


def write_html(statistics: Statistics, path: Path, *, title: str = "tracemill report") -> None:
    """Write the report to a file, whole or not at all. Raises ExportError when the file cannot be written."""
    page = render_html(statistics, title=title, made=now()).encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page)
    except OSError as error:
        raise ExportError(f"the report {path} cannot be written: {error}", hint="Choose another file.") from error


def render_html(statistics: Statistics, *, title: str, made: datetime) -> str:
    """The report as the text of one HTML file."""
    environment = page_environment("tracemill.insight")
    style, style_hash = page_style()
    unit, columns_of_time = periods(statistics.days)
    return environment.get_template("report.html.j2").render(
        s=statistics,
        title=title,
        made=made,
        version=importlib.metadata.version("tracemill"),
        style=style,
        style_hash=style_hash,
        sections=SECTIONS,
        unit=unit,
        periods=columns_of_time,
        charts=_charts(statistics, columns_of_time),
        context_charts=_context_charts(statistics),
        tiles=_tiles(statistics),
        share_rows=_share_rows,
        group_head=_group_head,
        group_rows=_group_rows,
        exact=statistics.chats.response_ms.exact and statistics.chats.user_characters.exact,
        **_rows(statistics),
        **_sentences(statistics),
    )


# -- charts


def _charts(s: Statistics, columns_of_time: Sequence[Period]) -> dict[str, Markup | None]:
    with_runs = [tool for tool in s.tools if tool.succeeded.total][:_MOST_BARS]
    with_work = [tool for tool in s.tools if tool.trajectories.total][:_MOST_BARS]
    used = [(tool.tool, float(max(tool.called, tool.ran))) for tool in s.tools[:_MOST_BARS]]
    steps = s.trajectories
    kinds = [
        ("reasons and acts", steps.both),
        ("only acts", steps.acting - steps.both),
        ("only reasons", steps.reasoning - steps.both),
        ("answers", steps.neither),
    ]
    return {
        "time_wide": _time(columns_of_time, 2 * WIDTH, "wide"),
        "time_narrow": _time(columns_of_time, WIDTH, "narrow"),
        "tools": bars([(name, value, wording.count(value)) for name, value in used], title="Calls by tool"),
        "tool_rates": rates([(tool.tool, tool.succeeded) for tool in with_runs], title="Success of tool runs")
        if with_runs
        else None,
        "tool_trajectories": rates([(tool.tool, tool.trajectories) for tool in with_work], title="Success by tool")
        if with_work
        else None,
        "response": _histogram(s.chats.response_ms, "Response time in milliseconds"),
        "user_length": _histogram(s.chats.user_characters, "Length of users' messages in characters"),
        "causes": bars(
            [(each.cause, float(each.count), wording.count(each.count)) for each in s.failures[:_MOST_BARS]],
            title="Failures by cause",
            style="failed",
        ),
        "length": _histogram(steps.length, "Steps in a trajectory"),
        "steps": bars([(name, float(value), wording.count(value)) for name, value in kinds], title="What steps do"),
        "feedback": _share_bars(s.feedback.kinds, "Feedback by kind"),
        "ratings": _share_bars(s.feedback.ratings, "Ratings from 1 to 5") if s.feedback.ratings else None,
        "scores": _histogram(s.validations.score, "Validation scores"),
    }


def _time(columns_of_time: Sequence[Period], width: int, style: str) -> Markup:
    series = [
        Series("succeeded", "succeeded", [float(period.succeeded) for period in columns_of_time]),
        Series("failed", "failed", [float(period.failed) for period in columns_of_time]),
        Series("not stated", "unknown", [float(period.unknown) for period in columns_of_time]),
    ]
    labels = [period.label for period in columns_of_time]
    return columns(labels, series, title="Interactions over time", width=width, style=style)


def _histogram(distribution: Distribution, title: str) -> Markup:
    marks = []
    if distribution.median is not None and distribution.p95 is not None:
        marks = [("median", distribution.median), ("95%", distribution.p95)]
    return histogram(distribution.bins, title=title, marks=marks)


def _share_bars(shares: Sequence[Share], title: str) -> Markup:
    return bars([(each.name, float(each.count), wording.count(each.count)) for each in shares], title=title)


def _context_charts(s: Statistics) -> list[tuple[str, Markup, list[list[str]]]]:
    found = []
    for name, contexts in s.contexts.items():
        shown = [(each.name, each.succeeded) for each in contexts[:_MOST_BARS]]
        rows = [
            [
                each.name,
                wording.count(each.interactions),
                wording.percent(each.succeeded.value),
                wording.interval(each.succeeded),
            ]
            for each in contexts[:_MOST_ROWS]
        ]
        found.append((name, rates(shown, title=f"Success by {name}"), rows))
    return found


# -- tables


def _rows(s: Statistics) -> dict[str, Any]:
    return {
        "day_rows": _day_rows(s),
        "tool_table": _tool_table(s),
        "cause_rows": [
            [each.cause, wording.count(each.count), wording.percent(each.share), each.example]
            for each in s.failures[:_MOST_ROWS]
        ],
        "chat_rows": [
            _distribution_row("response time", s.chats.response_ms, wording.duration),
            _distribution_row("characters of a user's message", s.chats.user_characters),
            _distribution_row("characters of an assistant's message", s.chats.assistant_characters),
            _distribution_row("messages an interaction was given", s.chats.messages),
        ],
        "trajectory_rows": [
            _distribution_row("steps", s.trajectories.length),
            _distribution_row("steps where it ended well", s.trajectories.length_succeeded),
            _distribution_row("steps where it failed", s.trajectories.length_failed),
            _distribution_row("tool calls", s.trajectories.tool_calls),
        ],
        "session_rows": [
            _distribution_row("duration", s.sessions.duration_ms, wording.duration),
            _distribution_row("messages", s.sessions.messages),
        ],
        "pattern_rows": [
            [
                _flow(pattern.tools),
                wording.count(pattern.support),
                wording.percent(pattern.share),
                wording.count(pattern.occurrences),
                _rate_cell(pattern.succeeded.value, wording.interval(pattern.succeeded)),
                wording.duration(pattern.mean_ms),
            ]
            for pattern in s.patterns
        ],
        "score_rows": [
            [each.name, wording.count(each.count), *map(wording.number, (each.mean, each.minimum, each.maximum))]
            for each in s.feedback.scores
        ],
    }


def _day_rows(s: Statistics) -> list[list[str]]:
    return [
        [
            day.day.isoformat(),
            *map(
                wording.count,
                (
                    *(day.interactions, day.succeeded, day.failed, day.unknown, day.thumbs_up, day.thumbs_down),
                    *(day.input_tokens, day.output_tokens),
                ),
            ),
            wording.money(day.cost_usd),
        ]
        for day in s.days[-366:]
    ]


def _tool_table(s: Statistics) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Head and rows; what only steps can tell has columns only where there are steps."""
    steps = any(tool.ran for tool in s.tools)
    runs = [("runs", "n"), ("failed", "n"), ("success of runs", "n"), ("mean time", "n")] if steps else []
    head = [("tool", "name"), ("calls", "n"), *runs, ("work that ended well", "n"), ("usual parameters", "name")]
    rows = []
    for tool in s.tools[:_MOST_ROWS]:
        row = [tool.tool, wording.count(tool.called)]
        if steps:
            row += [
                wording.count(tool.ran) if tool.ran else wording.NOT_KNOWN,
                wording.count(tool.failed) if tool.ran else wording.NOT_KNOWN,
                _rate_cell(tool.succeeded.value, wording.interval(tool.succeeded)),
                wording.duration(tool.mean_ms),
            ]
        row += [
            _rate_cell(tool.trajectories.value, wording.interval(tool.trajectories)),
            ", ".join(each.name for each in tool.parameters) or wording.NOT_KNOWN,
        ]
        if steps:
            row.append(", ".join(f"{each.name} ({each.count})" for each in tool.failures) or wording.NOT_KNOWN)
        rows.append(row)
    return [*head, ("usual failures", "name")] if steps else head, rows


def _rate_cell(value: float | None, interval: str) -> str:
    return wording.NOT_KNOWN if value is None else f"{wording.percent(value)} ({interval})"


def _flow(tools: Sequence[str]) -> Markup:
    items = Markup("").join(Markup("<li>{}</li>").format(visible(tool)) for tool in tools)
    return Markup('<ol class="flow">{}</ol>').format(items)


def _distribution_row(name: str, distribution: Distribution, form: Any = wording.number) -> list[str]:
    figures = (distribution.mean, distribution.median, distribution.p95, distribution.maximum)
    return [name, wording.count(distribution.count), *map(form, figures)]


def _share_rows(shares: Sequence[Share]) -> list[list[str]]:
    rows = [[each.name, wording.count(each.count), wording.percent(each.share)] for each in shares[:_MOST_SHARES]]
    rest = shares[_MOST_SHARES:]
    if rest:
        number, share = sum(each.count for each in rest), sum(each.share for each in rest)
        rows.append([f"({len(rest)} more)", wording.count(number), wording.percent(share)])
    return rows


def _group_head(name: str) -> list[tuple[str, str]]:
    figures = ("interactions", "success", "median time", "95th percentile", "tokens in", "tokens out", "cost")
    return [(name, "name"), *((figure, "n") for figure in figures)]


def _group_rows(groups: Sequence[Group]) -> list[list[str]]:
    return [
        [
            group.name,
            wording.count(group.interactions),
            _rate_cell(group.succeeded.value, wording.interval(group.succeeded)),
            wording.duration(group.median_ms),
            wording.duration(group.p95_ms),
            wording.count(group.input_tokens),
            wording.count(group.output_tokens),
            wording.money(group.cost_usd),
        ]
        for group in groups[:_MOST_ROWS]
    ]


# -- sentences


def _tiles(s: Statistics) -> list[tuple[str, str, str]]:
    tokens_in = sum(group.input_tokens for group in s.platforms)
    tokens_out = sum(group.output_tokens for group in s.platforms)
    cost = sum(group.cost_usd for group in s.platforms)
    known, times, said = s.outcomes.succeeded, s.chats.response_ms, s.feedback
    thumbs = f", {wording.percent(said.thumbs.value)} of thumbs up" if said.thumbs.total else ""
    return [
        ("Interactions", wording.count(s.outcomes.interactions), f"in {sum(s.scope.records.values()):,} records"),
        (
            "Success",
            wording.percent(known.value),
            f"95% interval {wording.interval(known)}; {known.total:,} state it" if known.total else "none states it",
        ),
        (
            "Response time",
            wording.duration(times.median),
            f"median; 95% within {wording.duration(times.p95)}" if times.count else "none states it",
        ),
        ("With feedback", wording.percent(said.coverage), f"{said.interactions:,} interactions{thumbs}"),
        ("Tool calls", wording.count(sum(tool.called for tool in s.tools)), f"of {len(s.tools):,} tools"),
        (
            "Tokens",
            wording.short_count(tokens_in + tokens_out) if tokens_in + tokens_out else wording.NOT_KNOWN,
            f"{tokens_in:,} in, {tokens_out:,} out" if tokens_in + tokens_out else "none states them",
        ),
        (
            "Cost",
            wording.money(cost) if cost else wording.NOT_KNOWN,
            "as the records state it" if cost else "none states it",
        ),
    ]


def _sentences(s: Statistics) -> dict[str, str]:
    known, trails, said = s.outcomes.succeeded, s.trajectories, s.feedback
    ratio = (
        f" For each acting step there are {wording.number(trails.reasoning_per_action)} that reason."
        if trails.reasoning_per_action is not None
        else ""
    )
    rating = f" The mean rating is {said.mean_rating:.1f} of 5." if said.mean_rating is not None else ""
    return {
        "outcome_sentence": f"Success: {wording.outcome(known)}. Interactions that do not say: "
        f"{s.outcomes.unknown:,}. Refused by the model: {s.outcomes.refused:,}. Answers cut off: {s.outcomes.truncated:,}.",
        "trajectory_sentence": f"Trajectories: {trails.count:,}, of which {trails.from_steps:,} were read from steps and the "
        f"rest from messages.{ratio}",
        "feedback_sentence": f"Records: {said.records:,}, about {said.interactions:,} interactions. Thumbs up: "
        f"{wording.outcome(said.thumbs)}.{rating} With a correction: {said.corrections:,}. Interactions with a thumb up and "
        f"a thumb down: {said.contradicted:,}. Linked by their text only: {said.unlinked:,}.",
        "validation_sentence": f"Checks: {s.validations.records:,}. Passed: {wording.outcome(s.validations.passed)}. "
        f"Changed by the user: {wording.outcome(s.validations.edited)}.",
        "decision_sentence": _decision_sentence(s),
        "record_sentence": ", ".join(wording.records(tag, count) for tag, count in s.scope.records.items())
        + (";" if s.scope.records else "nothing;"),
    }


def _decision_sentence(s: Statistics) -> str:
    found = s.decisions
    text = (
        f"Choices: {found.records:,}, among {wording.number(found.options.mean)} options on average. "
        f"Went well: {wording.outcome(found.succeeded)}. Mean confidence {wording.percent(found.confidence.mean)}, mean "
        f"quality of the outcome {wording.percent(found.quality.mean)}."
    )
    if found.estimated_cost_usd:
        text += (
            f" Cost: {wording.money(found.estimated_cost_usd)} estimated, {wording.money(found.actual_cost_usd)} real."
        )
    if found.estimated_time_ms:
        text += f" Time: {wording.duration(found.estimated_time_ms)} estimated, {wording.duration(found.actual_time_ms)} real."
    return text
