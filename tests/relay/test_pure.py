"""The relay's pure parts, as tables."""

from __future__ import annotations

import gzip
import uuid
import zlib
from typing import NamedTuple

import brotli
import pytest
from msgspec.structs import replace

from taximeter.call import TRANSITIONS, CallIds, Fact, Opened, Outcome, Phase, is_legal
from taximeter.dialects import dialect_for
from taximeter.relay._budget import ByteBudget
from taximeter.relay._decoders import DECODED_BYTES_MAX, decoder_for, zstd
from taximeter.relay._errors import Refused
from taximeter.relay._heads import RequestHead, answer_fields, field_plan
from taximeter.relay._identity import IdentityHeaders, identify
from taximeter.relay._routing import Routes
from taximeter.relay._tap import KEPT_BLOCK_BYTES, TAIL_BYTES_MAX, Subject, Tap
from taximeter.relay._trace import Spans, parse_traceparent
from taximeter.trace_ids import span_id_of, trace_id_of

# == the table of transitions ===================================================================


def test_every_phase_is_reached_and_every_phase_ends() -> None:
    """Each phase can be come to from the first, and leads to the end in at least one outcome."""
    reached, ahead = set(), [Phase.RECEIVING]
    while ahead:
        phase = ahead.pop()
        if phase not in reached:
            reached.add(phase)
            ahead += TRANSITIONS[phase]
    assert reached == set(Phase)
    assert all(TRANSITIONS[phase].get(Phase.ENDED) for phase in reached - {Phase.ENDED})
    assert {o for ways in TRANSITIONS.values() for o in ways.get(Phase.ENDED, ())} == set(Outcome)


def test_only_what_the_table_says_is_legal() -> None:
    """A step that is not in the table is refused, and so is an end without its outcome."""
    for before in Phase:
        for after in Phase:
            for outcome in (None, *Outcome):
                allowed = TRANSITIONS[before].get(after)
                wanted = allowed is not None and (
                    outcome in allowed if after is Phase.ENDED else outcome is None
                )
                assert is_legal(before, after, outcome) is wanted
    assert not TRANSITIONS[Phase.ENDED]


def test_ids_go_on_when_the_clock_goes_back() -> None:
    """D12: call ids are UUIDv7 and ordered, whatever the wall clock does."""
    ids = CallIds()
    day = 86_400 * 10**9
    times = [10 * day, 10 * day, 9 * day, 11 * day, 11 * day + 1, 8 * day, 11 * day + 10**6]
    made = [ids.make(now) for now in times]
    assert made == sorted(set(made))
    assert all(uuid.UUID(one).version == 7 for one in made)


@pytest.mark.parametrize(
    "now_ns", [10**6, 10**6 + 999_999, 1_795_000_000_123_456_789, 2**48 * 10**6 - 1]
)
def test_an_id_says_when_its_call_came(now_ns: int) -> None:
    """An id is written as RFC 9562 has it: milliseconds, their 4096ths, and 62 bits of chance."""
    made = CallIds().make(now_ns)
    read = uuid.UUID(made)
    assert str(read) == made
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == now_ns // 10**6
    assert read.int >> 64 & 0xFFF == now_ns % 10**6 * 4096 // 10**6


# == where a request goes =======================================================================


class Place(NamedTuple):
    """An upstream, as far as routing needs one."""

    name: str
    dialect: str

    def target_of(self, target: str) -> bytes:
        return target.encode("latin-1")


OPEN, LOCAL, ANTHROPIC, GEMINI = (
    Place("O", "openai"),
    Place("L", "openai"),
    Place("A", "anthropic"),
    Place("G", "gemini"),
)
ROUTES = Routes(
    {"openai": OPEN, "local": LOCAL},
    {"openai": OPEN, "anthropic": ANTHROPIC, "gemini": GEMINI},
)


