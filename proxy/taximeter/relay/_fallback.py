"""Where else a call may go when its upstream is of no use to it.

Only while nothing has reached the client, and only with a body that is still whole. The other
upstream speaks the same dialect (the settings see to that), so the request goes there as it is,
below that upstream's own base, but for one thing: **no credential crosses**. What the client sent
for one upstream is taken out (cookies too, and whatever is named like a credential), and the other
gets its own key, or none. So where virtual keys are
in use only their holders' calls go elsewhere: nobody else may have a key of ours.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from taximeter.admission import Stop
from taximeter.relay._heads import RequestHead
from taximeter.relay._holder import without_secret_parameters, without_secrets

if TYPE_CHECKING:
    from taximeter.relay._intake import Intake
    from taximeter.relay._upstream import Upstream

FALLBACK_STOPS = frozenset(
    {
        Stop.ATTEMPTS_SPENT,
        Stop.USER_BUDGET_SPENT,
        Stop.UPSTREAM_BUDGET_SPENT,
        Stop.WAIT_TOO_LONG,
        Stop.NO_MONEY,
        Stop.BREAKER_OPEN,
    }
)
"""Ends of an upstream's attempts after which another upstream may do better. A call that may have
been worked on without an answer is not among them: it could be paid for twice."""


def rerouted(intake: Intake, upstream: Upstream) -> Intake:
    """Give what a request's head decides when the call goes to another upstream."""
    made = copy.copy(intake)
    target = intake.route.target
    made.upstream = upstream
    made.route = intake.route._replace(upstream=upstream, raw_target=upstream.target_of(target))
    made.head = RequestHead(intake.message.fields, upstream.field_plan)
    without_secrets(made.head)
    made.target = without_secret_parameters(made.route.raw_target)
    made.credential_line = upstream.credential_line(intake.route.dialect.name)
    made.opened = replace(
        intake.opened,
        upstream=upstream.name,
        provider=upstream.provider,
        meant_for=intake.opened.meant_for or intake.opened.upstream,
    )
    made.forget_starts()
    return made


def choices(intake: Intake, upstreams: dict[str, Upstream]) -> Iterator[Upstream]:
    """Go through the upstreams that a call may fall back to, each once, the nearest first."""
    if not intake.may_fall_back:
        return
    seen = {intake.upstream.name}
    ahead = list(intake.upstream.settings.fallback)
    while ahead:
        name = ahead.pop(0)
        upstream = upstreams.get(name)
        if name in seen or upstream is None:
            continue
        seen.add(name)
        ahead += upstream.settings.fallback
        if not upstream.is_left_by(intake.route.path, with_key=upstream.api_key is not None):
            yield upstream
