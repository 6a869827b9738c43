"""How fast a recorder books: a journal with so many calls, read, priced and put into a ledger.

    python -m bench.peers._booking FOLDER CALLS [LEDGER_URL]

prints what it took, as JSON. Without a URL the ledger is SQLite in the folder. The recorder is as
it is shipped, with its metrics and its access log; only its waiting for more is left out.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from taximeter.call import (
    Attempt,
    CallIds,
    Closed,
    Gaps,
    Opened,
    Outcome,
    Stage,
    Usage,
    UsageSource,
)
from taximeter.journal import JournalWriter, root_of
from taximeter.metrics import Meter
from taximeter.recorder import AccessLog, Recorder
from taximeter.records import encode_record
from taximeter.serve._logging import CallLines
from taximeter.settings import Settings

BEGIN_NS = 1_795_000_000_000_000_000 // 86_400_000_000_000 * 86_400_000_000_000
"""A midnight in 2026, nanoseconds since the epoch, UTC."""
MODELS = ("gpt-5.4-mini", "gpt-5.4", "gpt-4.1-mini", "o4-mini")
USERS, TEAMS, SESSIONS = 50, 5, 500


def made(calls: int, span_ns: int) -> Iterator[tuple[Opened, Closed]]:
    """Make the records of streamed calls of many users, spread over a time."""
    ids = CallIds()
    for number in range(calls):
        begun_ns = BEGIN_NS + span_ns * number // calls
        model = MODELS[number % len(MODELS)]
        opened = Opened(
            call_id=ids.make(begun_ns),
            started_at_ns=begun_ns,
            upstream="openai",
            dialect="openai",
            provider="openai",
            method="POST",
            path="/v1/chat/completions",
            operation="chat",
            model=model,
            stream=True,
            user=f"user-{number % USERS}",
            user_source="header",
            team=f"team-{number % TEAMS}",
            session=f"session-{number % SESSIONS}",
            key_hash="k:0123456789abcdef",
        )
        attempt = Attempt(
            number=1,
            upstream="openai",
            started_ns=200_000,
            connected_ns=250_000,
            sent_ns=300_000,
            first_byte_ns=180_000_000,
            ended_ns=2_000_000_000,
            reused=True,
            status=200,
        )
        tokens_in, tokens_out = 100 + number % 900, 20 + number % 400
        yield (
            opened,
            Closed(
                opened=opened,
                outcome=Outcome.COMPLETED,
                status=200,
                stages={
                    Stage.RECEIVE: 200_000,
                    Stage.QUEUE: 10_000,
                    Stage.CONNECT: 50_000,
                    Stage.FIRST_BYTE: 180_000_000 + number % 100_000_000,
                    Stage.FIRST_TOKEN: 20_000_000,
                    Stage.STREAM: 1_800_000_000,
                    Stage.SETTLE: 100_000,
                },
                attempts=[attempt],
                response_id=f"chatcmpl-{number:016x}",
                response_model=model,
                finish_reason="stop",
                usage=Usage(input_tokens=tokens_in, output_tokens=tokens_out, cached_tokens=64),
                usage_source=UsageSource.REPORTED,
                raw_usage=f'{{"prompt_tokens":{tokens_in},"completion_tokens":{tokens_out}}}',
                gaps=Gaps(count=100, sum_ns=1_500_000_000, max_ns=40_000_000, buckets=[0, 60, 40]),
                events=104,
                request_bytes=2_000,
                response_bytes=20_000,
            ),
        )


def main() -> None:
    """Write a journal, book it, and tell what the booking took."""
    folder, calls = Path(sys.argv[1]), int(sys.argv[2])
    words = {"ledger": sys.argv[3]} if len(sys.argv) > 3 else {}
    settings = Settings.model_validate({"data_dir": str(folder), **words})
    writer = JournalWriter.begin(root_of(settings.data_dir), 0)
    for opened, closed in made(calls, 3_600_000_000_000):
        writer.append(encode_record(opened))
        writer.append(encode_record(closed))
    writer.close()
    access = AccessLog(settings, CallLines(settings.log.format).write)
    recorder = Recorder(settings, sinks=(Meter(settings), access))
    recorder.begin()
    begin, spent = time.perf_counter(), _cpu_seconds()
    while recorder.step().busy:
        pass
    told = {"seconds": time.perf_counter() - begin, "cpu_seconds": _cpu_seconds() - spent}
    recorder.close()
    print(json.dumps({"calls": calls, **told}))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
