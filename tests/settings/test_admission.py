"""Limits, queues, retries, tiers, users, budgets: what can be said, and what cannot be meant."""

from __future__ import annotations

import traceback
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from taximeter import admission
from taximeter.relay import policy_of
from taximeter.settings import (
    Breaker,
    Budget,
    Limits,
    Queue,
    Retry,
    Settings,
    SettingsError,
    Tier,
    User,
)
from taximeter.settings._admission import wrong_fallbacks
from tests.settings.conftest import Read, Refuse

CANARY = "canary-9d2e"

WHOLE = """
state: redis://meter:canary-9d2e@127.0.0.1:6380/2
redis: {deadline_milliseconds: 20, local_share: 0.25}
upstreams:
  openai:
    limits:
      requests_per_minute: 500
      tokens_per_minute: 200000
      models: {"gpt-*": {concurrency: 8}}
    queue: {size: 10, wait_seconds_max: 5, early_open_seconds: 2}
    retry: {attempts_max: 2, budget_ratio: 0.1}
    breaker: {failure_ratio: 0.25, calls_min: 4}
    fallback: [other, third]
  other: {url: http://127.0.0.1:9, fallback: [third]}
  third: {url: http://127.0.0.1:9}
tiers:
  free:
    weight: 0.5
    requests_per_minute: 20
    concurrency: 2
    input_tokens_max: 8000
    output_tokens_max: 1000
    budget: {usd: 1.25, per: day}
    shared: {budget: [{usd: 100, per: month}, {tokens: 5, per: month}]}
  pro: {weight: 10, output_over: refuse}
default_tier: free
users:
  alice: {tier: pro, concurrency: 9}
  bob: {budget: []}
teams:
  red: {budget: {tokens: 1000000, per: hour, hard: false}}
"""


def test_all_that_can_be_said_of_admission_is_read(read: Read) -> None:
    """Every group takes its keys, and what is not said has its default."""
    settings = read(WHOLE)
    openai = settings.upstreams["openai"]
    assert openai.limits.concurrency is None
    assert openai.limits.adaptive
    assert openai.limits.models["gpt-*"].concurrency == 8
    assert openai.queue == Queue(size=10, wait_seconds_max=5, early_open_seconds=2)
    assert openai.retry == Retry(attempts_max=2, budget_ratio=0.1)
    assert openai.breaker == Breaker(failure_ratio=0.25, calls_min=4)
    assert openai.fallback == ("other", "third")
    free = settings.tiers["free"]
    assert free.budget == (Budget(usd=Decimal("1.25"), per="day"),)
    assert [budget.pico for budget in free.shared.budget] == [100 * 10**12, None]
    assert settings.teams["red"].budget[0].hard is False
    assert settings.redis.local_share == 0.25
    assert settings.state_url == "redis://meter:canary-9d2e@127.0.0.1:6380/2"


