"""Calls as Hypothesis draws them: of any outcome and usage, and several about one answer."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from taximeter.call import Outcome, Usage, UsageSource
from taximeter.ledger import Entry
from tests.ledger.make import HOUR, T0, deferred, entry, fetch

Names = Sequence[str | None]

_tokens = st.none() | st.integers(0, 2**40)
_few = st.integers(0, 900)


@st.composite
def _plain(draw: st.DrawFn, people: Names, models: Names) -> Entry:
    return entry(
        at_ns=T0 + draw(st.integers(0, 3)) * HOUR // 2,
        user=draw(st.sampled_from(people)),
        team=draw(st.sampled_from(people)),
        model=draw(st.sampled_from(models)),
        upstream=draw(st.sampled_from(["openai", "groq"])),
        outcome=draw(st.sampled_from(Outcome)),
        usage=Usage(
            input_tokens=draw(_tokens),
            output_tokens=draw(_tokens),
            cached_tokens=draw(_tokens),
            cache_write_tokens=draw(_tokens),
            reasoning_tokens=draw(_tokens),
        ),
        source=draw(st.sampled_from(UsageSource)),
        cost_pico=draw(st.none() | st.integers(0, 2**63 - 1)),
        stages=draw(st.sampled_from([{}, None])),
    )


@st.composite
def _generation(draw: st.DrawFn, name: str) -> list[Entry]:
    """Draw the calls about one answer: perhaps its maker, and its fetches."""
    usage = Usage(input_tokens=draw(_few), output_tokens=draw(_few), cache_write_tokens=draw(_few))
    cost = draw(st.integers(0, 10**12))
    makers = [
        None,
        deferred(name),
        entry(response_id=name, usage=usage, cost_pico=cost),
        entry(response_id=name, source=UsageSource.ESTIMATED, cost_pico=1, user="bob"),
    ]
    made: Entry | None = draw(st.sampled_from(makers))
    polls = [
        fetch(name, usage=usage, cost_pico=cost, user="poller", response_model="gpt-5.4-mini")
        if draw(st.booleans())
        else fetch(name, source=UsageSource.ABSENT, cost_pico=None, user="poller")
        for _ in range(draw(st.integers(0, 3)))
    ]
    return ([made] if made is not None else []) + polls


@st.composite
def entries(draw: st.DrawFn, *, people: Names, models: Names) -> list[Entry]:
    """Draw calls in any order: up to ten by themselves, and those of up to three answers."""
    plain = draw(st.lists(_plain(people, models), max_size=10))
    made = [draw(_generation(f"resp_{number}")) for number in range(draw(st.integers(0, 3)))]
    return draw(st.permutations(plain + [each for group in made for each in group]))
