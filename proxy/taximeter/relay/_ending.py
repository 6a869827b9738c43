"""The record of a call's end, made from what an exchange has gathered. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from taximeter.call import Attempt, Closed, Fact, Opened, Outcome, Stage
from taximeter.counting import CountJob
from taximeter.dialects import AnswerFacts
from taximeter.relay._settle import UsageFinding, count_job, find_usage
from taximeter.relay._stream_tap import StreamTap

if TYPE_CHECKING:
    from taximeter.relay._answer import Head
    from taximeter.relay._request import Request
    from taximeter.relay._tap import Tap

_FIRST_TOKEN, _STREAM, _SETTLE = Stage.FIRST_TOKEN, Stage.STREAM, Stage.SETTLE


def answer_stages(stages: dict[Stage, int], first_byte_ns: int, tap: Tap, now_ns: int) -> None:
    """Fill in the stages that follow the first byte."""
    since = first_byte_ns
    if isinstance(tap, StreamTap) and tap.first_token_ns is not None:
        stages[_FIRST_TOKEN] = tap.first_token_ns - since
        since = tap.first_token_ns
    stages[_STREAM] = max(0, now_ns - since)


def close_record(
    *,
    opened: Opened,
    request: Request,
    tap: Tap | None,
    head: Head | None,
    outcome: Outcome,
    status: int | None,
    error: str | None,
    stages: dict[Stage, int],
    attempts: list[Attempt],
    facts: set[Fact],
    sent: bool,
    response_bytes: int,
    settle_started_ns: int,
) -> tuple[Closed, CountJob | None]:
    """Make the close record, and the job of counting if there is something to count."""
    job: CountJob | None = None
    if request.routed:
        finding = find_usage(request, tap, head, outcome, facts, sent=sent)
        if finding.must_count:
            job = count_job(request, tap, finding)
            facts.add(Fact.COUNT_PENDING)
    else:
        finding = UsageFinding(AnswerFacts())
    answer = finding.answer
    stages[_SETTLE] = time.monotonic_ns() - settle_started_ns
    if status is None and head is not None:
        status = head.status
    gaps, events = (None, 0) if tap is None else (tap.gaps, tap.events)
    record = Closed(
        opened=opened,
        outcome=outcome,
        status=status,
        stages=stages,
        attempts=attempts,
        response_id=answer.response_id,
        response_model=answer.response_model,
        service_tier=answer.service_tier,
        price_variant=answer.price_variant,
        finish_reason=answer.finish_reason,
        usage=finding.usage,
        usage_source=finding.source,
        raw_usage=answer.raw_usage,
        gaps=gaps,
        events=events,
        request_bytes=request.body_bytes,
        response_bytes=response_bytes,
        text_bytes_in=finding.text_bytes_in,
        text_bytes_out=finding.text_bytes_out,
        error=error or answer.error,
        facts=sorted(facts) if facts else [],
    )
    return record, job


def bare_close_record(
    opened: Opened,
    outcome: Outcome,
    status: int | None,
    error: str | None,
    head: Head | None,
    attempts: list[Attempt],
) -> Closed:
    """Make the close record of a call whose figures could not be made out."""
    if status is None and head is not None:
        status = head.status
    return Closed(
        opened=opened,
        outcome=outcome,
        status=status,
        attempts=attempts,
        error=error,
        facts=[Fact.TAP_FAILED],
    )
