"""`taximeter keys`: virtual keys, to be given out in place of an API's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taximeter.cli import _words
from taximeter.cli._errors import MISUSED, CommandError
from taximeter.cli._options import Config, deadline_ns, moment_ns, read_settings

if TYPE_CHECKING:
    from taximeter.keys import KeyBook, KeyBudget, VirtualKey
    from taximeter.settings import Settings

keys = typer.Typer(
    name="keys",
    help="Virtual keys: create, list, revoke, prune.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class CreateFormat(StrEnum):
    """How a new key is written."""

    TEXT = "text"
    JSON = "json"


class ListFormat(StrEnum):
    """How keys are listed."""

    TABLE = "table"
    JSON = "json"


class Per(StrEnum):
    """Windows of budgets."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@keys.command()
def create(
    config: Config = None,
    user: Annotated[
        str | None,
        typer.Option(
            help="Who its calls are booked on. Default: whom the client names.", show_default=False
        ),
    ] = None,
    team: Annotated[str | None, typer.Option(help="Team, as --user.", show_default=False)] = None,
    tier: Annotated[
        str | None,
        typer.Option(help="Tier of its calls. Default: the user's.", show_default=False),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="When it ends: in 12h, 30d, 8w, or at 2027-01-31. Default: never.",
            show_default=False,
        ),
    ] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(help="Upstream that it is good for; may be repeated. Default: all."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model, or pattern such as 'gpt-*'; may be repeated. Default: all."),
    ] = None,
    budget_usd: Annotated[
        str | None,
        typer.Option(metavar="USD", help="What it may spend in a window.", show_default=False),
    ] = None,
    budget_tokens: Annotated[
        int | None,
        typer.Option(min=0, help="The same in tokens.", show_default=False),
    ] = None,
    per: Annotated[Per, typer.Option(help="Window of the budget, UTC.")] = Per.DAY,
    note: Annotated[str, typer.Option(help="What it is for.", show_default=False)] = "",
    format: Annotated[
        CreateFormat, typer.Option("--format", "-f", help="How to write.")
    ] = CreateFormat.TEXT,
) -> None:
    """Make a key, and show it: this once, and never again.

    The key alone goes to standard output. Only a keyed hash of it is kept, in `data_dir`.

    What a client says of itself never widens what its key may do: a --user, --team or --tier
    given here stands whatever the client names, and so does the budget. A key without --user
    is for a program that serves many: it vouches for each user that it names, and limits of a
    tier are each user's. Give a person's key a --user.

    \b
    Examples:
      taximeter keys create --user alice --budget-usd 5 --per day
      taximeter keys create --upstream openai --model 'gpt-*' --expires 30d --note "CI"
      OPENAI_API_KEY=$(taximeter keys create --user bob) program
    """
    from taximeter.keys import Terms

    settings = read_settings(config)
    _know_names(settings, tier, upstream or [])
    now_ns = time.time_ns()
    terms = Terms(
        user=user,
        team=team,
        tier=tier,
        expires_ns=deadline_ns(expires, "--expires", now_ns),
        budget=_budget(budget_usd, budget_tokens, per),
        upstreams=tuple(upstream or ()),
        models=tuple(model or ()),
        note=note,
    )
    with _open(settings) as book:
        created = book.create(terms, now_ns)
    if format is CreateFormat.JSON:
        _write_json({"key": created.credential, **_plain(created.key, now_ns)})
        return
    typer.echo(created.credential)
    typer.echo(f"Key {created.key.id} is made. Keep it now: it cannot be shown again.", err=True)


@keys.command("list")
def list_(
    config: Config = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.", show_default=False)] = None,
    valid: Annotated[
        bool, typer.Option("--valid", help="Only those that can be used now.")
    ] = False,
    format: Annotated[
        ListFormat, typer.Option("--format", "-f", help="How to write.")
    ] = ListFormat.TABLE,
) -> None:
    """List keys, the newest first. No key can be read off the list.

    The id stands in the key itself, behind `tm-`: so a key that has turned up somewhere can be
    told, and revoked.

    \b
    Examples:
      taximeter keys list --valid
      taximeter keys list --format json | jq '.[] | select(.user == "alice") | .id'
    """
    now_ns = time.time_ns()
    with _open(read_settings(config)) as book:
        found = [
            key
            for key in book.all()
            if (user is None or key.user == user) and (not valid or key.state(now_ns) == "valid")
        ]
    if format is ListFormat.JSON:
        _write_json([_plain(key, now_ns) for key in found])
    else:
        _write_table(found, now_ns)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, from the list.")],
    config: Config = None,
) -> None:
    """Make a key void for good. Workers that are running know of it within a second or two.

    Calls under way are not cut. To revoke a key again is no error.

    \b
    Example:
      taximeter keys revoke k7f3m9q2xw
    """
    with _open(read_settings(config)) as book:
        revoked = book.revoke(key, time.time_ns())
    typer.echo(f"Key {revoked.id} is revoked, since {_words.clock(revoked.revoked_ns or 0)} UTC.")


