"""The statistics in a terminal: tables that fit 80 columns, and a line where a table would say too little."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracemill.drawing import wording
from tracemill.drawing.measures import Distribution, Share
from tracemill.drawing.wording import visible
from tracemill.insight.figures import Group, Statistics

_ROWS = 12


def render_terminal(statistics: Statistics, console: Console) -> None:
    """Print the statistics. Sections that nothing is known of are left out."""
    s = statistics
    _heading(s, console)
    for note in s.notes:
        console.print(Text(visible(note), style="yellow"))
    if not s.scope.records:
        console.print("Nothing is stored yet.")
        return
    _groups("Platforms", s.platforms, console)
    _groups("Models", s.models, console)
    _tools(s, console)
    _chats(s, console)
    _failures(s, console)
    _contexts(s, console)
    _trajectories(s, console)
    _patterns(s, console)
    _feedback(s, console)
    _validations(s, console)
    _decisions(s, console)
    _sessions(s, console)


def _heading(s: Statistics, console: Console) -> None:
    kinds = ", ".join(wording.records(tag, count) for tag, count in s.scope.records.items())
    where = f" of {visible(s.scope.platform)}" if s.scope.platform else ""
    if s.scope.first_day is not None:
        _line(console, f"Records{where}", f"{kinds} ({s.scope.first_day} to {s.scope.last_day})")
    _line(console, "Success", wording.outcome(s.outcomes.succeeded))
    if s.outcomes.unknown:
        _line(console, "Not stated", f"{s.outcomes.unknown:,} interactions")
    if s.chats.response_ms.count:
        times = s.chats.response_ms
        _line(
            console, "Response time", f"{wording.duration(times.median)} median, {wording.duration(times.p95)} at 95%"
        )
    tokens_in, tokens_out = (
        sum(group.input_tokens for group in s.platforms),
        sum(group.output_tokens for group in s.platforms),
    )
    if tokens_in + tokens_out:
        cost = wording.money(sum(group.cost_usd for group in s.platforms))
        _line(console, "Tokens", f"{tokens_in:,} in, {tokens_out:,} out, {cost}")


def _groups(title: str, groups: Sequence[Group], console: Console) -> None:
    rows = [
        [
            group.name,
            wording.count(group.interactions),
            _rate(group.succeeded.value, wording.interval(group.succeeded)),
            wording.duration(group.median_ms),
            wording.duration(group.p95_ms),
            wording.short_count(group.input_tokens + group.output_tokens),
            wording.money(group.cost_usd),
        ]
        for group in groups
    ]
    _table(
        console,
        title,
        ["", "interactions", "success", "median", "95%", "tokens", "cost"],
        rows,
        empty=title == "Models",
    )


def _tools(s: Statistics, console: Console) -> None:
    rows = [
        [
            tool.tool,
            wording.count(tool.called),
            wording.count(tool.ran) if tool.ran else wording.NOT_KNOWN,
            _rate(tool.succeeded.value, wording.interval(tool.succeeded)),
            wording.duration(tool.mean_ms),
            _rate(tool.trajectories.value, wording.interval(tool.trajectories)),
        ]
        for tool in s.tools
    ]
    _table(console, "Tools", ["", "calls", "runs", "runs succeeded", "mean time", "work ended well"], rows)


def _chats(s: Statistics, console: Console) -> None:
    if not s.chats.messages.count:
        return
    _distributions(
        console,
        "Conversations",
        [
            ("response time", s.chats.response_ms, wording.duration),
            ("user's message, characters", s.chats.user_characters, wording.number),
            ("assistant's message, characters", s.chats.assistant_characters, wording.number),
            ("messages in a call", s.chats.messages, wording.number),
        ],
    )
    known = f"{s.chats.conversations:,} conversations, {s.chats.users:,} known users, {s.chats.sessions:,} sessions"
    console.print(Text(known))
    for name, counted in (
        ("kinds", s.chats.kinds),
        ("channels", s.chats.channel_types),
        ("finish reasons", s.chats.finish_reasons),
        ("intents", s.chats.intents),
    ):
        _listed(console, name, counted)


def _failures(s: Statistics, console: Console) -> None:
    rows = [
        [each.cause, wording.count(each.count), wording.percent(each.share), each.example[:60]] for each in s.failures
    ]
    _table(console, "Failures by cause", ["", "count", "share", "for example"], rows, numbers=2)


def _contexts(s: Statistics, console: Console) -> None:
    rows = [
        [
            f"{name}: {each.name}",
            wording.count(each.interactions),
            _rate(each.succeeded.value, wording.interval(each.succeeded)),
        ]
        for name, contexts in s.contexts.items()
        if name not in ("platform", "model")
        for each in contexts[:_ROWS]
    ]
    _table(console, "Success by context", ["", "interactions", "success"], rows, most=5 * _ROWS)


def _trajectories(s: Statistics, console: Console) -> None:
    found = s.trajectories
    if not found.count:
        return
    _distributions(
        console,
        "Trajectories",
        [
            ("steps", found.length, wording.number),
            ("steps where it ended well", found.length_succeeded, wording.number),
            ("steps where it failed", found.length_failed, wording.number),
            ("tool calls", found.tool_calls, wording.number),
        ],
    )
    only = found.reasoning - found.both, found.acting - found.both
    ratio = (
        ""
        if found.reasoning_per_action is None
        else f" ({wording.number(found.reasoning_per_action)} reasoning steps for each acting one)"
    )
    console.print(
        Text(
            f"{found.both:,} steps reason and act, {only[0]:,} only reason, {only[1]:,} only act, "
            f"{found.neither:,} answer{ratio}"
        )
    )


def _patterns(s: Statistics, console: Console) -> None:
    rows = [
        [
            " → ".join(pattern.tools),
            wording.count(pattern.support),
            wording.percent(pattern.share),
            _rate(pattern.succeeded.value, wording.interval(pattern.succeeded)),
            wording.duration(pattern.mean_ms),
        ]
        for pattern in s.patterns
    ]
    _table(
        console,
        "Frequent sequences of tools",
        ["", "trajectories", "share", "ended well", "mean time"],
        rows,
    )


def _feedback(s: Statistics, console: Console) -> None:
    said = s.feedback
    if not said.records:
        return
    _title(console, "Feedback")
    _line(console, "About", f"{said.interactions:,} interactions ({wording.percent(said.coverage)})")
    if said.thumbs.total:
        _line(console, "Thumbs up", wording.outcome(said.thumbs))
    if said.mean_rating is not None:
        stars = ", ".join(f"{each.name}: {each.count:,}" for each in said.ratings)
        _line(console, "Ratings", f"{said.mean_rating:.1f} of 5 ({stars})")
    for each in said.scores:
        span = f"{wording.number(each.minimum)} to {wording.number(each.maximum)}"
        _line(console, f"Score {each.name}", f"{wording.number(each.mean)} mean of {each.count:,} ({span})")
    _listed(console, "kinds", said.kinds)
    _listed(console, "categories", said.categories)
    console.print(
        Text(
            f"{said.corrections:,} corrections, {said.contradicted:,} contradicted, {said.unlinked:,} linked by text only"
        )
    )


def _validations(s: Statistics, console: Console) -> None:
    found = s.validations
    if not found.records:
        return
    _title(console, "Validations and edits")
    _line(console, "Passed", wording.outcome(found.passed))
    if found.edited.total:
        _line(console, "Edited by users", wording.outcome(found.edited))
    if found.score.count:
        _line(console, "Score", f"{wording.number(found.score.mean)} mean, {wording.number(found.score.median)} median")
    _listed(console, "errors", found.errors)


def _decisions(s: Statistics, console: Console) -> None:
    found = s.decisions
    if not found.records:
        return
    _title(console, "Decisions")
    _line(console, "Went well", wording.outcome(found.succeeded))
    _line(
        console,
        "Mean",
        f"confidence {wording.percent(found.confidence.mean)}, quality {wording.percent(found.quality.mean)}, "
        f"{wording.number(found.options.mean)} options",
    )
    if found.estimated_cost_usd:
        _line(
            console,
            "Cost",
            f"{wording.money(found.estimated_cost_usd)} estimated, {wording.money(found.actual_cost_usd)} real",
        )


def _sessions(s: Statistics, console: Console) -> None:
    if s.sessions.records:
        _title(console, "Sessions")
        _line(console, "Ended", f"{s.sessions.records:,}")
        _listed(console, "reasons", s.sessions.reasons)


# -- pieces


def _title(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold"))


def _line(console: Console, name: str, value: str) -> None:
    console.print(Text.assemble((f"{visible(name):<17} ", "dim"), visible(value)))


def _listed(console: Console, name: str, counted: Sequence[Share]) -> None:
    if counted:
        shown = ", ".join(f"{visible(each.name)} {each.count:,}" for each in counted[:_ROWS])
        more = f" and {len(counted) - _ROWS:,} more" if len(counted) > _ROWS else ""
        console.print(Text.assemble((f"{name}: ", "dim"), shown + more))


def _rate(value: float | None, interval: str) -> str:
    return wording.NOT_KNOWN if value is None else f"{wording.percent(value)} ({interval})"


def _distributions(
    console: Console, title: str, entries: Sequence[tuple[str, Distribution, Callable[[float | None], str]]]
) -> None:
    rows = [
        [
            name,
            wording.count(entry.count),
            *(form(figure) for figure in (entry.mean, entry.median, entry.p95, entry.maximum)),
        ]
        for name, entry, form in entries
        if entry.count
    ]
    _table(console, title, ["", "count", "mean", "median", "95%", "largest"], rows)


def _table(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: int | None = None,
    most: int = _ROWS,
    empty: bool = False,
) -> None:
    """A table whose first column is text and the next ``numbers`` (all by default) are figures, to the right."""
    if not rows or (empty and all(row[0] == "(none)" for row in rows)):
        return
    _title(console, title)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    figures = len(columns) - 1 if numbers is None else numbers
    for index, column in enumerate(columns):
        right = 0 < index <= figures
        drawn.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows[:most]:
        drawn.add_row(*(Text(visible(cell)) for cell in row))
    console.print(drawn)
    if len(rows) > most:
        console.print(Text(f"and {len(rows) - most:,} more", style="dim"))
