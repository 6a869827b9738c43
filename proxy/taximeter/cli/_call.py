"""`taximeter call`: one call, with its stages as a waterfall."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from taximeter.cli import _words
from taximeter.cli._errors import CommandError
from taximeter.cli._options import Config, name_of, open_ledger, read_settings

if TYPE_CHECKING:
    from taximeter.ledger import CallView

BAR_CELLS = 48


class Format(StrEnum):
    """How the call is written."""

    WATERFALL = "waterfall"
    JSON = "json"


def call(
    call_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The call's id: header x-taximeter-call-id, or `taximeter calls`."
        ),
    ],
    config: Config = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How to write.")
    ] = Format.WATERFALL,
) -> None:
    """Show one call: its facts, and where its time went.

    \b
    Examples:
      taximeter call 019ab3c4-7d10-7e21-8f3a-5b6c7d8e9fa0
      taximeter call 019ab3c4-7d10-7e21-8f3a-5b6c7d8e9fa0 --format json
    """
    name_of(call_id, "ID")
    with open_ledger(read_settings(config)) as ledger:
        view = ledger.call(call_id)
    if view is None:
        raise CommandError(
            "the ledger has no such call (a call under way is booked when it has ended)"
        )
    if format is Format.JSON:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(view.to_json()), indent=2).decode())
        return
    _print(view)


def _print(view: CallView) -> None:
    from rich.table import Table

    console = _words.console()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in facts_of(view):
        facts.add_row(name, value)
    console.print(facts)
    console.print()
    bars = Table(box=None, pad_edge=False, header_style="bold")
    bars.add_column("stage", no_wrap=True)
    bars.add_column("from", justify="right", no_wrap=True)
    bars.add_column("took", justify="right", no_wrap=True)
    bars.add_column("", no_wrap=True, min_width=BAR_CELLS)
    block = "█" if (console.encoding or "").lower().startswith("utf") else "#"
    for name, start_ns, length_ns, note in spans_of(view):
        bar = bar_of(start_ns, length_ns, view.duration_ns or 0, block)
        took = _words.nanoseconds(length_ns)
        bars.add_row(name, _words.nanoseconds(start_ns), took, f"{bar} {note}".rstrip())
    console.print(bars)


def facts_of(view: CallView) -> list[tuple[str, str]]:
    """Give what is worth saying of a call, as names and values. What is unknown is left out,
    but for what a person looks for: tokens and cost.
    """
    plain = _words.plain
    usage = view.usage
    tokens = UNKNOWN_TOKENS
    if usage is not None:
        tokens = f"{_words.number(usage.input_tokens)} in, {_words.number(usage.output_tokens)} out"
        if usage.cached_tokens:
            tokens += f", {_words.number(usage.cached_tokens)} of the input cached"
        if usage.reasoning_tokens:
            tokens += f", {_words.number(usage.reasoning_tokens)} of the output reasoning"
    tokens += f" ({view.usage_source}{f', {plain(view.count_rule)}' if view.count_rule else ''})"
    status = f", status {view.status}" if view.status is not None else ""
    error = f", {plain(view.error)}" if view.error else ""
    price = f" ({plain(view.price)})" if view.price else ""
    asked = plain(view.model)
    answered = view.response_model
    facts = [
        ("call", view.id),
        ("started", f"{_words.clock(view.started_at_ns)} UTC"),
        ("user", f"{plain(view.user)}{f' ({view.user_source})' if view.user_source else ''}"),
        ("team", plain(view.team) if view.team else ""),
        ("session", plain(view.session) if view.session else ""),
        ("tags", ", ".join(f"{plain(k)}={plain(v)}" for k, v in sorted(view.tags.items()))),
        ("upstream", plain(view.upstream)),
        ("operation", f"{view.operation}{', streamed' if view.stream else ''}"),
        ("model", f"{asked} -> {plain(answered)}" if answered not in (None, view.model) else asked),
        ("outcome", f"{view.outcome}{status}{error}"),
        ("tokens", tokens),
        ("cost", f"{_words.money(view.cost_pico)}{price}"),
        ("booked on", view.booked_on or ""),
        ("retry of", view.retry_of or ""),
        ("facts", ", ".join(view.facts)),
        ("bytes", f"{view.request_bytes:,} in, {view.response_bytes:,} out"),
        ("first token", _words.nanoseconds(view.time_to_first_token_ns)),
        ("total", _words.nanoseconds(view.duration_ns)),
        ("trace", view.trace_id or ""),
    ]
    return [(name, value) for name, value in facts if value]


UNKNOWN_TOKENS = "unknown"


def spans_of(view: CallView) -> list[tuple[str, int, int, str]]:
    """Give the lines of the waterfall: name, start and length in nanoseconds, note.

    Stages follow one another; attempts have clocks of their own.
    """
    from taximeter.call import Stage

    spans: list[tuple[str, int, int, str]] = []
    start = 0
    for stage in Stage:
        length = view.stages.get(stage)
        if length is None:
            continue
        spans.append((stage, start, length, ""))
        start += length
    tries = view.attempts or ()
    for attempt in tries if len(tries) > 1 or any(one.error for one in tries) else ():
        ended = attempt.ended_ns if attempt.ended_ns is not None else view.duration_ns or 0
        note = _words.plain(attempt.error or attempt.status)
        length = max(0, ended - attempt.started_ns)
        spans.append((f"attempt {attempt.number}", attempt.started_ns, length, note))
    return spans


def bar_of(start_ns: int, length_ns: int, total_ns: int, block: str) -> str:
    """Draw a bar on a scale of `BAR_CELLS` cells. What took any time at all is seen."""
    total = max(total_ns, start_ns + length_ns, 1)
    first = min(BAR_CELLS - 1, start_ns * BAR_CELLS // total)
    cells = max(1 if length_ns else 0, round(length_ns * BAR_CELLS / total))
    return " " * first + block * min(cells, BAR_CELLS - first)
