"""What a call used, as far as the relay can tell at its end. Pure.

The upstream's own figure is taken where there is one. Where there is none that is final, the
text that went by is counted, by another process and after the client has its answer: all that is
decided here is whether, and on what.

    answer whole, final usage           -> reported
    answer broken off, usage so far     -> partial, and what was delivered is counted beside it
    no usage, a countable call          -> to be counted (estimated)
    no usage, nothing to count          -> absent
"""

from __future__ import annotations

import msgspec

from taximeter.call import Fact, Outcome, Usage, UsageSource
from taximeter.counting import COUNTABLE_APIS, CountJob
from taximeter.dialects import AnswerFacts
from taximeter.relay._answer import Head
from taximeter.relay._request import Request
from taximeter.relay._tap import Tap

_WITHOUT_OUTPUT = frozenset({"embeddings", "embed_content", "ollama_embed"})
# Taken out of their classes once: to look into an Enum is a call of its own.
_ABSENT, _REPORTED, _COMPLETED = UsageSource.ABSENT, UsageSource.REPORTED, Outcome.COMPLETED
_BROKEN = frozenset({Outcome.CANCELLED, Outcome.TRUNCATED, Outcome.INTERRUPTED, Outcome.ABANDONED})


class UsageFinding(msgspec.Struct):
    """What is known of a call's usage, and whether counting is to add to it."""

    answer: AnswerFacts
    usage: Usage | None = None
    source: UsageSource = _ABSENT
    must_count: bool = False
    text_bytes_in: int | None = None
    text_bytes_out: int | None = None


def find_usage(
    request: Request,
    tap: Tap | None,
    head: Head | None,
    outcome: Outcome,
    facts: set[Fact],
    *,
    sent: bool,
) -> UsageFinding:
    """Tell what is known of a call's usage at its end.

    What is noted on the way is added to `facts`. `sent`: the request had gone upstream.
    """
    operation = request.operation
    drained = bool(facts) and Fact.DRAINED in facts  # the answer was read to its end all the same
    if operation.fetch:
        facts.add(Fact.FETCHED)
    if request.facts.batch or operation.api == "batches":
        facts.add(Fact.BATCH)
    answer = _answer_of(tap, facts)
    usage = answer.usage
    if operation.free and not (request.intake.method == "POST" and _has_tokens(usage)):
        # What is asked to make something and says what it used has its price, whatever its path.
        facts.add(Fact.FREE)
    if usage is None:
        usage = _request_measures(request, tap, outcome)
    finding = UsageFinding(answer, usage)
    # An error that came in the middle of a stream broke it off, too: what came before it counts.
    error_answer = head is not None and head.status >= 400
    broken = outcome is not _COMPLETED and (
        (outcome in _BROKEN and not drained)
        or (outcome is Outcome.UPSTREAM_ERROR and head is not None and not error_answer)
    )
    # So does what a tap knows of a stream that it has not read to its end, however that came.
    broken = broken or (tap is not None and tap.is_stream and tap.gave_up and not error_answer)
    if usage is not None:
        finding.source = _REPORTED if not broken or answer.final else UsageSource.PARTIAL
        if not broken:
            return finding
    if sent and not error_answer and _must_count(request, finding, outcome, broken=broken):
        finding.must_count = True
        finding.text_bytes_in = request.body_bytes
        # The rule of last resort, bytes/4, must not take an event's framing for text.
        finding.text_bytes_out = _output_bytes(request, tap)
    return finding


def _has_tokens(usage: Usage | None) -> bool:
    return usage is not None and bool(usage.input_tokens or usage.output_tokens)


def _answer_of(tap: Tap | None, facts: set[Fact]) -> AnswerFacts:
    """Give what the answer has said, and note what was noted of it."""
    if tap is None:
        return AnswerFacts()
    if tap.facts:
        facts |= tap.facts
    try:
        answer = tap.answer()
    except Exception:  # a dialect must not raise; if one does, the call goes on without it
        facts.add(Fact.TAP_FAILED)
        return AnswerFacts()
    if answer.clamped:
        facts.add(Fact.USAGE_CLAMPED)
    if answer.deferred:
        facts.add(Fact.DEFERRED)
    return answer


def _request_measures(request: Request, tap: Tap | None, outcome: Outcome) -> Usage | None:
    """Give what only the request tells and a price may go by: characters spoken, images."""
    if tap is None or outcome is not _COMPLETED:
        return None
    facts = request.facts
    if facts.input_characters is not None and request.operation.api == "speech":
        return Usage(input_characters=facts.input_characters)
    if facts.images is not None and request.operation.api == "images":
        return Usage(images=facts.images)
    return None


def _must_count(request: Request, finding: UsageFinding, outcome: Outcome, *, broken: bool) -> bool:
    answer, operation = finding.answer, request.operation
    if operation.api not in COUNTABLE_APIS or operation.free or operation.fetch:
        return False
    if outcome is Outcome.REJECTED or answer.deferred:
        return False
    if broken:
        return not answer.final
    if outcome is Outcome.UPSTREAM_ERROR:
        return False
    return finding.usage is None


def _output_bytes(request: Request, tap: Tap | None) -> int | None:
    if request.operation.api in _WITHOUT_OUTPUT:
        return 0
    if tap is None:
        # Nothing had come. A stream had made nothing then; what a plain answer cost, nobody knows.
        return 0 if request.facts.stream else None
    return tap.events * 4 if tap.is_stream else tap.body_bytes


def count_job(request: Request, tap: Tap | None, finding: UsageFinding) -> CountJob:
    """Make the job of counting a call's text. The text lives in memory only."""
    kept, whole_bytes = tap.kept() if tap is not None else (None, None)
    if tap is None and request.facts.stream:
        kept, whole_bytes = b"", 0  # no event had come: nothing had been said
    return CountJob(
        dialect=request.upstream.settings.dialect,
        path=request.intake.route.path,
        operation=request.operation,
        model=finding.answer.response_model or request.facts.model,
        request=request.body,
        request_bytes_total=request.body_bytes,
        answer_type=tap.subject.content_type if tap is not None else "text/event-stream",
        answer=kept,
        answer_bytes_total=whole_bytes,
        text_bytes_in=finding.text_bytes_in,
        text_bytes_out=finding.text_bytes_out,
    )
