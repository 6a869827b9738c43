"""What is fuzzed: each takes any bytes, and raises `AssertionError` where a promise is broken.

The first bytes of an input choose among variants, the rest is what an upstream, a client or a
damaged disk says.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import msgspec

from taximeter.call import Fact
from taximeter.dialects import dialect_for
from taximeter.journal import Frame, scan
from taximeter.journal._format import MARKER
from taximeter.relay._answer import AnswerParser, MalformedAnswer
from taximeter.relay._budget import ByteBudget
from taximeter.relay._decoders import decoded_bytes_max, zstd
from taximeter.relay._stream_tap import tap_for
from taximeter.relay._tap import Subject
from tests.dialects.test_hostile import PLACES, check, reader
from tests.dialects.transcript import JSON, run
from tests.journal import reference

KEPT_BYTES_MAX = 4096
_CODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", bytes),
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("br", brotli.compress),
    ("zstd", zstd.compress),
]


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def events(data: bytes) -> None:
    """C3: a stream says the same however it is cut, goes on to the byte, and makes no fault."""
    variant, size, stream = data[:1] or b"\0", data[1:2] or b"\0", data[2:]
    place, drop = variant[0] % len(PLACES), variant[0] >= 128
    whole = run(reader(place, drop), [stream])
    cut = run(reader(place, drop), _cut(stream, 1 + size[0]))
    assert cut == whole
    check(whole.answer)
    if not drop:
        assert whole.released == stream


def tap(data: bytes) -> None:
    """C1, H4: the tap passes on what it gets, within its bounds, coded or not."""
    variant, size, said = data[:1] or b"\0", data[1:2] or b"\0", data[2:]
    name, path, content_type = PLACES[variant[0] % len(PLACES)]
    coding, coder = _CODERS[variant[0] // len(PLACES) % len(_CODERS)]
    body = coder(said) if variant[0] < 128 else said
    dialect = dialect_for(name, path)
    budget = ByteBudget(2 * KEPT_BYTES_MAX)
    subject = Subject(
        dialect=dialect,
        operation=dialect.operation("POST", path),
        provider="x-ai",
        status=200,
        content_type=content_type if size[0] % 2 else JSON,
        content_encoding=coding,
    )
    made = tap_for(subject, KEPT_BYTES_MAX, budget, drop_usage=False)
    passed = b"".join(made.feed(piece, at) for at, piece in enumerate(_cut(body, 1 + size[0])))
    assert passed + made.finish() == body
    assert made.body_bytes <= decoded_bytes_max(len(body)) + (1 << 20)
    assert budget.bytes_taken <= KEPT_BYTES_MAX
    if coding and body is not said and len(said) < 1 << 20:
        assert made.body_bytes == len(said) or Fact.TAP_OVERFLOW in made.facts
    assert made.fault is None
    check(made.answer())
    made.release()
    assert budget.bytes_taken == 0


def _object(body: bytes) -> dict[str, object] | None:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


_LIMITS = {
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
    "generationConfig",
    "generation_config",
    "options",
}


def bodies(data: bytes) -> None:
    """H4: any body is read within reason; a request's is changed where it is to be, only."""
    variant, body = data[:1] or b"\0", data[1:]
    name, path, content_type = PLACES[variant[0] % len(PLACES)]
    status = (200, 400, 500)[variant[0] // 32 % 3]
    dialect = dialect_for(name, path)
    operation = dialect.operation("POST", path)
    half = len(body) // 2
    check(dialect.read_answer(operation, "x-ai", status, JSON, body, None))
    check(dialect.read_answer(operation, None, status, JSON, body[:half], body[half:]))
    for whole in (True, False):
        facts = dialect.read_request(operation, path, "model=x", JSON, body, whole)
        assert facts.model is None or (facts.model.isprintable() and len(facts.model) <= 128)
        assert facts.output_tokens_max is None or facts.output_tokens_max > 0
    dialect.read_request(operation, path, "", "multipart/form-data; boundary=x", body, True)
    dialect.refuses_usage(status, body)
    dialect.countable(operation, body, content_type, body)
    before = _object(body)
    asked = dialect.ask_usage(body)
    if asked is not None and before is not None:
        after = _object(asked)
        assert after is not None
        options = after.pop("stream_options")
        assert isinstance(options, dict)
        assert options["include_usage"] is True
        before.pop("stream_options", None)
        assert after == before
    limited = dialect.limit_output(operation, body, 7)
    before = _object(body)
    if limited is not None and limited is not body and before is not None:
        after = _object(limited)
        assert after is not None
        changed = {key for key in {*after, *before} if after.get(key) != before.get(key)}
        assert changed <= _LIMITS, changed


def answers(data: bytes) -> None:
    """H2: an answer is the same however its bytes are cut: its head, its body, and its end."""
    variant, size, said = data[:1] or b"\0", data[1:2] or b"\0", data[2:]

    def read(pieces: list[bytes]) -> tuple[object, ...] | None:
        parser = AnswerParser(head_request=variant[0] % 2 == 1)
        try:
            body = b"".join([parser.feed(piece) for piece in pieces])
        except MalformedAnswer:
            return None
        head = parser.head
        if head is not None and head.status == 101:
            return None  # what follows is no HTTP, and is not given to it
        said_by_head = head and (head.status, head.reason, head.lines, head.framing, head.length)
        return said_by_head, len(parser.interim), body, parser.complete, parser.reusable

    whole, cut = read([said]), read(_cut(said, 1 + size[0]))
    assert whole == cut


def journal(data: bytes) -> None:
    """D4: any bytes are read to the end, as by trying every offset, whole or while they grow."""
    size, segment = data[:1] or b"\0", data[1:]
    items, after = scan(segment, 0, final=True)
    at = 0
    for each in items:
        assert (each.start, each.end > at) == (at, True)
        at = each.end
    assert at == after == len(segment)
    found = [(each.sequence, each.payload) for each in items if isinstance(each, Frame)]
    # Every offset is tried there: a header is no frame, and is left out on both sides.
    assert found == reference.frames(segment) or reference.header_is_good(segment)
    if any(MARKER in payload for _, payload in found):
        return  # no writer makes such a payload: while it grows, the frame in it may be found first
    offset, grown = 0, []
    for end in range(0, len(segment), 1 + size[0]):
        some, offset = scan(segment[:end], offset, final=False)
        grown += [each for each in some if isinstance(each, Frame)]
    some, _ = scan(segment, offset, final=True)
    grown += [each for each in some if isinstance(each, Frame)]
    assert [(each.sequence, each.payload) for each in grown] == found


TARGETS: dict[str, Callable[[bytes], None]] = {
    "answers": answers,
    "bodies": bodies,
    "events": events,
    "journal": journal,
    "tap": tap,
}
