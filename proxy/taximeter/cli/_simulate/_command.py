"""`taximeter simulate`: a scenario in virtual time, under the limits of a configuration."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taximeter.cli import _words
from taximeter.cli._errors import MISUSED, CommandError
from taximeter.cli._options import read_settings

if TYPE_CHECKING:
    from taximeter.admission import Policy
    from taximeter.cli._simulate._file import ScenarioFile
    from taximeter.cli._simulate._summary import Figures, Summary


class Format(StrEnum):
    """How the figures are written."""

    TABLE = "table"
    JSON = "json"


def simulate(
    file: Annotated[Path, typer.Argument(metavar="SCENARIO", help="File of the scenario (YAML).")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Configuration whose limits hold. Default: none, and every setting's default.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Another seed than the scenario's.", min=0, show_default=False),
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write.")] = Format.TABLE,
) -> None:
    """Show what limits would do to whom, before they are set.

    Runs the code that decides about calls, in virtual time, against users and a model server that
    exist in numbers only: who waits how long, who is refused and why, what retries add, how
    evenly the server is shared, what is spent. Nothing is called. The same scenario and seed give
    the same figures.

    Exit code 2 says that the scenario or the configuration cannot be used; every problem is
    printed, with its line and a hint.

    \b
    Examples:
      taximeter simulate scenario.yaml
      taximeter simulate scenario.yaml --config taximeter.yaml
      taximeter simulate scenario.yaml --format json
    """
    from taximeter.admission import simulation
    from taximeter.cli._simulate._file import ScenarioFile
    from taximeter.cli._simulate._summary import Summary
    from taximeter.settings import SettingsError, read_document

    try:
        said = read_document(file, ScenarioFile)
    except SettingsError as error:
        raise CommandError(f"the scenario cannot be used\n{error}", MISUSED) from None
    if seed is not None:
        said = said.model_copy(update={"seed": seed})
    policy = _policy(file, said, config)
    scenario = said.scenario(policy)
    members = said.members()
    summary = Summary.of(
        simulation.simulate(scenario),
        members,
        {user: _weight(policy, user) for users in members.values() for user in users},
        capacity=said.server.capacity,
        priced=said.prices is not None,
        settle_seconds=said.settle_seconds,
    )
    if format is Format.JSON:
        import msgspec

        encoded = msgspec.json.encode(summary.to_json())
        typer.echo(msgspec.json.format(encoded, indent=2).decode())
    else:
        _write(summary)


def _policy(file: Path, said: ScenarioFile, config: Path | None) -> Policy:
    """Give the policy of the configuration, with the scenario's users in their tiers."""
    from taximeter.admission import Policy, User
    from taximeter.relay import policy_of

    policy = Policy() if config is None else policy_of(read_settings(config))
    if config is not None and said.upstream not in policy.upstreams:
        known = ", ".join(sorted(policy.upstreams))
        raise _wrong(file, "upstream", "the configuration has none of this name", known)
    users = dict(policy.users)
    tiers = policy.tier_names()
    members = said.members()
    for name, group in said.users.items():
        if group.tier is None:
            continue
        if group.tier not in tiers:
            known = ", ".join(sorted(tiers))
            raise _wrong(file, f"users.{name}.tier", "there is no tier of this name", known)
        users.update(dict.fromkeys(members[name], User(tier=group.tier)))
    return replace(policy, users=users)


def _wrong(file: Path, key: str, message: str, known: str) -> CommandError:
    problem = f"{file}: {key}: {message}\n    hint: there are: {known}"
    return CommandError(f"the scenario cannot be used\n{problem}", MISUSED)


def _weight(policy: Policy, user: str) -> float:
    from taximeter.admission import Request, resolve

    return resolve(policy, Request(upstream="", user=user, input_tokens=0)).tier.weight


def _write(summary: Summary) -> None:
    from taximeter.cli._table import Column, draw

    console = _words.console()
    columns = (
        Column("group", name=True),
        Column("users", rank=7),
        Column("calls", rank=1),
        Column("completed", rank=2),
        Column("refused", rank=1),
        Column("failed", rank=2),
        Column("wait p50", rank=4),
        Column("p95", rank=3),
        Column("p99", rank=1),
        Column("tokens/s", rank=5),
        Column("spent", rank=6),
    )
    lines = [_line(name, figures, summary.seconds) for name, figures in summary.groups.items()]
    total = _line("total", summary.total, summary.seconds) if len(lines) > 1 else None
    draw(console, columns, lines, total)
    console.print()
    for what, value in _facts(summary):
        console.print(f"{what:<24}{value}")


def _line(name: str, figures: Figures, seconds: float) -> tuple[str, ...]:
    return (
        _words.plain(name),
        _words.number(figures.users),
        _words.number(figures.calls),
        _words.number(figures.completed),
        _words.number(figures.refused_in_all),
        _words.number(figures.failed),
        _words.seconds(figures.wait(0.5)),
        _words.seconds(figures.wait(0.95)),
        _words.seconds(figures.wait(0.99)),
        f"{figures.tokens / seconds:,.0f}",
        _words.money(figures.spent_pico),
    )


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """Give what is of the run as a whole, in words."""
    total = summary.total
    refused = ", ".join(
        f"{_words.number(count)} {reason}" for reason, count in total.refused.most_common()
    )
    told = _words.seconds(total.refusal(0.99))
    busy = summary.in_flight_mean
    found = summary.limit_found
    return [
        ("refused", f"{refused}; told within {told} (p99)" if refused else "none"),
        (
            "completed",
            f"{total.completed / summary.seconds:,.2f} calls a second, "
            f"{total.tokens / summary.seconds:,.0f} tokens a second",
        ),
        (
            "under way",
            f"{'-' if busy is None else f'{busy:.1f}'} on average, of {summary.capacity} places"
            + ("" if found is None else f"; the limit found is {found}"),
        ),
        ("waiting, at most", _words.number(summary.waiting_most)),
        (
            "attempts",
            f"{_words.number(summary.attempts)}, "
            + (
                "none admitted"
                if summary.amplification is None
                else f"{summary.amplification:.3f} for each call admitted"
            )
            + f"; {_words.number(summary.server_refusals)} refused by the server",
        ),
        ("breaker opened", _words.number(summary.breaker_opened)),
        (
            "fairness (Jain)",
            "-"
            if summary.jain is None
            else f"{summary.jain:.3f} of tokens by weight; 1 is equal shares",
        ),
        ("seed, seconds", f"{summary.seed}, {summary.seconds:g}"),
    ]
