"""A call's turn: what admission is told of it, its wait, and what it gives back at its end.

A ticket is held from the verdict to the last byte. Whatever way a call ends, it ends in
`_finish`, and there its ticket is given back with what the call came to. What comes of its
attempts in between is told in `_retrying`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING

from msgspec.structs import replace

from taximeter.admission import Go, Reason, Refuse, Request, Spent, Ticket, Tier
from taximeter.call import Closed, Fact, Outcome, Stage, Usage, UsageSource
from taximeter.counting import tokens_from_bytes
from taximeter.relay._answering import Answering
from taximeter.relay._errors import Refused
from taximeter.relay._holder import wrong_with
from taximeter.relay._standing import ADMITTING, ATTEMPTING

if TYPE_CHECKING:
    from taximeter.relay._keeping import Keeper

_now = time.monotonic_ns
_QUEUE = Stage.QUEUE
_COMPLETED = Outcome.COMPLETED


class Admitting(Answering):
    """Gets a call its turn."""

    __slots__ = ()

    def _admit(self) -> None:
        """The request is understood: ask for its turn."""
        self._go(ADMITTING)
        request = self._request
        intake = request.intake
        if intake.holder is not None:
            refused = wrong_with(
                intake.holder,
                intake,
                request.body,
                request.started_at_ns,
                request.snapshot.settings,
            )
            if refused is not None:
                self._refuse(refused)
                return
        if intake.may_repeat and self._is_answered_before():
            return
        if self._goes_straight() or (intake.is_coded and self._hides_its_input()):
            return
        asked, carried = self._asked(), self.worker.carried
        if carried.is_awaited and carried.holds(asked, lambda: self._arrive_late(asked)):
            return
        self._arrive(asked)

    def _goes_straight(self) -> bool:
        """Let the call go at once if there is nothing to be decided about that."""
        request, driver = self._request, self.worker.admission
        facts = request.facts
        plan = request.intake.plan_of(driver.admission, facts.model or "", request.user or "")
        inputs, output = self._tokens()
        ticket = driver.straight.enter(plan, inputs, output, _now())
        if ticket is None:
            return False
        # What goes straight has not waited, has no budget, and is under no bound on its output.
        self._ticket, self._stages[_QUEUE] = ticket, 0
        self._set_out()
        return True

    def _hides_its_input(self) -> bool:
        """Refuse a call whose input is bounded, and coded: it is not unpacked to be looked at."""
        plan = self._request.intake.plan
        if plan is None or plan.tier.input_tokens_max is None or not self._tokens()[0]:
            return False
        self._refuse(Refused("input_tokens_unknown"))
        return True

    def _arrive_late(self, asked: Request) -> None:
        """It is known what the call's budgets had spent before we began."""
        if not self._finishing:
            self._stages[_QUEUE] = _now() - self._started_ns - self._stages.get(Stage.RECEIVE, 0)
            self._guarded(lambda: self._arrive(asked))

    def _arrive(self, asked: Request) -> None:
        verdict = self.worker.admission.arrive(self, asked)
        if isinstance(verdict, Go):
            self._go_ahead(verdict)
        elif isinstance(verdict, Refuse):
            self._turn_away(verdict, asked)
        else:
            self._ticket = verdict.ticket
            self._begin_to_wait()

    def _asked(self) -> Request:
        """Say what admission must know of the call."""
        request = self._request
        intake, facts = request.intake, request.facts
        inputs, output = self._tokens()
        asked = Request(
            upstream=request.upstream.name,
            model=facts.model or "",
            user=request.user or "",
            team=intake.opened.team or "",
            key=intake.key_id,
            tier=intake.tier,
            is_claimed=intake.user_is_claimed,
            credential=intake.credential,
            input_tokens=inputs,
            output_tokens_max=output,
            wait_ns_max=intake.wait_ns_max,
        )
        prices = request.snapshot.prices
        if prices is not None:
            found = prices.dearest(asked.upstream, facts.model, request.started_at_ns)
            if found is not None:
                asked.input_pico, asked.output_pico = found
        return asked

    def _tokens(self) -> tuple[int, int | None]:
        """Give the estimate of the call's input, and the most output that it asks for."""
        request = self._request
        facts, operation = request.facts, request.operation
        if operation.free or operation.fetch:
            return 0, 0
        output = facts.output_tokens_max
        if output is not None and facts.answers > 1:
            output *= facts.answers
        return request.input_tokens_estimate, output

    def _turn_away(self, refuse: Refuse, asked: Request) -> None:
        if refuse.reason is Reason.INPUT_TOO_LONG:
            # The estimate goes by bytes. Before a call is refused for it, its text is looked at.
            exact = self._request.input_tokens_of_text()
            if exact is not None and exact < asked.input_tokens:
                asked.input_tokens = exact
                self._arrive(asked)
                return
        if refuse.reason is not Reason.BREAKER_OPEN or not self._fall_back():
            self._refuse(refusal_of(refuse))

    @abstractmethod
    def _fall_back(self) -> bool:
        """Take the call to the next upstream that lets it go at once; False if there is none."""

    @abstractmethod
    def _is_answered_before(self) -> bool:
        """Link a call to the one it makes again; True if it is answered thereby."""

    @abstractmethod
    def _note_failure(self, record: Closed) -> None:
        """Remember a call that came to no good: its client may make it again."""

    @abstractmethod
    def _end_keeping(self, keeper: Keeper) -> None:
        """The call is over: keep its answer if it is good, and free its key."""

    @abstractmethod
    def _begin_to_wait(self) -> None:
        """The call waits for its turn: have its stream opened if that takes long."""

    # -- what comes of a wait ---------------------------------------------------------------

    def admitted(self, go: Go) -> None:
        """It is this call's turn."""
        self._guarded(lambda: self._go_ahead(go))

    def not_admitted(self, refused: Refuse) -> None:
        """Its wait was in vain."""
        self._stages[_QUEUE] = self._stages.get(_QUEUE, 0) + refused.waited_ns
        self._ticket = None  # it ended with the refusal
        self._guarded(lambda: self._give_up_waiting(refused))

    def _give_up_waiting(self, refused: Refuse) -> None:
        if refused.reason is not Reason.BREAKER_OPEN or not self._fall_back():
            self._fail(refusal_of(refused))

    def _go_ahead(self, go: Go) -> None:
        self._ticket = go.ticket
        self._stages[_QUEUE] = self._stages.get(_QUEUE, 0) + go.waited_ns
        if not self._limit_output(go.ticket.plan.tier):
            return
        if go.over_budget:
            self._facts.add(Fact.OVER_BUDGET)
            self._told += b"x-taximeter-over-budget: %b\r\n" % ", ".join(go.over_budget).encode()
        self._set_out()

    def _set_out(self) -> None:
        """Make the first attempt at the upstream that the call goes to."""
        self._go(ATTEMPTING)
        self._usage_asked = self._request.can_ask_usage
        self._try()

    def _limit_output(self, tier: Tier) -> bool:
        """Hold the request to the tier's longest output; False if the call had to be refused.

        Asked of every call under such a tier, whatever was made out about its output: a field
        that only some servers read would go past what was read here.
        """
        if tier.output_tokens_max is None:
            return True
        request = self._request
        tokens_max = max(1, tier.output_tokens_max // max(1, request.facts.answers))
        changed = request.limit_output(tokens_max)
        if changed is None:
            self._refuse(Refused("output_tokens_unlimited"))
            return False
        if changed and tier.output_over == "refuse" and request.facts.output_tokens_max:
            self._refuse(Refused("output_tokens_exceeded"))
            return False
        if changed:
            self._facts.add(Fact.OUTPUT_CLAMPED)
            self._told += b"x-taximeter-output-tokens-max: %d\r\n" % tokens_max
        return True

    # -- its end ------------------------------------------------------------------------------

    def _settled(self, record: Closed) -> None:
        """Work out what the call came to, for whoever counts it."""
        if record.outcome is not _COMPLETED and self._request.routed:
            self._note_failure(record)
        if self._ticket is not None:
            self._spent = spent_by(record, self._money_of(record, self._ticket))
        if self._request.routed and self._request.intake.wants_summary:
            self._summarise(record)

    def _money_of(self, record: Closed, ticket: Ticket) -> int | None:
        prices = self._request.snapshot.prices
        if prices is None or not ticket.plan.priced:
            return None
        usage = usage_so_far(record)
        return None if usage is None else prices.cost(record, usage)

    def _give_back(self) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        if self._early_timer is not None:
            self._early_timer.cancel()
            self._early_timer = None
        if self._keeper is not None:
            self._end_keeping(self._keeper)
            self._keeper = None
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            return
        driver, spent = self.worker.admission, self._spent or _UNKNOWN
        if spent.sent and driver.straight.end(ticket, spent.tokens, spent.output_tokens, _now()):
            return
        driver.leave(ticket)  # does nothing for a call that waits no longer
        driver.settle(ticket, spent)

    @property
    def is_between_attempts(self) -> bool:
        """Whether it waits, for its turn or for its next attempt: nothing is under way upstream."""
        return self._retry_timer is not None or self.phase is ADMITTING

    @property
    def tier_in_use(self) -> str | None:
        """The tier that it goes by, from when it was let go until it has ended."""
        ticket = self._ticket
        return None if ticket is None or self.phase is ADMITTING else ticket.plan.tier_name

    @property
    def age_ns(self) -> int:
        """Time since it came."""
        return _now() - self._started_ns


_UNKNOWN = Spent()


def usage_so_far(record: Closed) -> Usage | None:
    """Give what was stated of a call's usage, and of one that broke off no less than came. Pure.

    A first event's `output_tokens: 1` says nothing of what came after it. The recorder books the
    larger of the two as well, by its count of the text; here it is by the rule of last resort.
    """
    usage = record.usage
    if usage is None or record.usage_source is not UsageSource.PARTIAL:
        return usage
    inputs, outputs = usage.input_tokens, usage.output_tokens
    if inputs is None and record.text_bytes_in is not None:
        inputs = tokens_from_bytes(record.text_bytes_in)
    if record.text_bytes_out is not None:
        outputs = max(outputs or 0, tokens_from_bytes(record.text_bytes_out))
    return replace(usage, input_tokens=inputs, output_tokens=outputs)


def spent_by(record: Closed, pico: int | None) -> Spent:
    """Say what a call came to, as far as it is known at its end. Pure."""
    if not any(attempt.sent_ns is not None for attempt in record.attempts):
        return Spent(tokens=0, pico=0, sent=False)
    if Fact.FETCHED in record.facts:
        return Spent(tokens=0, pico=0)  # its making was booked, by reservation if it was deferred
    usage = usage_so_far(record)
    if usage is None and (record.attempts[-1].status or 0) >= 400:
        return Spent(tokens=0, pico=0)  # an error answer from its first line on costs nothing
    inputs = usage.input_tokens if usage is not None else None
    outputs = usage.output_tokens if usage is not None else None
    if inputs is None and record.text_bytes_in is not None:
        inputs = tokens_from_bytes(record.text_bytes_in)
    if outputs is None and record.text_bytes_out is not None:
        outputs = tokens_from_bytes(record.text_bytes_out)
    if inputs is None and outputs is None:
        return Spent(pico=pico)
    return Spent(tokens=(inputs or 0) + (outputs or 0), output_tokens=outputs, pico=pico)


def refusal_of(refuse: Refuse) -> Refused:
    """Say a refusal of admission's in the relay's words."""
    return Refused(
        str(refuse.reason),
        refuse.by,
        retry_after_ns=refuse.retry_after_ns,
        should_retry=None if refuse.should_retry else False,
    )
