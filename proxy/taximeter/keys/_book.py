"""Making, listing and revoking keys: the side of the file that writes.

Every change reads the file, changes what it read, and replaces the file whole, under a lock that
only one process has. What was written is on stable storage before a key is shown to anyone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from taximeter.keys._document import FILE_BYTES_MAX, KEYS_MAX, decode, encode
from taximeter.keys._errors import KeysError, TermsError
from taximeter.keys._files import locked, read_private, write_private
from taximeter.keys._form import digest_of, id_of, new_credential, new_id
from taximeter.keys._model import Terms, VirtualKey

_Write = Callable[[Iterable[VirtualKey]], None]


@dataclass(frozen=True, slots=True)
class Created:
    """A new key, in the one moment in which it can be shown."""

    key: VirtualKey
    credential: str = field(repr=False)


class KeyBook:
    """The virtual keys of a data folder, to be changed."""

    def __init__(self, path: Path, hash_key: bytes) -> None:
        self.path = path
        self._hash_key = hash_key

    def all(self) -> list[VirtualKey]:
        """Give all keys, the newest first; none if there is no file yet.

        Raises:
            KeysError: if they cannot be read.
        """
        keys = self._read().values()
        return sorted(keys, key=lambda key: (key.created_ns, key.id), reverse=True)

    def create(self, terms: Terms, wall_ns: int) -> Created:
        """Make a key.

        Raises:
            TermsError: if the terms make no sense.
            KeysError: if there are too many keys, or they cannot be read or written. Either way
                there is no new key.
        """
        if terms.expires_ns is not None and terms.expires_ns <= wall_ns:
            raise TermsError("a key that has expired before it is made is good for nothing")
        for text in (terms.user, terms.team, terms.tier, terms.note):
            if text and (not text.isprintable() or text != text.strip()):
                raise TermsError("a name or note must be printable, with no space at its ends")
        with self._changing() as (keys, write):
            if len(keys) >= KEYS_MAX:
                raise KeysError(
                    f"there are {KEYS_MAX} keys", "take out the void ones: `taximeter keys prune`"
                )
            key_id = new_id()
            while key_id in keys:
                key_id = new_id()
            credential = new_credential(key_id)
            key = VirtualKey(
                id=key_id,
                digest=digest_of(credential, self._hash_key),
                created_ns=wall_ns,
                **msgspec.structs.asdict(terms),
            )
            write([*keys.values(), _checked(key)])
        return Created(key, credential.decode("ascii"))

    def revoke(self, key: str, wall_ns: int) -> VirtualKey:
        """Make a key void for good; one that is void already is left as it is.

        Args:
            key: its id, or the key itself.
            wall_ns: the time since the epoch.

        Raises:
            KeysError: if there is no such key, or the keys cannot be read or written.
        """
        key_id = id_of(key.encode("utf-8", "replace")) or key
        with self._changing() as (keys, write):
            found = keys.get(key_id)
            if found is None:
                raise KeysError("there is no key with this id", "see `taximeter keys list`")
            if found.revoked_ns is None:
                found = keys[key_id] = msgspec.structs.replace(found, revoked_ns=wall_ns)
                write(keys.values())
        return found

    def prune(self, before_ns: int) -> int:
        """Forget keys that were revoked or have expired before a time; give how many.

        Raises:
            KeysError: if the keys cannot be read or written.
        """
        with self._changing() as (keys, write):
            kept = [
                key
                for key in keys.values()
                if (key.revoked_ns is None or key.revoked_ns >= before_ns)
                and not key.is_expired(before_ns - 1)
            ]
            if len(kept) < len(keys):
                write(kept)
        return len(keys) - len(kept)

    @contextmanager
    def _changing(self) -> Iterator[tuple[dict[str, VirtualKey], _Write]]:
        """Hold the lock, give the keys as they are, and a way to put others in their place."""
        try:
            with locked(self.path):
                yield self._read(), self._write
        except OSError as error:
            raise KeysError(f"{self.path} cannot be changed: {error.strerror}") from None

    def _read(self) -> dict[str, VirtualKey]:
        try:
            data, _ = read_private(self.path, FILE_BYTES_MAX)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise KeysError(f"{self.path} cannot be read: {error.strerror}") from None
        return decode(data, self._hash_key, self.path)

    def _write(self, keys: Iterable[VirtualKey]) -> None:
        data = encode(keys, self._hash_key)
        if len(data) > FILE_BYTES_MAX:
            raise KeysError(
                f"{self.path} would be larger than {FILE_BYTES_MAX} bytes",
                "take out the void ones: `taximeter keys prune`",
            )
        write_private(self.path, data)


def _checked(key: VirtualKey) -> VirtualKey:
    """Read a key as it will be read from the file: bounds are checked in no other way."""
    try:
        again = msgspec.json.decode(msgspec.json.encode(key), type=VirtualKey)
    except UnicodeEncodeError:
        raise TermsError("a value is no text") from None
    except msgspec.MsgspecError as error:
        raise TermsError(_in_words(error)) from None
    if again != key:
        raise TermsError("the key would not be read as it was written")
    return again


def _in_words(error: Exception) -> str:
    """Say which of a key's terms is out of its bounds. The value is not in the decoder's words."""
    message, _, place = str(error).partition(" - at `$.")
    field_name = place.rstrip("`") or "a value"
    if "regex" in message:
        message = "must be a name or a pattern: letters, digits, . _ : / @ + - and the signs * ?"
    return f"{field_name}: {message[:1].lower()}{message[1:]}"
