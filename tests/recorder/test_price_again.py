"""Pricing again by the prices of before changes nothing, whatever was booked."""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taximeter.call import Closed, Fact, Outcome, Usage, UsageSource
from taximeter.recorder import Bookkeeping
from tests.recorder.make import PRICES, World, attempt, call_id, closed, opened
from tests.rig.length import pick

UPSTREAMS = {
    "openai": {"url": "https://api.openai.com"},
    "azure": {
        "url": "https://x.openai.azure.com",
        "models": {"prod": "gpt-4.1", "fake-1": "gpt-4.1"},
    },
}
FLAT = {"provider": "*", "model": "flat", "usd_per_request": "0.01"}
AT_NS = 1_795_400_000_000_000_000
"""A moment at which the table has prices of tiers, nanoseconds since the epoch."""
_numbers = itertools.count(1)
_tiers = st.sampled_from([None, "", "default", "auto", "flex", "priority", "batch", "unheard"])
_counts = st.none() | st.sampled_from([0, 1, 1000, 300_000, 2**40, 2**40 + 1, -1])
_models = st.sampled_from([None, "fake-1", "flat", "prod", "gpt-4.1", "gpt-5", "gpt-5", "unheard"])


@st.composite
def _calls(draw: st.DrawFn) -> Closed:
    number = next(_numbers)
    begun = opened(
        number,
        started_at_ns=AT_NS + number,
        upstream=draw(st.sampled_from([None, *UPSTREAMS, "gone"])),
        provider=draw(st.sampled_from([None, "openai"])),
        model=draw(_models),
        service_tier=draw(_tiers),
        retry_of=draw(st.sampled_from([None, "no id", call_id(0)])),
    )
    plain = st.just(Usage(input_tokens=1000, output_tokens=1000))
    odd = st.builds(
        Usage,
        input_tokens=_counts,
        output_tokens=_counts,
        cached_tokens=_counts,
        reasoning_tokens=_counts,
        audio_milliseconds=_counts,
        web_searches=_counts,
        cost_pico=st.sampled_from([None, None, 5, -1, 2**63]),
    )
    return closed(
        number,
        begun=begun,
        outcome=draw(st.sampled_from([*[Outcome.COMPLETED] * 5, *Outcome])),
        attempts=draw(
            st.sampled_from(
                [[attempt()], [attempt()], [], [attempt(status=500)], [attempt(sent_ns=None)]]
            )
        ),
        response_model=draw(st.none() | _models),
        response_id=draw(st.sampled_from([None, f"resp_{number}"])),
        service_tier=draw(st.none() | _tiers),
        price_variant=draw(st.sampled_from([{}, {"speed": "fast"}])),
        usage=draw(plain | plain | odd | st.none()),
        usage_source=draw(st.sampled_from(UsageSource)),
        facts=draw(
            st.lists(
                st.sampled_from(
                    [
                        *(Fact.BATCH, Fact.FREE, Fact.DEFERRED, Fact.FETCHED),
                        *(Fact.REPLAYED, Fact.COUNT_PENDING, Fact.USAGE_CLAMPED),
                    ]
                ),
                max_size=1,
                unique=True,
            )
        ),
        text_bytes_out=draw(st.sampled_from([None, 40])),
    )


def prices(world: World) -> dict[str, tuple[int | None, str | None, str | None]]:
    """Give what each call costs, by which price."""
    return {
        view.id: (view.cost_pico, view.price, view.price_rates) for view in world.ledger.calls()
    }


@settings(
    max_examples=pick(30, 600),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=st.lists(_calls(), min_size=10, max_size=20))
def test_pricing_again_by_the_same_prices_changes_nothing(world: World, made: list[Closed]) -> None:
    """What is booked of a call is what its row says it costs: the tier asked for has no say."""
    world.settings = world.configure(upstreams=UPSTREAMS, prices=[*PRICES, FLAT])
    world.journal(*made)
    assert world.record().stats.rejected == 0
    before = prices(world)
    summary = world.ledger.reprice(Bookkeeping(world.settings).price_again)
    assert prices(world) == before
    assert (summary.changed, summary.delta_pico) == (0, 0)
    world.assert_sums()


def test_a_tier_asked_for_is_kept_and_not_priced(world: World) -> None:
    """The tier asked for stands beside the one answered; the answered one is priced."""
    used = Usage(input_tokens=1_000_000, output_tokens=0)
    plain = {"model": "gpt-5", "provider": "openai", "started_at_ns": AT_NS}
    world.journal(
        closed(1, begun=opened(1, service_tier="flex", **plain), usage=used),
        closed(2, begun=opened(2, **plain), usage=used),
        closed(3, begun=opened(3, **plain), usage=used, service_tier="flex"),
    )
    world.record()
    for _ in range(2):
        first, second, third = (world.calls()[call_id(number)] for number in (1, 2, 3))
        assert (first.service_tier, first.service_tier_asked) == (None, "flex")
        assert first.cost_pico == second.cost_pico
        assert first.cost_pico != third.cost_pico
        world.ledger.reprice(Bookkeeping(world.settings).price_again)
