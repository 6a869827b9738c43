"""Two weeks of calls that a new ledger begins with: people, models, and what they cost."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import Any

from taximeter.call import Outcome, Usage
from taximeter.ledger import Entry, Ledger
from tests.ledger.make import HOUR, commit, entry

DAYS = 14
_CALLS_A_DAY = 150

MODELS = ["gpt-5.4-mini", "gpt-5.4", "claude-sonnet-4-5", "house-7b"]
MODEL_WEIGHTS = [6, 3, 3, 1]
PEOPLE = [
    ("ann", "search"),
    ("bob", "search"),
    ("cho", "support"),
    ("dee", "support"),
    ("eve", "labs"),
    ("", ""),
]
PEOPLE_WEIGHTS = [5, 3, 3, 2, 2, 1]
OWN_PRICES: list[dict[str, Any]] = [
    {"provider": "*", "model": "gpt-5.4-mini*", "input_usd_per_million": 0.4,
     "cached_usd_per_million": 0.04, "output_usd_per_million": 1.6},
    {"provider": "*", "model": "gpt-5.4*", "input_usd_per_million": 2.5,
     "cached_usd_per_million": 0.25, "output_usd_per_million": 10},
]  # fmt: skip
"""As configured. The Claude's price is the built-in table's, the house's model has none."""
_PRICES = [
    *OWN_PRICES,
    {"provider": "*", "model": "claude-*", "input_usd_per_million": 3,
     "cached_usd_per_million": 0.3, "output_usd_per_million": 15},
]  # fmt: skip


def upstream_of(model: str) -> str:
    """Tell who serves a model."""
    return {"claude": "anthropic", "house": "house"}.get(model.partition("-")[0], "openai")


def fill(url: str, seed: int) -> None:
    """Put two weeks of calls into a new ledger, fewer at night and at weekends."""
    dice = random.Random(seed)
    ledger = Ledger.open(url)
    ledger.migrate()
    now = time.time_ns() // HOUR * HOUR
    for day in range(DAYS):
        midnight = now - (DAYS - day) * 24 * HOUR
        made = [_made_up(midnight + dice.randrange(24 * HOUR), dice) for _ in range(_CALLS_A_DAY)]
        commit(ledger, *[each for each in made if _is_likely(each, dice)])
    ledger.close()


def _is_likely(made: Entry, dice: random.Random) -> bool:
    at = datetime.fromtimestamp(made.closed.opened.started_at_ns / 10**9, UTC)
    busy = 0.2 if at.hour < 7 or at.hour > 20 else 1.0
    return dice.random() < busy * (0.3 if at.weekday() > 4 else 1.0)


def _made_up(at_ns: int, dice: random.Random) -> Entry:
    user, team = dice.choices(PEOPLE, PEOPLE_WEIGHTS)[0]
    model = dice.choices(MODELS, MODEL_WEIGHTS)[0]
    price = next((each for each in _PRICES if fnmatch(model, str(each["model"]))), None)
    done = dice.random() < 0.96
    usage = Usage(
        input_tokens=dice.choice([900, 2_400, 9_000]),
        output_tokens=dice.choice([120, 400, 900]),
        cached_tokens=dice.choice([0, 512]),
    )
    return entry(
        at_ns=at_ns,
        user=user or None,
        team=team or None,
        session=f"{user}-{at_ns // (24 * HOUR) % 7}" if user else None,
        upstream=upstream_of(model),
        model=model,
        outcome=Outcome.COMPLETED if done else Outcome.TRUNCATED,
        usage=usage,
        cost_pico=None if price is None else _cost(usage, price),
        price="unpriced: no such model" if price is None else "own",
    )


def _cost(usage: Usage, price: dict[str, Any]) -> int:
    rates = (price["input_usd_per_million"], price["output_usd_per_million"])
    tokens = (usage.input_tokens or 0, usage.output_tokens or 0)
    return sum(each * round(rate * 1_000_000) for each, rate in zip(tokens, rates, strict=True))
