"""A call as it stands in the spool: what its spans are made from, and no more. Pure.

It is an `Entry` in MessagePack, so the spans that come of it are those of the configuration and of
the version that export it. Fields that no span tells of are left out; what a later version adds is
passed over by an earlier one.
"""

from __future__ import annotations

import msgspec

from taximeter.ledger import Entry

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def written(entry: Entry) -> bytes:
    """Give a call's bytes.

    Raises:
        ValueError, OverflowError: if it has a text or a figure that has no such form.
    """
    closed = msgspec.structs.replace(entry.closed, raw_usage=None, gaps=None)
    return _encoder.encode(msgspec.structs.replace(entry, closed=closed, price_rates=None))


def read_back(data: bytes) -> Entry:
    """Give the call of some bytes.

    Raises:
        msgspec.MsgspecError: if they are none.
    """
    return _decoder.decode(data)
