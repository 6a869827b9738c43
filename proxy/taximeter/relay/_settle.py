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

from dataclasses import dataclass, field

from taximeter.call import Fact, Outcome, Usage, UsageSource
from taximeter.counting import CountJob
from taximeter.dialects import AnswerFacts
from taximeter.relay._answer import Head
from taximeter.relay._request import Request
from taximeter.relay._tap import Tap

COUNTABLE_APIS = frozenset(
    {
        "chat_completions",
        "completions",
        "responses",
        "embeddings",
        "messages",
        "generate_content",
        "embed_content",
        "ollama_chat",
        "ollama_generate",
        "ollama_embed",
    }
)
"""Calls whose tokens are a matter of text."""

_WITHOUT_OUTPUT = frozenset({"embeddings", "embed_content", "ollama_embed"})
_BROKEN = frozenset({Outcome.CANCELLED, Outcome.TRUNCATED, Outcome.INTERRUPTED, Outcome.ABANDONED})


@dataclass(slots=True)
class UsageFinding:
    """What is known of a call's usage, and whether counting is to add to it."""

    answer: AnswerFacts = field(default_factory=AnswerFacts)
    usage: Usage | None = None
    source: UsageSource = UsageSource.ABSENT
    must_count: bool = False
    text_bytes_in: int | None = None
    text_bytes_out: int | None = None
    facts: set[Fact] = field(default_factory=set)


def find_usage(
    request: Request,
    tap: Tap | None,
    head: Head | None,
    outcome: Outcome,
    *,
    drained: bool,
    sent: bool,
) -> UsageFinding:
    """Tell what is known of a call's usage at its end.

    `drained`: the client had left, and the answer was read to its end on its behalf. `sent`: the
    request had gone upstream.
    """
    finding = UsageFinding()
    operation = request.operation
    if operation.free:
        finding.facts.add(Fact.FREE)
    if operation.fetch:
        finding.facts.add(Fact.FETCHED)
    if request.facts.batch or operation.api == "batches":
        finding.facts.add(Fact.BATCH)
    if tap is not None:
        finding.facts |= tap.facts
        try:
            finding.answer = tap.answer()
        except Exception:  # a dialect must not raise; if one does, the call goes on without it
            finding.facts.add(Fact.TAP_FAILED)
    answer = finding.answer
    if answer.clamped:
        finding.facts.add(Fact.USAGE_CLAMPED)
    if answer.deferred:
        finding.facts.add(Fact.DEFERRED)
    usage = _with_request_measures(request, tap, answer.usage, outcome)
    finding.usage = usage
    # An error that came in the middle of a stream broke it off, too: what came before it counts.
    error_answer = head is not None and head.status >= 400
    broken = (outcome in _BROKEN and not drained) or (
        outcome is Outcome.UPSTREAM_ERROR and head is not None and not error_answer
    )
    if usage is not None:
        whole = not broken or answer.final
        finding.source = UsageSource.REPORTED if whole else UsageSource.PARTIAL
    if sent and not error_answer:
        finding.must_count = _must_count(request, finding, outcome, broken=broken)
    if finding.must_count:
        finding.text_bytes_in = request.body_bytes
        # The rule of last resort, bytes/4, must not take an event's framing for text.
        finding.text_bytes_out = _output_bytes(request, tap)
    return finding


def _with_request_measures(
    request: Request, tap: Tap | None, usage: Usage | None, outcome: Outcome
) -> Usage | None:
    """Add what only the request tells and a price may go by: characters spoken."""
    if usage is not None or tap is None or outcome is not Outcome.COMPLETED:
        return usage
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
        answer_type=tap.content_type if tap is not None else "text/event-stream",
        answer=kept,
        answer_bytes_total=whole_bytes,
        text_bytes_in=finding.text_bytes_in,
        text_bytes_out=finding.text_bytes_out,
    )
