"""What a virtual key looks like, and the hash by which it is known. Pure.

    tm-  k7f3m9q2xw  9cQ4...32 characters...Zt  1aB2c3
         id, public  secret                     checksum

One word of 51 letters and digits behind a mark of its own, so that a double click takes all of
it, a secret scanner can match it (`SCANNER_PATTERN`), and the id, which every list shows, can be
read off a key that has turned up somewhere. The secret has 190 bits. The checksum (CRC-32) is no
protection: it tells a mistyped or cut key, or a word that only looks like one, without a lookup.

What is kept of a key is a keyed hash of the whole of it. BLAKE2b with a secret key needs no salt
and no slowness: there is nothing to guess among 190 random bits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

MARK = b"tm-"
ID_CHARACTERS = 10
SECRET_CHARACTERS = 32
CHECKSUM_CHARACTERS = 6
"""62^6 is above 2^32."""
KEY_CHARACTERS = len(MARK) + ID_CHARACTERS + SECRET_CHARACTERS + CHECKSUM_CHARACTERS
SCANNER_PATTERN = r"\btm-[0-9a-z]{10}[0-9A-Za-z]{38}\b"
DIGEST_BYTES = 32

_ID_ALPHABET = string.digits + string.ascii_lowercase
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(rb"tm-([0-9a-z]{10})[0-9A-Za-z]{38}")
_PERSON = b"taximeter key"
"""Keeps this hash apart from the others that are made with the same secret."""


def new_id() -> str:
    """Make a public id. Whoever stores it makes sure that it is new."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_CHARACTERS))


def new_credential(key_id: str) -> bytes:
    """Make a key with this id."""
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARACTERS))
    body = MARK + f"{key_id}{secret}".encode("ascii")
    return body + _checksum(body)


def id_of(credential: bytes) -> str | None:
    """Give the id in a key; None if this is not a key, whole and as it was made."""
    if len(credential) != KEY_CHARACTERS:  # before anything that takes longer for longer words
        return None
    form = _FORM.fullmatch(credential)
    if form is None or not credential.endswith(_checksum(credential[:-CHECKSUM_CHARACTERS])):
        return None
    return form[1].decode("ascii")


def holds_key(text: bytes) -> bool:
    """Tell whether something of a key's form stands in a text, wherever."""
    return _FORM.search(text) is not None


def digest_of(credential: bytes, hash_key: bytes) -> bytes:
    """Give the keyed hash by which a key is known."""
    return hashlib.blake2b(
        credential, key=hash_key, digest_size=DIGEST_BYTES, person=_PERSON
    ).digest()


def _checksum(body: bytes) -> bytes:
    value, digits = zlib.crc32(body), bytearray(CHECKSUM_CHARACTERS)
    for place in range(CHECKSUM_CHARACTERS - 1, -1, -1):
        value, digit = divmod(value, len(_ALPHABET))
        digits[place] = ord(_ALPHABET[digit])
    return bytes(digits)
