"""Attempts, what upstreams say, breakers. O3 and O4 where all parts meet."""

from __future__ import annotations

from taximeter.admission import (
    Adaptive,
    Again,
    Answer,
    Breaker,
    Go,
    Limits,
    Queue,
    Reason,
    Refuse,
    Retry,
    Spent,
    State,
    Stop,
    Ticket,
    Upstream,
)
from tests.admission.rig import SECOND_NS, SPENT, Rig, slots


def test_o3_a_further_attempt_waits_for_a_place() -> None:
    """O3: refused for load, a call does not go again while as many are at the upstream as it can
    take by what is known now; it asks again, spends no attempt on it, and goes when one has ended.
    """
    rig = Rig(Upstream(adaptive=Adaptive(initial=2)))
    first, second = rig.go(), rig.go()
    rig.tick(1)
    for ticket in (first, second):
        assert isinstance(rig.hear(ticket, 429), Again)
    (gate,) = rig.admission.gates().values()
    assert gate.adaptive is not None
    assert (gate.adaptive.limit, gate.away) == (1, 2)
    assert rig.admission.resume(first, rig.now_ns) is True
    for _ in range(5):
        assert isinstance(rig.admission.resume(second, rig.now_ns), Again)
    assert second.attempts == 1
    rig.settle(first)
    assert rig.admission.resume(second, rig.now_ns) is True
    rig.settle(second)
    assert (gate.in_flight, gate.away) == (0, 0)


def test_o3_the_wait_for_a_place_ends_with_the_queues() -> None:
    """After the queue's longest wait it goes all the same: nothing waits without a bound."""
    rig = Rig(Upstream(adaptive=Adaptive(initial=2), queue=Queue(wait_seconds_max=5)))
    first, second = rig.go(), rig.go()
    for ticket in (first, second):
        assert isinstance(rig.hear(ticket, 429), Again)
    assert rig.admission.resume(first, rig.now_ns) is True
    assert isinstance(rig.admission.resume(second, rig.now_ns), Again)
    rig.tick(5)
    assert rig.admission.resume(second, rig.now_ns) is True


def test_o3_a_failure_is_tried_again_within_its_attempts() -> None:
    """O3: three attempts, each counted against requests a minute; then it is final."""
    rig = Rig(Upstream(limits=Limits(requests_per_minute=3), adaptive=None))
    ticket = rig.go()
    for _ in range(2):
        assert isinstance(rig.hear(ticket, 503), Again)
        assert rig.admission.resume(ticket, rig.now_ns)
    assert rig.hear(ticket, 503) is Stop.ATTEMPTS_SPENT
    assert rig.hear(ticket, 503) is None, "each attempt is heard once"
    rig.settle(ticket)
    rig.wait()


def test_o3_no_money_is_final_and_holds_nobody() -> None:
    """O3: one account's empty purse is not the upstream's load."""
    rig = Rig()
    headers = {"retry-after": "5", "x-should-retry": "true"}
    stop = rig.hear(rig.go(), 429, code="insufficient_quota", headers=headers)
    assert stop is Stop.NO_MONEY
    rig.go()


def test_a_429_holds_calls_of_the_same_credential_and_model() -> None:
    """Others' credentials and other models are not held; those held go when it is over."""
    rig = Rig()
    ticket = rig.go(credential="mine", model="m")
    assert isinstance(rig.hear(ticket, 429, headers={"retry-after": "5"}), Again)
    held = rig.wait(credential="mine", model="m")
    rig.go(credential="yours", model="m")
    rig.go(credential="mine", model="n")
    assert rig.admission.wake_ns() == 5 * SECOND_NS
    # One at a time, then more: the first is the call that was refused, still under way.
    assert rig.tick(5) == []
    assert rig.settle(ticket) == [held]


def test_what_the_upstream_has_left_is_heeded() -> None:
    """Remaining 0: the next call waits for the first request that comes back."""
    rig = Rig()
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }
    rig.hear(rig.go(), 200, headers=headers)
    waiting = rig.wait()
    assert [effect.ticket for effect in rig.tick(1)] == [waiting]


def test_o4_a_breaker_opens_for_faults_of_the_upstream_alone() -> None:
    """O4: ten bad requests open nothing; ten broken connections do, for that model."""
    rig = Rig(Upstream(adaptive=None, retry=Retry(attempts_max=1)))
    for status, expected in ((400, State.CLOSED), (429, State.CLOSED), (None, State.OPEN)):
        for _ in range(10):
            rig.hear(rig.go(), status, code="x" if status != 429 else "insufficient_quota")
        (breaker,) = rig.admission.breakers().values()
        assert breaker.state is expected
    refused = rig.refuse()
    assert (refused.reason, refused.status) == (Reason.BREAKER_OPEN, 503)
    assert refused.retry_after_ns is not None
    rig.go(model="other")


def test_o4_a_probe_whose_client_leaves_is_handed_back() -> None:
    """O4: no way to end a call leaves a breaker waiting for it."""
    config = Breaker(calls_min=1, open_seconds=1, probes=1)
    rig = Rig(slots(1, breaker=config, retry=Retry(attempts_max=1)))
    first = rig.go()
    rig.hear(first, None)
    rig.settle(first)
    rig.now_ns += 2 * SECOND_NS
    probe = rig.go()
    assert rig.refuse().reason is Reason.BREAKER_OPEN
    rig.settle(probe, Spent(sent=False))
    probe = rig.go()
    rig.hear(probe, 200)
    (breaker,) = rig.admission.breakers().values()
    assert breaker.state is State.CLOSED


def test_o4_those_who_wait_are_told_when_it_opens() -> None:
    """O4: a queue before a dead upstream fails fast, and a retry under an open breaker too."""
    config = Breaker(calls_min=1, open_seconds=1)
    rig = Rig(slots(2, breaker=config))
    first, second = rig.go(), rig.go()
    waiting = [rig.wait(), rig.wait()]
    assert isinstance(rig.hear(first, 502), Again)
    assert not rig.admission.resume(first, rig.now_ns)
    effects = rig.admission.settle(second, SPENT, rig.now_ns)
    assert [effect.ticket for effect in effects] == waiting
    assert all(
        isinstance(effect, Refuse) and effect.reason is Reason.BREAKER_OPEN for effect in effects
    )


def test_the_found_limit_holds_calls_and_lets_go_when_it_rises() -> None:
    """Adaptive concurrency: on where none is set; each credential's own."""
    rig = Rig(Upstream(adaptive=Adaptive(initial=2)))
    first = [rig.go(credential="a") for _ in range(2)]
    waiting = [rig.wait(credential="a") for _ in range(40)]
    rig.go(credential="b")
    went: list[Ticket] = []
    ticket = first[0]
    for _ in range(31):
        rig.now_ns += SECOND_NS // 10
        heard = rig.admission.heard(ticket, Answer(status=200), rig.now_ns, rig.wall_ns)
        went += [effect.ticket for effect in heard.effects if isinstance(effect, Go)]
        went += rig.settle(ticket)
        ticket = went[-1]
    assert went == waiting[: len(went)]
    limits = [gate.adaptive.limit for gate in rig.admission.gates().values() if gate.adaptive]
    assert max(limits) > 2
