"""Counts that are kept elsewhere: answers come later, in an order of their own."""

from __future__ import annotations

import random

from taximeter.admission import (
    Admission,
    Answer,
    Go,
    Policy,
    Queue,
    Request,
    Retry,
    Ticket,
    Wait,
)
from tests.admission.rig import SECOND_NS, SPENT, WALL_NS, LateStore, slots


def test_a_store_elsewhere_is_waited_for_and_holds_up_nobody_else() -> None:
    """Each call waits for its own answer; a user's calls keep their order; who has left by then
    gives back what comes for it, to whoever waits for that.
    """
    store = LateStore(random.Random(1))
    policy = Policy(upstreams={"up": slots(2)})
    admission = Admission(policy, random.Random(1).random, store)

    def arrive(user: str) -> Ticket:
        request = Request(upstream="up", user=user, input_tokens=10, output_tokens_max=10)
        verdict = admission.arrive(request, 0, WALL_NS)
        assert isinstance(verdict, Wait)
        return verdict.ticket

    first, second, third = arrive("a"), arrive("b"), arrive("c")
    assert len(store.asked) == 3
    assert admission.leave(first, 0) == []
    effects = store.flush(admission, 0)
    effects += store.flush(admission, 0)
    assert {effect.ticket for effect in effects} == {second, third}
    assert all(isinstance(effect, Go) for effect in effects)
    assert store.memory.in_use(second.plan.slots[0].key) == 2
    assert admission.settle(second, SPENT, 0) == []
    fourth = arrive("d")
    assert [effect.ticket for effect in store.flush(admission, 0)] == [fourth]


def test_a_call_given_leave_that_cannot_use_it_gives_it_to_the_next() -> None:
    """A store elsewhere has given a slot, and the route has shut meanwhile: at its deadline the
    slot goes to whom it held up.
    """
    store = LateStore(random.Random(1))
    upstream = slots(2, queue=Queue(wait_seconds_max=3), retry=Retry(attempts_max=1))
    admission = Admission(Policy(upstreams={"up": upstream}), random.Random(1).random, store)

    def arrive(user: str, model: str, now_ns: int) -> Ticket:
        request = Request(upstream="up", user=user, model=model, input_tokens=10)
        verdict = admission.arrive(request, now_ns, WALL_NS)
        assert isinstance(verdict, Wait)
        return verdict.ticket

    first = arrive("a", "m", 0)
    store.flush(admission, 0)
    shut_out = arrive("b", "m", 0)
    headers = {"retry-after": "30"}
    admission.heard(first, Answer(status=429, headers=headers), 0, WALL_NS)
    assert store.flush(admission, 0) == []
    assert shut_out.taken
    held_up = arrive("c", "n", SECOND_NS)
    for _ in range(3):
        assert store.flush(admission, SECOND_NS) == []
    assert store.asked == []
    effects = admission.tick(3 * SECOND_NS, WALL_NS)
    assert [effect.ticket for effect in effects] == [shut_out]
    assert [effect.ticket for effect in store.flush(admission, 3 * SECOND_NS)] == [held_up]