@pytest.mark.parametrize(
    ("target", "upstream", "rest"),
    [
        ("/v1/chat/completions", "O", "/v1/chat/completions"),
        ("/v1/messages?beta=true", "A", "/v1/messages?beta=true"),
        ("/v1beta/models/x:generateContent?key=k", "G", "/v1beta/models/x:generateContent?key=k"),
        ("/local/v1/chat/completions", "L", "/v1/chat/completions"),
        ("/local", "L", "/"),
        ("/local?a=b", "L", "/?a=b"),
        ("/local/", "L", "/"),
        ("/local//evil.example/", "L", "//evil.example/"),
        ("/chat/completions", "O", "/chat/completions"),
        ("http://evil.example/v1/models", "O", "/v1/models"),
        ("http://user@evil.example:1/local/x", "L", "/x"),
        ("/v1/models#fragment", "O", "/v1/models"),
        ("/v1/%2e%2e/admin", "O", "/v1/%2e%2e/admin"),
        ("/v1/a?", "O", "/v1/a?"),
    ],
)
def test_targets_go_where_the_settings_say(target: str, upstream: str, rest: str) -> None:
    """H5: the upstream comes from the settings, and the rest of the target is not touched."""
    for _ in range(2):  # also when it is remembered
        route = ROUTES.find("POST", target)
        assert (route.upstream.name, route.target) == (upstream, rest)
        assert route.raw_target == rest.encode()


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/", "unknown_upstream"),
        ("//evil.example/v1/models", "unknown_upstream"),
        ("/localx/v1", "unknown_upstream"),
        ("/LOCAL/v1", "unknown_upstream"),
        ("/%6cocal/v1", "unknown_upstream"),
        ("*", "bad_target"),
        ("evil.example:443", "bad_target"),
        ("ftp://evil.example/v1", "bad_target"),
        ("http://evil.example", "unknown_upstream"),
        ("/api/chat", "no_default_upstream"),
    ],
)
def test_other_targets_go_nowhere(target: str, code: str) -> None:
    """H5: what names no upstream is refused with a code that says why."""
    with pytest.raises(Refused) as caught:
        ROUTES.find("POST", target)
    assert caught.value.code == code


# == header fields ==============================================================================


def head_of(*fields: tuple[bytes, bytes], forward_trace: bool = False) -> RequestHead:
    """Sort fields by the plan of an upstream."""
    return RequestHead(fields, field_plan([b"x-user"], forward_trace=forward_trace))


def test_end_to_end_fields_keep_order_case_and_repetition() -> None:
    """C1: what goes on goes on byte for byte; what is of one connection, or ours, stays."""
    kept = [(b"X-A", b"1"), (b"x-a", b"\xff"), (b"Authorization", b"Bearer k"), (b"X-A", b"3")]
    taken = [
        (b"Host", b"a"),
        (b"Connection", b"x-b"),
        (b"X-B", b"2"),
        (b"connection", b"close, X-C"),
        (b"X-C", b"2"),
        (b"X-Taximeter-User", b"eve"),
        (b"traceparent", b"00-1"),
        (b"TE", b"trailers"),
    ]
    assert head_of(*kept[:2], *taken, *kept[2:]).passed == kept

    def lines(fields: list[tuple[bytes, bytes]]) -> bytes:
        return b"".join(b"%b: %b\r\n" % field for field in fields)

    mixed = [*kept[:2], *taken[1:6], *kept[2:], (b"Content-Length", b"3")]
    assert answer_fields(b"\r\n" + lines(mixed), 2).passed == lines(kept)


@pytest.mark.parametrize("forward", [True, False])
def test_trace_context_goes_on_only_if_asked(forward: bool) -> None:
    """Baggage may name users: without `forward_trace` it ends here."""
    fields = [(b"traceparent", b"a"), (b"tracestate", b"b"), (b"baggage", b"c")]
    assert head_of(*fields, forward_trace=forward).passed == (fields if forward else [])


TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (b"00-" + TRACE + b"-" + SPAN + b"-01", True),
        (b" 00-" + TRACE + b"-" + SPAN + b"-00 ", True),
        (b"cc-" + TRACE + b"-" + SPAN + b"-01-what-the-future-brings", True),
        (b"00-" + TRACE + b"-" + SPAN + b"-01-more", False),
        (b"ff-" + TRACE + b"-" + SPAN + b"-01", False),
        (b"00-" + b"0" * 32 + b"-" + SPAN + b"-01", False),
        (b"00-" + TRACE + b"-" + b"0" * 16 + b"-01", False),
        (b"00-" + TRACE.upper() + b"-" + SPAN + b"-01", False),
        (b"00-" + TRACE + b"-" + SPAN, False),
        (b"", False),
        (None, False),
    ],
)
def test_only_valid_trace_context_is_continued(value: bytes | None, valid: bool) -> None:
    """W3C trace context: versions to come are read, malformed values are not."""
    found = parse_traceparent(value)
    assert (found is not None) is valid
    if found is not None:
        assert (found.trace_id.encode(), found.parent_span_id.encode()) == (TRACE, SPAN)


def test_the_first_that_names_the_user_wins() -> None:
    """Header, baggage, configured header, body, OpenAI's header, key: in that order."""
    names = IdentityHeaders(user=(b"x-user",))
    ways = [
        ((b"x-taximeter-user", b"header"), "header"),
        ((b"baggage", b"user.id=bag%67age"), "baggage"),
        ((b"x-user", b"configured"), "configured"),
        (None, "body"),
        ((b"openai-safety-identifier", b"safety"), "safety"),
    ]
    for first in range(len(ways)):
        fields = [field for field, _ in ways[first:] if field is not None]
        body = "body" if first <= 3 else None
        key = (b"authorization", b"Bearer secret")
        speaker = identify(head_of(*fields, key), "", names, b"k")
        found = speaker.identity
        assert (speaker.user_of_body(body) or found.user) == ways[first][1]
        assert found.key_hash is not None
        assert "secret" not in str(found)
    last = identify(head_of((b"x-api-key", b"secret")), "", names, b"k").identity
    assert last.user == f"key-{last.key_hash}"
    assert last.user_source == "key"


# == the tap ====================================================================================

OPENAI = dialect_for("openai", "/v1/chat/completions")
CHAT = OPENAI.operation("POST", "/v1/chat/completions")
ANSWER = (
    b'{"id":"x","model":"m","choices":[{"message":{"content":"hi"}}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}'
)


def tap_for(encoding: str = "", *, kept: int = 65536, budget: ByteBudget | None = None) -> Tap:
    """Make the tap of a plain chat answer."""
    subject = Subject(
        dialect=OPENAI,
        operation=CHAT,
        provider="openai",
        status=200,
        content_type="application/json",
        content_encoding=encoding,
    )
    return Tap(subject, kept, budget or ByteBudget(1 << 20))


@pytest.mark.parametrize(
    ("encoding", "coded"),
    [
        ("", ANSWER),
        ("identity", ANSWER),
        ("gzip", gzip.compress(ANSWER)),
        ("deflate", zlib.compress(ANSWER)),
        ("br", brotli.compress(ANSWER)),
        ("zstd", zstd.compress(ANSWER)),
    ],
)
@pytest.mark.parametrize("pace", [1, 1000])
def test_coded_answers_pass_untouched_and_are_read(encoding: str, coded: bytes, pace: int) -> None:
    """C1: a coded body goes through as it is, and its usage is found."""
    budget = ByteBudget(1 << 20)
    tap = tap_for(encoding, budget=budget)
    passed = b"".join(tap.feed(coded[at : at + pace], at) for at in range(0, len(coded), pace))
    assert passed + tap.finish() == coded
    usage = tap.answer().usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (3, 5)
    assert len(ANSWER) <= budget.bytes_taken <= KEPT_BLOCK_BYTES
    tap.release()
    assert budget.bytes_taken == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("pace", [1, 7, 100_000])