def test_what_check_prints_of_admission_means_the_same(read: Read) -> None:
    """The configuration in effect can be read again; only the password is not in it."""
    settings = read(WHOLE)
    printed = settings.dump()
    assert CANARY not in printed + repr(settings) + str(settings.model_dump())
    again = read(printed)
    assert again.model_copy(update={"state": settings.state}) == settings
    assert read(again.dump()) == again


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("users: {a: {tier: gold}}", "t.yaml:1: users.a.tier: there is no tier of this name"),
        ("default_tier: gold", "t.yaml:1: default_tier: there is no tier of this name"),
        ("tiers: {Free: {}}", "tiers.Free: a tier's name is"),
        ("users: {' a': {}}", "users. a: a name is 1 to 128 printable"),
        ("users: {a: {shared: {}}}", "users.a.shared: unknown key"),
        ("tiers: {a: {wieght: 2}}", "tiers.a.wieght: unknown key\n    hint: did you mean `weight`"),
        ("tiers: {a: {weight: 0}}", "tiers.a.weight: input should be greater than or equal to"),
        ("tiers: {a: {concurrency: true}}", "tiers.a.concurrency: must be a number, not true"),
        ("tiers: {a: {output_over: cut}}", "tiers.a.output_over: must be 'clamp' or 'refuse'"),
        ("tiers: {a: {budget: {}}}", "tiers.a.budget[0]: states no amount: give usd or tokens"),
        ("tiers: {a: {budget: {usd: 1, tokens: 1}}}", "gives usd and tokens both"),
        ("tiers: {a: {budget: {usd: 1, per: week}}}", "must be 'hour', 'day' or 'month'"),
        ("tiers: {a: {budget: {tokens: 1, unpriced: refuse}}}", "is a budget of tokens: give usd"),
        ("tiers: {a: {budget: {usd: 1, hard: false, unpriced: refuse}}}", "one of them is a mist"),
        ("tiers: {a: {budget: [{usd: 1}, {usd: 2}]}}", "two budgets of the same kind"),
        ("tiers: {a: {budget: {usd: 0.0000000000001}}}", "tiers.a.budget[0].usd: "),
        ("teams: {a: {budget: {usd: -1}}}", "teams.a.budget[0].usd: "),
        ("upstreams: {openai: {fallback: [openai]}}", "openai.fallback[0]: is the upstream itself"),
        ("upstreams: {openai: {fallback: [nobody]}}", "fallback[0]: there is no upstream of this"),
        ("upstreams: {openai: {fallback: [anthropic]}}", "[0]: speaks another dialect than openai"),
        ("upstreams: {openai: {fallback: openai}}", "upstreams.openai.fallback: "),
        ("upstreams: {openai: {limits: {models: {'[a]': {}}}}}", "must be a model, or a pattern"),
        ("upstreams: {openai: {limits: {models: {a: {models: {}}}}}}", "a.models: unknown key"),
        ("upstreams: {openai: {limits: {adaptive_concurrency_min: 30}}}", "must lie between"),
        ("upstreams: {openai: {limits: {burst_seconds: 0}}}", "limits.burst_seconds: input should"),
        ("upstreams: {openai: {queue: {wait_seconds_max: 1, early_open_seconds: 1}}}", "be below"),
        ("upstreams: {openai: {queue: {size: -1}}}", "queue.size: input should be greater"),
        ("upstreams: {openai: {retry: {attempts_max: 0}}}", "retry.attempts_max: input should be"),
        ("upstreams: {openai: {retry: {budget_ratio: 1.5}}}", "retry.budget_ratio: input should"),
        ("upstreams: {openai: {retry: {backoff_seconds_first: 9}}}", "must be at least backoff_"),
        ("upstreams: {openai: {breaker: {failure_ratio: 0}}}", "failure_ratio: input should be"),
        ("upstreams: {openai: {breaker: {open_seconds: 61}}}", "must be at least open_seconds"),
        ("upstreams: {openai: {breaker: yes}}", "breaker: must be a group of settings"),
        ("redis: {local_share: 0}", "redis.local_share: input should be greater than 0"),
        ("redis: {key_prefix: 'a b'}", "redis.key_prefix: "),
    ],
)
def test_what_cannot_be_meant_is_refused(refuse: Refuse, text: str, said: str) -> None:
    """A contradiction or a value out of its bounds is an error at its own key."""
    assert said in refuse(text)


def test_fallbacks_must_not_go_round_in_a_circle(refuse: Refuse) -> None:
    """A circle is told once, with its line."""
    said = refuse(
        "upstreams:\n"
        "  a: {url: http://a, fallback: [b]}\n"
        "  b: {url: http://b, fallback: [d, c]}\n"
        "  c: {url: http://c, fallback: [a]}\n"
        "  d: {url: http://d, fallback: [c]}\n"
    )
    assert said == (
        "t.yaml:2: upstreams.a.fallback[0]: "
        "leads back here: fallbacks must not go round in a circle"
    )


NAMES = st.sampled_from("abcde")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3, unique=True)))
def test_fallbacks_that_are_taken_have_an_end(listed: dict[str, list[str]]) -> None:
    """Where nothing is found wrong, following fallbacks from anywhere comes to an end."""
    wrong = list(wrong_fallbacks({name: ("openai", others) for name, others in listed.items()}))

    def has_end(name: str, above: tuple[str, ...]) -> bool:
        return name not in above and all(
            other in listed and has_end(other, (*above, name)) for other in listed[name]
        )

    assert (not wrong) == all(has_end(name, ()) for name in listed)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1", "redis://127.0.0.1:6379/0", "rediss://u:canary-9d2e@h:1/15",
        "redis://:canary-9d2e@[::1]:6379", "memory",
    ],
)  # fmt: skip
def test_a_state_is_memory_or_a_redis(read: Read, url: str) -> None:
    """The usual forms of URL are taken as they are, and no password is ever shown."""
    settings = read(f"state: '{url}'")
    assert (settings.state_url or "memory") == url
    assert CANARY not in settings.dump() + repr(settings) + str(settings.model_dump())


