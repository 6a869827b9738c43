"""The file that keys are kept in: JSON that a person can read, under a seal.

    {"format":1,"seal":"<64 hex>","secret":"<16 hex>","keys":[
    {"user":"alice","models":["gpt-*"],"id":"k7f3m9q2xw","digest":"...","created_ns":...},
    ...
    ]}

*format* is raised with every field that comes in. A reader refuses a format, and a field, that
it does not know: it might be a restriction.

*seal* is a keyed hash of the text of `keys`. One flipped bit could turn an expiry or a budget
into another one that looks just as good; with the seal, damage and changes by hand are told, and
who can write the file but not read the secret can make no key. It cannot tell an older file put
back in place of a newer one: that is what rights on the folder are for. The seal stands at the
beginning, so a look at the first bytes tells whether anything has changed (`HEAD_BYTES`).

*secret* tells the keys' secret from another one, so that a secret that was lost and made anew is
named as the trouble, rather than every key being unknown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from hmac import compare_digest
from pathlib import Path

import msgspec

from taximeter.keys._errors import KeysError
from taximeter.keys._model import VirtualKey

FORMAT = 1
KEYS_MAX = 100_000
FILE_BYTES_MAX = 256 * 1024 * 1024
"""100,000 keys with every field at its longest would take more; as people use them, 40 MB."""
HEAD_BYTES = 96
"""Enough to hold the format and the seal."""

_EMPTY = b"[\n]"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    seal: str
    secret: str
    keys: msgspec.Raw


class _Version(msgspec.Struct):
    format: int


_document_of = msgspec.json.Decoder(_Document).decode
_version_of = msgspec.json.Decoder(_Version).decode
_keys_of = msgspec.json.Decoder(list[VirtualKey]).decode
_encode = msgspec.json.Encoder().encode


def encode(keys: Iterable[VirtualKey], hash_key: bytes) -> bytes:
    """Give the file that holds these keys."""
    lines = [_encode(key) for key in keys]
    body = b"[\n" + b",\n".join(lines) + b"\n]" if lines else _EMPTY
    return b'{"format":%d,"seal":"%s","secret":"%s","keys":%s}\n' % (
        FORMAT,
        _seal(body, hash_key).encode("ascii"),
        _name_of(hash_key).encode("ascii"),
        body,
    )


def decode(data: bytes, hash_key: bytes, path: Path) -> dict[str, VirtualKey]:
    """Give the keys in a file, by id.

    Raises:
        KeysError: if anything about it is not as it was written. There is no half of it.
    """
    damaged = KeysError(
        f"{path} is damaged, or was changed by something else than `taximeter keys`",
        "restore it from a copy; until then no virtual key is valid",
    )
    try:
        # A later format may look different in all but this.
        if _version_of(data).format > FORMAT:
            raise KeysError(f"{path} was written by a newer version", "run that version")
        document = _document_of(data)
        if document.secret != _name_of(hash_key):
            raise KeysError(
                f"{path} belongs to another hash.key than the one beside it",
                "restore that file; if it is lost, move this one away and make keys anew",
            )
        body = bytes(document.keys)
        if document.format != FORMAT or not compare_digest(
            document.seal.encode(), _seal(body, hash_key).encode()
        ):
            raise damaged
        listed = _keys_of(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Decoders quote the text they stumble over; it stays where it is.
        raise damaged from None
    keys = {key.id: key for key in listed}
    if len(keys) != len(listed) or len(keys) > KEYS_MAX:
        raise damaged
    return keys


def _seal(body: bytes, hash_key: bytes) -> str:
    return hashlib.blake2b(
        body, key=hash_key, digest_size=32, person=b"taximeter seal%d" % FORMAT
    ).hexdigest()


def _name_of(hash_key: bytes) -> str:
    return hashlib.blake2b(key=hash_key, digest_size=8, person=b"taximeter secret").hexdigest()