@keys.command()
def prune(
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Void for longer than: 90d, or since 2026-01-01.")
    ],
    config: Config = None,
) -> None:
    """Forget keys that were revoked or have expired. Their calls stay in the ledger.

    \b
    Example:
      taximeter keys prune --older-than 90d
    """
    before_ns = moment_ns(older_than, "--older-than")
    with _open(read_settings(config)) as book:
        forgotten = book.prune(before_ns)
    typer.echo(f"{forgotten:,} keys forgotten, void before {_words.clock(before_ns)} UTC")


@contextmanager
def _open(settings: Settings) -> Iterator[KeyBook]:
    """Give the keys of the settings' data folder, and turn their errors into a command's."""
    from taximeter.keys import KeyBook, KeysError, TermsError, hash_key_of, keys_path

    try:
        yield KeyBook(keys_path(settings.data_dir), hash_key_of(settings.data_dir))
    except TermsError as error:
        raise CommandError(str(error), MISUSED) from None
    except KeysError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(
            f"{settings.data_dir} cannot hold keys: {error.strerror}; "
            "run this as the user that the proxy runs as"
        ) from None


def _know_names(settings: Settings, tier: str | None, upstreams: list[str]) -> None:
    """Refuse a misspelt upstream, and say so of a tier that is not there yet."""
    for name in upstreams:
        if not any(fnmatchcase(known, name) for known in settings.upstreams):
            known = ", ".join(sorted(settings.upstreams))
            raise CommandError(f"--upstream: none is called so; there are: {known}", MISUSED)
    if tier is not None and not settings.has_tier(tier):
        typer.echo("taximeter: warning: no tier of this name is configured", err=True)


def _budget(usd: str | None, tokens: int | None, per: Per) -> KeyBudget | None:
    from taximeter.call import PICO_PER_USD
    from taximeter.keys import KeyBudget

    if usd is None and tokens is None:
        return None
    if usd is not None and tokens is not None:
        raise CommandError("--budget-usd, --budget-tokens: give one of them", MISUSED)
    if usd is None:
        return KeyBudget(tokens=tokens, per=per.value)
    try:
        pico = Decimal(usd) * PICO_PER_USD
        exact = Decimal(0) <= pico <= 10**18 and pico == int(pico)
    except (ArithmeticError, ValueError):
        exact = False
    if not exact:
        raise CommandError(
            "--budget-usd: give US dollars from 0 to 1000000, with at most 12 places", MISUSED
        )
    return KeyBudget(pico=int(pico), per=per.value)


def _plain(key: VirtualKey, now_ns: int) -> dict[str, Any]:
    """Give all that is told of a key."""
    budget = key.budget
    return {
        "id": key.id,
        "state": key.state(now_ns),
        "user": key.user,
        "team": key.team,
        "tier": key.tier,
        "upstreams": list(key.upstreams),
        "models": list(key.models),
        "budget": budget
        and {
            "usd": None if budget.pico is None else _usd(budget.pico),
            "tokens": budget.tokens,
            "per": budget.per,
        },
        "created_at": _moment(key.created_ns),
        "expires_at": _moment(key.expires_ns),
        "revoked_at": _moment(key.revoked_ns),
        "note": key.note,
    }


def _moment(ns: int | None) -> str | None:
    return None if ns is None else _words.clock(ns).replace(" ", "T") + "Z"


def _write_json(value: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _write_table(found: list[VirtualKey], now_ns: int) -> None:
    from taximeter.cli._table import Column, draw

    if not found:
        _words.console(stderr=True).print("No keys.")
        return
    columns = (
        Column("id"),
        Column("state"),
        Column("user", name=True),
        Column("team", rank=4, name=True),
        Column("tier", rank=3, name=True),
        Column("upstreams", rank=6, name=True),
        Column("models", rank=6, name=True),
        Column("budget", rank=2),
        Column("created (UTC)", rank=5),
        Column("expires (UTC)", rank=1),
        Column("note", rank=7, name=True),
    )
    draw(_words.console(), columns, (_row(key, now_ns) for key in found))


def _row(key: VirtualKey, now_ns: int) -> tuple[str, ...]:
    return (
        key.id,
        key.state(now_ns),
        _words.plain(key.user),
        _words.plain(key.team),
        _words.plain(key.tier),
        " ".join(key.upstreams) or "all",
        " ".join(key.models) or "all",
        _amount(key.budget),
        _words.clock(key.created_ns),
        _words.UNKNOWN if key.expires_ns is None else _words.clock(key.expires_ns),
        _words.plain(key.note),
    )


def _amount(budget: KeyBudget | None) -> str:
    if budget is None:
        return _words.UNKNOWN
    if budget.pico is None:
        return f"{_words.number(budget.tokens)} tokens/{budget.per}"
    return f"${_usd(budget.pico)}/{budget.per}"


def _usd(pico: int) -> str:
    return f"{Decimal(pico).scaleb(-12).normalize():f}"