def test_a_coded_body_is_unpacked_whole_however_it_is_cut(encoding: str, pace: int) -> None:
    """H4: what is unpacked in pieces is all there, be one byte of it half a megabyte."""
    coders = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}
    for body in (b"", b"a", bytes(range(256)) * 5000):
        coded = coders.get(encoding, zstd.compress)(body)
        decoder = decoder_for(encoding)
        assert decoder is not None
        found = b"".join(
            b"".join(decoder.decode(coded[at : at + pace])) for at in range(0, len(coded), pace)
        )
        assert found == body


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip.compress(bytes(DECODED_BYTES_MAX * 2), 9)),
        ("br", brotli.compress(bytes(DECODED_BYTES_MAX * 2), quality=5)),
        ("zstd", zstd.compress(bytes(DECODED_BYTES_MAX * 2))),
    ],
)
def test_a_bomb_is_passed_on_and_not_unpacked(encoding: str, bomb: bytes) -> None:
    """H4: the tap stops unpacking at its bound, keeps next to nothing, and the bytes go on."""
    budget = ByteBudget(1 << 20)
    tap = tap_for(encoding, budget=budget)
    assert tap.feed(bomb, 0) == bomb
    assert tap.feed(bomb, 1) == bomb
    # A hundred times what it is, and a little: never what it was made to come to.
    assert 0 < tap.body_bytes <= 100 * len(bomb) + 3 * 1024 * 1024
    assert tap.body_bytes < DECODED_BYTES_MAX
    assert budget.bytes_taken <= 65536
    assert Fact.TAP_OVERFLOW in tap.facts


def test_rubbish_in_a_coding_is_passed_on() -> None:
    """L5: a body that cannot be decoded goes on untouched, and the row says so."""
    tap = tap_for("gzip")
    assert tap.feed(b"no gzip", 0) == b"no gzip"
    assert tap.facts == {Fact.TAP_FAILED}


@pytest.mark.parametrize("bound", ["kept", "budget"])
def test_usage_is_found_at_the_end_of_a_long_answer(bound: str) -> None:
    """H4: of a long body the beginning and the end are kept, and no more."""
    budget = ByteBudget(1000 if bound == "budget" else 1 << 20)
    tap = tap_for(kept=4096 if bound == "kept" else 1 << 20, budget=budget)
    long = ANSWER.replace(b'"hi"', b'"' + b"x" * 500_000 + b'"')
    for at in range(0, len(long), 1000):
        tap.feed(long[at : at + 1000], at)
    usage = tap.answer().usage
    assert usage is not None
    assert usage.output_tokens == 5
    assert Fact.TAP_OVERFLOW in tap.facts
    assert tap._tail_bytes <= TAIL_BYTES_MAX + 1000
    tap.release()
    assert budget.bytes_taken == 0


def test_an_upstream_that_is_told_of_traces_is_a_child_of_our_attempt() -> None:
    """The span it is told is the very one that is exported for the attempt; so is the decision."""
    opened = Opened(call_id="0192f0e4-0000-7000-8000-0000000000ff", started_at_ns=1)
    assert (
        Spans(1.0).traceparent(opened, 2)
        == (
            f"traceparent: 00-{trace_id_of(opened.call_id)}-"
            f"{span_id_of(opened.call_id, 'attempt 2')}-01\r\n"
        ).encode()
    )
    assert Spans(0.0).traceparent(opened, 1).endswith(b"-00\r\n")
    theirs = replace(opened, trace_id="a" * 32, parent_span_id="b" * 16, trace_flags=1)
    line = Spans(0.0).traceparent(theirs, 1)
    assert line.startswith(b"traceparent: 00-" + b"a" * 32)
    assert line.endswith(b"-01\r\n")
    assert b"b" * 16 not in line
