"""The keys as a relay looks at them: in memory, whole, and closed when in doubt.

A look-up goes by the public id in the key and then compares keyed hashes of the whole key, in
constant time, whether there is such an id or not. What is compared is a hash with a secret key,
so even a comparison that told its place of failure would tell nothing that leads to a key.

Once a second at most, `refresh` looks whether the file has changed: an open and a read of its
first bytes. What it finds is taken whole or not at all:

* a file that is damaged, unreadable, open to everybody, or gone after it was there: no key is
  valid any more, and `problem` says why. The keys of before may have been revoked since.
* no descriptor or memory left to look with: the keys of before hold on, but not for longer than
  `BLIND_SECONDS_MAX`.
* no file at all, from the start: virtual keys are not in use.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from hmac import compare_digest
from pathlib import Path
from typing import NamedTuple

from taximeter.keys._document import FILE_BYTES_MAX, HEAD_BYTES, decode
from taximeter.keys._errors import KeysError
from taximeter.keys._files import read_private
from taximeter.keys._form import DIGEST_BYTES, MARK, digest_of, id_of
from taximeter.keys._model import VirtualKey
from taximeter.keys._verdict import Holder, Reason, Refused, Stranger, Verdict

LOOK_NS = 1_000_000_000
BLIND_SECONDS_MAX = 60
NAME = "keys.json"

_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NOBODY = VirtualKey(id="", digest=bytes(DIGEST_BYTES), created_ns=0, revoked_ns=0)
"""Stands in where there is no key of an id, so that the same is done as for one that is there."""


def keys_path(data_dir: Path) -> Path:
    """Give the file that keys are kept in."""
    return data_dir / NAME


class _Glance(NamedTuple):
    """What tells one state of the file from another."""

    facts: tuple[int, ...]
    head: bytes


class _Held(NamedTuple):
    """All keys, as one snapshot that is swapped whole."""

    keys: Mapping[str, VirtualKey]
    in_use: bool
    problem: str | None = None
    glance: _Glance | None = None


class KeyStore:
    """The virtual keys of a data folder, to be looked up."""

    def __init__(self, path: Path, hash_key: bytes) -> None:
        self.path = path
        self._hash_key = hash_key
        self._held = _Held({}, in_use=False)
        self._look_at_ns: int | None = None
        self._blind_since_ns: int | None = None

    @classmethod
    def load(cls, path: Path, hash_key: bytes) -> KeyStore:
        """Read the keys. A file that is not there is no trouble; other trouble is in `problem`."""
        store = cls(path, hash_key)
        store.reload()
        return store

    @property
    def in_use(self) -> bool:
        """Whether virtual keys are in use here: the file is there, or was."""
        return self._held.in_use

    @property
    def problem(self) -> str | None:
        """Why no key is valid, for the operator; None if all is well."""
        return self._held.problem

    def __len__(self) -> int:
        """How many keys there are, valid or not."""
        return len(self._held.keys)

    def key(self, key_id: str) -> VirtualKey | None:
        """Give the key of an id, valid or not; None if there is none."""
        return self._held.keys.get(key_id)

    @property
    def any_counts_money(self) -> bool:
        """Whether some key has a budget of money."""
        keys = self._held.keys.values()
        return any(key.budget is not None and key.budget.pico is not None for key in keys)

    def ids(self) -> list[str]:
        """Give the ids of all keys."""
        return list(self._held.keys)

    def judge(self, credential: bytes | None, wall_ns: int) -> Verdict:
        """Say what a credential is good for. `wall_ns` is the time since the epoch."""
        held = self._held
        if credential is None or not credential.startswith(MARK):
            return Stranger(may_borrow=not held.in_use)
        key_id = id_of(credential)
        if key_id is None:
            # Where there are no virtual keys, this may be a credential of some API's own.
            return Refused(Reason.MALFORMED) if held.in_use else Stranger(may_borrow=False)
        digest = digest_of(credential, self._hash_key)
        key = held.keys.get(key_id, _NOBODY)
        if not compare_digest(key.digest, digest):
            return Refused(Reason.UNREADABLE if held.problem else Reason.UNKNOWN)
        if key.revoked_ns is not None:
            return Refused(Reason.REVOKED, key.id)
        if key.is_expired(wall_ns):
            return Refused(Reason.EXPIRED, key.id)
        return Holder(key)

    def find(self, credential: bytes | None, wall_ns: int) -> VirtualKey | None:
        """Give the valid key that a credential is, if it is one; None for whatever reason."""
        verdict = self.judge(credential, wall_ns)
        return verdict.key if isinstance(verdict, Holder) else None

    def refresh(self, now_ns: int) -> bool:
        """Take what has changed in the file, if a second has gone by since the last look.

        Tens of thousands of keys take a tenth of a second to read. Who cannot stand still for
        that asks `is_due` and `has_changed`, and has another thread call `reload`.

        Args:
            now_ns: a monotonic clock's.

        Returns:
            Whether anything has changed.
        """
        return self.is_due(now_ns) and self.has_changed(now_ns) and self.reload()

    def is_due(self, now_ns: int) -> bool:
        """Tell whether it is time for another look; it then counts as taken."""
        if self._look_at_ns is not None and now_ns < self._look_at_ns:
            return False
        self._look_at_ns = now_ns + LOOK_NS
        return True

    def has_changed(self, now_ns: int) -> bool:
        """Look whether the file is another than the one that was read."""
        try:
            glance = self._glance()
        except OSError as error:
            if error.errno in _SHORT_OF:
                if self._blind_since_ns is None:
                    self._blind_since_ns = now_ns
                return now_ns - self._blind_since_ns > BLIND_SECONDS_MAX * LOOK_NS
            return self._held.problem != self._trouble(error)
        self._blind_since_ns = None
        return glance != self._held.glance

    def reload(self) -> bool:
        """Read the file, and swap what is held. Safe in another thread. Give whether it differs."""
        before, self._held = self._held, self._read()
        # What stands at the file's beginning stands for all of it, so the keys need no comparing.
        return before._replace(keys={}) != self._held._replace(keys={})

    def _read(self) -> _Held:
        glance = None
        try:
            data, facts = read_private(self.path, FILE_BYTES_MAX)
            glance = _Glance(_facts_of(facts), data[:HEAD_BYTES])
            return _Held(decode(data, self._hash_key, self.path), True, None, glance)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self._held.in_use:
                return _Held({}, in_use=False)
            return _Held({}, True, self._trouble(error))
        except KeysError as error:
            return _Held({}, True, str(error), glance)

    def _glance(self) -> _Glance | None:
        """Look at the file; None if it is not there and never was."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            if not self._held.in_use:
                return None
            raise
        try:
            return _Glance(_facts_of(os.fstat(handle)), os.read(handle, HEAD_BYTES))
        finally:
            os.close(handle)

    def _trouble(self, error: OSError) -> str:
        return f"{self.path} cannot be read: {error.strerror}; until then no virtual key is valid"


def _facts_of(facts: os.stat_result) -> tuple[int, ...]:
    return (
        facts.st_dev,
        facts.st_ino,
        facts.st_mode,
        facts.st_uid,
        facts.st_size,
        facts.st_mtime_ns,
        facts.st_ctime_ns,
    )
