"""What a commit has added to the ledger's own sums, as counters. Pure.

These agree with the ledger, since they are the same figures; a difference may be negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taximeter.call import UsageSource
from taximeter.metrics import _booked as booked
from taximeter.metrics._names import OTHER, Arriving
from taximeter.metrics._series import Deltas, add

if TYPE_CHECKING:
    from taximeter.ledger import Committed


def count_sums(deltas: Deltas, arriving: Arriving, committed: Committed) -> None:
    """Add a commit's sums to the differences, and its names to those that come."""
    counter = deltas.counter
    calls_of = counter(booked.CALLS)
    usage_of = counter(booked.USAGE)
    tokens_of = counter(booked.TOKENS)
    cost_of = counter(booked.COST)
    user_calls = counter(booked.USER_CALLS)
    user_tokens = counter(booked.USER_TOKENS)
    user_cost = counter(booked.USER_COST)
    team_calls = counter(booked.TEAM_CALLS)
    team_tokens = counter(booked.TEAM_TOKENS)
    team_cost = counter(booked.TEAM_COST)
    users, teams, models = arriving
    cache_writes = committed.cache_write_tokens
    for key in {**committed.sums, **cache_writes}:
        sums = committed.sums.get(key)
        user, team = users.arrive(key.user), teams.arrive(key.team)
        model = (key.upstream, key.provider, models.label(key.model))
        tokens = [("cache_write", cache_writes.get(key, 0))]
        if sums is not None:
            labels = (*model, key.operation, key.outcome)
            calls, cost = sums.calls, sums.cost_pico
            add(calls_of, labels, calls)
            add(user_calls, (user, key.outcome), calls)
            add(team_calls, (team, key.outcome), calls)
            add(cost_of, labels, cost)
            add(user_cost, (user,), cost)
            add(team_cost, (team,), cost)
            guessed = sums.estimated + sums.partial + sums.absent
            add(usage_of, (*labels, UsageSource.REPORTED.value), calls - guessed)
            add(usage_of, (*labels, UsageSource.ESTIMATED.value), sums.estimated)
            add(usage_of, (*labels, UsageSource.PARTIAL.value), sums.partial)
            add(usage_of, (*labels, UsageSource.ABSENT.value), sums.absent)
            tokens += [
                ("input", sums.input_tokens),
                ("output", sums.output_tokens),
                ("cached", sums.cached_tokens),
                ("reasoning", sums.reasoning_tokens),
            ]
            if user is OTHER:
                users.overflow(key.user, calls, cost)
            if team is OTHER:
                teams.overflow(key.team, calls, cost)
        for kind, count in tokens:
            if count:
                add(tokens_of, (*model, kind), count)
                add(user_tokens, (user, kind), count)
                add(team_tokens, (team, kind), count)
