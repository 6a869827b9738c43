"""How the records of a call are written, and read back.

A record is MessagePack: a map with the names of its fields, so that a reader passes over what a
later version has put in, and a letter that says which of the three it is. The end of a call that
went the usual way is written in fewer words (`Answered`), and read as any other.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from taximeter.call import (
    Attempt,
    Closed,
    Counted,
    Fact,
    Opened,
    Outcome,
    Stage,
    Usage,
    UsageSource,
)

__all__ = ["Answered", "Record", "decode_newer_record", "decode_record", "encode_record"]


class Answered(msgspec.Struct, frozen=True, array_like=True, tag="a", gc=False):
    """How a call ended that went the usual way: its `Closed`, said in fewer words.

    One attempt, begun as soon as the call had its turn, over a connection that was there; and an
    answer, with status 200, that came whole, was passed on whole and says what it used. That is
    most calls, and whatever is written of every call is paid for by each. So it stands as an array,
    without the names of its fields, and its `Opened` as the bytes that were written of it before.
    Only the relay makes one; `decode_record` gives the `Closed` in its place.

    Times are nanoseconds after the call's start. A field of a later version goes at the end.
    """

    opened: msgspec.Raw
    admitted_ns: int
    sent_ns: int
    first_byte_ns: int
    ended_ns: int
    settled_ns: int
    response_id: str | None
    response_model: str | None
    service_tier: str | None
    price_variant: dict[str, str]
    finish_reason: str | None
    usage: Usage | None
    raw_usage: str | None
    request_bytes: int
    response_bytes: int

    def closed(self) -> Closed:
        """Give the `Closed` that this stands for.

        Raises:
            msgspec.MsgspecError: if what stands in the place of its `Opened` is none.
        """
        opened = _decode_opened(self.opened)
        attempt = Attempt(
            number=1,
            upstream=opened.upstream or "",
            started_ns=self.admitted_ns,
            connected_ns=self.admitted_ns,
            sent_ns=self.sent_ns,
            first_byte_ns=self.first_byte_ns,
            ended_ns=self.ended_ns,
            reused=True,
            status=200,
        )
        return Closed(
            opened=opened,
            outcome=Outcome.COMPLETED,
            status=200,
            stages={
                Stage.RECEIVE: self.admitted_ns,
                Stage.QUEUE: 0,
                Stage.CONNECT: 0,
                Stage.FIRST_BYTE: self.first_byte_ns - self.admitted_ns,
                Stage.STREAM: self.ended_ns - self.first_byte_ns,
                Stage.SETTLE: self.settled_ns - self.ended_ns,
            },
            attempts=[attempt],
            response_id=self.response_id,
            response_model=self.response_model,
            service_tier=self.service_tier,
            price_variant=self.price_variant,
            finish_reason=self.finish_reason,
            usage=self.usage,
            usage_source=UsageSource.REPORTED,
            raw_usage=self.raw_usage,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
        )


Record = Opened | Closed | Counted

_decode: Callable[[bytes], Record] = msgspec.msgpack.Decoder(Record).decode
_decode_opened = msgspec.msgpack.Decoder(Opened).decode
_decode_answered = msgspec.msgpack.Decoder(Answered).decode
_ARRAY_16 = b"\xdc"
"""First byte of an array of 16 to 65,535 items, which is how an `Answered` begins."""

encode_record: Callable[[Record | Answered], bytes] = msgspec.msgpack.Encoder().encode
"""Gives a record's MessagePack form. Unknown fields are ignored by older readers."""


def decode_record(data: bytes) -> Record:
    """Read a record back; of an `Answered`, the `Closed` that it stands for.

    Raises:
        msgspec.MsgspecError: if `data` is not a record of a kind known here.
    """
    if data[:1] == _ARRAY_16:
        return _decode_answered(data).closed()
    return _decode(data)


_FACTS, _STAGES = frozenset(map(str, Fact)), frozenset(map(str, Stage))


def decode_newer_record(data: bytes) -> Record:
    """Read a record that `decode_record` cannot, without the facts and stages not known here.

    They are words that a later version has put in. A record says what it says without them; one
    whose outcome is a new word does not.

    Raises:
        msgspec.MsgspecError: if `data` is not a record of a kind known here even so.
    """
    fields = msgspec.msgpack.decode(data)
    if isinstance(fields, dict):
        facts, stages = fields.get("facts"), fields.get("stages")
        if isinstance(facts, list):
            fields["facts"] = [word for word in facts if not _is_new(word, _FACTS)]
        if isinstance(stages, dict):
            fields["stages"] = {
                word: value for word, value in stages.items() if not _is_new(word, _STAGES)
            }
    record: Record = msgspec.convert(fields, Record)
    return record


def _is_new(word: object, known: frozenset[str]) -> bool:
    return isinstance(word, str) and word not in known
