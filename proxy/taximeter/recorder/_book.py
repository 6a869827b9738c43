"""From a call's end to what is booked of it: usage, whose word it is, and what it cost. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from taximeter.call import Closed, Counted, Fact, Outcome, Usage, UsageSource, believed
from taximeter.counting import BYTES_RULE, tokens_from_bytes
from taximeter.ledger import CallView, Entry, Repriced
from taximeter.pricing import Price, UpstreamPrices
from taximeter.recorder._follow import JOURNAL_DAMAGED, WORKER_DIED, Ready
from taximeter.settings import Settings

NOT_SENT = "not sent"
ERROR_ANSWER = "error answer"
REPLAY = "replay of"
"""Names of what is no price of a list: calls that cost nothing because of how they went. A
replay's names the call that bears the cost."""


class Bookkeeping:
    """Makes ledger entries under one configuration."""

    def __init__(self, settings: Settings) -> None:
        self._prices = UpstreamPrices(settings)

    def entry_of(self, ready: Ready) -> Entry:
        """Give the entry of a call that can be booked."""
        closed = self._with_provider(ready.closed)
        usage, source, rule = settle_usage(closed, ready.counted)
        if usage is not None and (plausible := believed(usage)) is not usage:
            # A relay of this version writes no such count. The call was made all the same.
            usage, closed = plausible, _clamped(closed)
        cost, price, rates = self._price(closed, usage)
        return Entry(
            closed=closed,
            usage=usage,
            usage_source=source,
            cost_pico=cost,
            price=price,
            price_rates=rates,
            count_rule=rule,
        )

    def _with_provider(self, closed: Closed) -> Closed:
        """Say whose prices apply, which the relay leaves to us."""
        opened = closed.opened
        provider = self._prices.provider(opened.upstream or "")
        if provider is None or provider == opened.provider:
            return closed
        opened = msgspec.structs.replace(opened, provider=provider)
        return msgspec.structs.replace(closed, opened=opened)

    def _price(self, closed: Closed, usage: Usage | None) -> tuple[int | None, str, str | None]:
        if Fact.REPLAYED in closed.facts:
            return 0, f"{REPLAY} {closed.opened.retry_of}", None
        if not was_sent(closed):
            return 0, NOT_SENT, None
        if usage is None and is_error_answer(closed):
            return 0, ERROR_ANSWER, None
        if usage is None and Fact.DEFERRED in closed.facts:
            return None, "deferred", None
        return _as_booked(self._prices.price_of(closed, usage))

    def price_again(self, view: CallView) -> Repriced:
        """Give the price that a booked call has under this configuration."""
        if view.price in (NOT_SENT, ERROR_ANSWER) or Fact.REPLAYED in view.facts:
            # No price list was asked, so none can have another word.
            return Repriced(view.cost_pico, view.price, view.price_rates)
        found = self._prices.price(
            view.usage,
            upstream=view.upstream or "",
            provider=view.provider,
            model=view.response_model or view.model,
            at_ns=view.started_at_ns,
            service_tier=view.service_tier,
            variant=view.price_variant,
            facts=view.facts,
            outcome=view.outcome,
        )
        return Repriced(*_as_booked(found))


def _as_booked(found: Price) -> tuple[int | None, str, str | None]:
    """Give the cost, the price's name with what was assumed, and the rates if there is a cost."""
    name = found.name
    if found.assumed:
        name = f"{name} ({', '.join(found.assumed)})"
    return found.cost_pico, name, found.rates if found.cost_pico is not None else None


def _clamped(closed: Closed) -> Closed:
    if Fact.USAGE_CLAMPED in closed.facts:
        return closed
    return msgspec.structs.replace(closed, facts=[*closed.facts, Fact.USAGE_CLAMPED])


def was_sent(closed: Closed) -> bool:
    """Tell whether any byte of the call can have reached an upstream."""
    if closed.outcome is Outcome.REJECTED:
        return False
    if not closed.attempts:
        # Nothing is known of the attempts of a call whose end was not written: its opening says
        # that it was about to be sent. A relay that wrote an end without one made none.
        return closed.outcome is Outcome.INTERRUPTED and closed.error in (
            WORKER_DIED,
            JOURNAL_DAMAGED,
        )
    return any(attempt.sent_ns is not None for attempt in closed.attempts)


def is_error_answer(closed: Closed) -> bool:
    """Tell whether the upstream's answer was an error from its first line on: nobody charges that.

    An upstream that was sent the call and gave no answer at all is another matter. It may have
    done its work; what that cost is unknown, whatever status the client was given by us.
    """
    status = closed.attempts[-1].status if closed.attempts else None
    return status is not None and status >= 400


def settle_usage(
    closed: Closed, counted: Counted | None
) -> tuple[Usage | None, UsageSource, str | None]:
    """Give a call's usage, whose word it is, and the rule it was counted by, if it was.

    What the upstream reported stands. Of an answer that broke off, the larger of what was
    reported so far and what was counted of the delivered text is taken for the output: a first
    event's `output_tokens: 1` is true, and says nothing of what came after it.
    """
    if Fact.COUNT_PENDING not in closed.facts:
        return closed.usage, closed.usage_source, None
    if counted is None:
        counted = _by_bytes(closed)
    known = closed.usage or Usage()
    inputs = known.input_tokens if known.input_tokens is not None else counted.input_tokens
    outputs = _larger(known.output_tokens, counted.output_tokens)
    if inputs == known.input_tokens and outputs == known.output_tokens:
        return closed.usage, closed.usage_source, None
    usage = msgspec.structs.replace(known, input_tokens=inputs, output_tokens=outputs)
    return usage, UsageSource.ESTIMATED, counted.rule


def _larger(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _by_bytes(closed: Closed) -> Counted:
    """Apply the rule of last resort to the sizes that the relay noted."""

    def tokens(size: int | None) -> int | None:
        return None if size is None else tokens_from_bytes(size)

    return Counted(
        call_id=closed.opened.call_id,
        input_tokens=tokens(closed.text_bytes_in),
        output_tokens=tokens(closed.text_bytes_out),
        rule=BYTES_RULE,
    )


EntryOf = Callable[[Ready], Entry]