@pytest.mark.parametrize(
    "url",
    [
        "Memory", "disk", "http://h", "redis://", "redis:///0", "redis://h/x", "redis://h:0",
        "redis://h/0?ssl_cert_reqs=none", "redis://h#canary-9d2e", "redis://canary-9d2e:x:y@h:z",
        "redis://h\\\\x", "redis://h /0", "3", "redis://ü",
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_is_refused(read: Read, url: str) -> None:
    """Other engines, options and odd signs are refused, and the value is not repeated."""
    with pytest.raises(SettingsError) as caught:
        read(f'state: "{url}"')
    told = "".join(traceback.format_exception(caught.value))
    assert "state: must be `memory`, or a URL such as redis://127.0.0.1:6379/0" in told
    assert CANARY not in told


def test_a_password_of_redis_in_a_file_that_others_read_is_refused(
    read: Read, refuse: Refuse
) -> None:
    """H13: a password may stand in a file of one's own, or in the environment."""
    text = "state: redis://:canary-9d2e@h"
    assert "state: carries a password, and others may read the file" in refuse(text, mode=0o644)
    assert read(text, mode=0o600).state_url
    assert read("", {"TAXIMETER_STATE": "redis://:x@h"}, mode=0o644).state_url
    assert read("state: redis://h", mode=0o644).state_url
    assert read("state: memory", mode=0o644).state_url is None


def test_a_user_is_as_the_tier_has_it_but_for_what_is_said(read: Read) -> None:
    """An exception made for one user replaces that figure, and leaves the others to the tier."""
    settings = read(WHOLE)
    alice, bob, other = (settings.tier_of(name) for name in ("alice", "bob", "carol"))
    assert (alice.weight, alice.concurrency, alice.output_over) == (10, 9, "refuse")
    assert other == settings.tiers["free"]
    assert bob == other.model_copy(update={"budget": ()})
    assert settings.tier_of(None) == other
    assert read("").tier_of("anyone") == Tier()


def test_every_figure_of_a_tier_can_be_said_of_a_user() -> None:
    """A field that comes into tiers comes into users, but for what users share."""
    assert set(User.model_fields) - {"tier"} == set(Tier.model_fields) - {"shared"}
    assert all(field.default is None for field in User.model_fields.values())


@given(st.decimals(min_value=0, max_value=1_000_000, places=12))
def test_a_budget_is_exact_to_the_last_pico_dollar(usd: Decimal) -> None:
    """Dollars become whole pico-dollars with nothing lost, and fit 64 bits."""
    pico = Budget(usd=usd).pico
    assert pico is not None
    assert Decimal(pico).scaleb(-12) == usd
    assert pico < 2**63


def test_zero_is_a_limit_and_none_is_none() -> None:
    """A limit of 0 lets nothing through; it is never taken for no limit."""
    assert Limits().requests_per_minute is None
    assert Limits(requests_per_minute=0).requests_per_minute == 0
    assert Budget(usd=Decimal(0)).pico == 0
    assert User(concurrency=0).within(Tier(concurrency=5)).concurrency == 0


def test_a_state_that_was_read_is_taken_again() -> None:
    """Settings can be copied to another process and checked there again."""
    settings = Settings.model_validate({"state": SecretStr("redis://h")})
    assert Settings.model_validate(dict(settings)).state_url == "redis://h"
    with pytest.raises(ValidationError):
        Settings.model_validate({"state": 3})


def test_the_tier_default_is_there_unconfigured(read: Read) -> None:
    """It is the tier of who has no other, in admission's own terms as well; others are not."""
    settings = read("{}")
    assert settings.default_tier == admission.Policy().default_tier
    assert settings.has_tier(settings.default_tier)
    assert not settings.has_tier("gold")
    assert read("tiers: {gold: {weight: 2}}").has_tier("gold")


def test_a_user_may_be_in_the_tier_default_though_others_are_in_another(read: Read) -> None:
    """What the settings take, admission takes: that tier, unconfigured, has no limits."""
    settings = read(
        "tiers: {free: {requests_per_minute: 6}}\n"
        "default_tier: free\n"
        "users: {alice: {tier: default}}\n"
    )
    policy = policy_of(settings)
    assert policy.tier_names() == {"default", "free"}
    assert all(settings.has_tier(name) for name in policy.tier_names())
    alice, bob = (
        admission.resolve(policy, admission.Request(upstream="openai", user=user, input_tokens=1))
        for user in ("alice", "bob")
    )
    assert (alice.tier_name, alice.tier.limits.requests_per_minute) == ("default", None)
    assert (bob.tier_name, bob.tier.limits.requests_per_minute) == ("free", 6)
