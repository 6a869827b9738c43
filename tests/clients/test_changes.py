"""C10: a provider changes what it says, from one day to the next."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients._bench import CHAT, STREAM, Bench
from tests.rig import Script
from tests.rig.exposition import Exposition
from tests.rig.taximeter import PLAIN, Taximeter
from tests.rig.upstream import Upstream

MODEL = "model-of-tomorrow-9"
PRICE = {"input_usd_per_million": 1, "output_usd_per_million": 2}
PLAIN_ANSWER = json.dumps(
    {
        "id": "new-1",
        "object": "chat.completion.of.tomorrow",
        "model": MODEL,
        "thoughts": [{"kind": "unheard of", "nested": {"deep": [1, 2, 3]}}],
        "choices": [{"message": {"content": "a", "mood": "good"}}],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 5,
            "dream_tokens": 3,
            "tier_of_dream": "deep",
        },
    }
)
EVENTS = [
    'event: preface\ndata: {"type": "preface", "of": "tomorrow"}\n\n',
    f'data: {{"id": "new-2", "model": "{MODEL}",'
    ' "choices": [{"delta": {"content": "a"}}]}\n\n',
    'data: {"type": "mood.changed", "choices": "none of your business"}\n\n',
    'data: {"id": "new-2", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5,'
    ' "dream_tokens": 3}}\n\n',
    "data: [DONE]\n\n",
]


def test_what_nobody_has_heard_of_is_relayed_kept_and_priced_later(tmp_path: Path) -> None:
    """C10: unknown fields, events, endpoints and kinds of content pass byte for byte; the usage is
    booked with what of it is new; the cost is NULL and counted, until there is a price for it.
    """
    with Upstream() as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai", **PLAIN}}
        with Taximeter(tmp_path, upstreams) as meter:
            bench = Bench(upstream, meter)
            upstream.queue(
                Script(body=PLAIN_ANSWER, content_type="application/vnd.tomorrow+json; v=9"),
                Script(events=EVENTS, content_type="text/event-stream"),
                Script(body="\x01\x02 tomorrow", content_type="application/x-tomorrow"),
            )
            assert bench.fetch({**CHAT, "model": MODEL}) == (200, PLAIN_ANSWER.encode())
            assert bench.fetch({**STREAM, "model": MODEL}) == (200, "".join(EVENTS).encode())
            unheard = bench.fetch({"model": MODEL, "dream": True}, "/v1/dreams/of/tomorrow")
            assert unheard == (200, b"\x01\x02 tomorrow")
            plain, stream, dream = bench.rows(3)
            assert {row["outcome"] for row in (plain, stream, dream)} == {"completed"}
            for row in (plain, stream):
                assert (row["input_tokens"], row["output_tokens"]) == (7, 5)
                assert json.loads(row["raw_usage"])["dream_tokens"] == 3
                assert row["cost_pico"] is None
            assert dream["cost_pico"] is None
            shown = Exposition.of(meter.console_url)
            assert shown.total("taximeter_unpriced_calls_total") == 3
            configuration = json.loads(meter.configuration.read_text())
            configuration["prices"] = [{"provider": "*", "model": MODEL, **PRICE}]
            meter.configuration.write_text(json.dumps(configuration))
            meter.run("ledger", "reprice", "--unpriced")
            costs = [row["cost_pico"] for row in meter.rows()]
            assert costs[:2] == [(7 + 2 * 5) * 10**6] * 2
