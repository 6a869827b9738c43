"""Looking keys up: one answer for every failure, and none at all when in doubt."""

from __future__ import annotations

import base64
import errno
import os
import random
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.keys import (
    Holder,
    KeyBook,
    KeysError,
    KeyStore,
    Reason,
    Refused,
    Stranger,
    Terms,
    VirtualKey,
    _document,
    _store,
    keys_path,
)
from taximeter.keys import _form as form
from taximeter.keys._document import decode, encode
from tests.keys.conftest import NOW, SECRET
from tests.rig.effort import effort

SECOND = 10**9


def made(book: KeyBook, **terms: object) -> bytes:
    """Make a key with these terms, and give it."""
    return book.create(Terms(**terms), NOW).credential.encode()  # type: ignore[arg-type]


def test_without_a_file_nobody_is_asked_for_a_key(store: KeyStore) -> None:
    """Where no key was ever made, every credential is the client's own."""
    assert not store.in_use
    assert store.problem is None
    for credential in (None, b"", b"sk-1", b"tm-of some other API"):
        assert store.find(credential, NOW) is None
    assert store.judge(None, NOW) == store.judge(b"sk-1", NOW) == Stranger(may_borrow=True)
    assert store.judge(b"tm-of some other API", NOW) == Stranger(may_borrow=False)


def test_a_key_of_ours_goes_nowhere_even_where_there_is_no_file(store: KeyStore) -> None:
    """A key that is beyond doubt ours is refused if its file is lost, and not passed upstream."""
    assert store.judge(form.new_credential("k7f3m9q2xw"), NOW) == Refused(Reason.UNKNOWN)


def test_a_valid_key_is_found_with_all_its_terms(book: KeyBook, store: KeyStore) -> None:
    """What was laid down is what is found."""
    credential = made(book, user="alice", expires_ns=NOW + SECOND, models=("gpt-*",))
    assert store.refresh(0)
    found = store.find(credential, NOW)
    assert found is not None
    assert (found.user, found.models, found.created_ns) == ("alice", ("gpt-*",), NOW)
    assert store.judge(credential, NOW) == Holder(found)


def test_once_there_are_keys_no_other_caller_borrows_ours(book: KeyBook, store: KeyStore) -> None:
    """To send no key at all must not get a caller further than to send one."""
    made(book)
    store.refresh(0)
    assert store.judge(None, NOW) == store.judge(b"sk-1", NOW) == Stranger(may_borrow=False)
    assert store.judge(b"tm-of some other API", NOW) == Refused(Reason.MALFORMED)


def test_every_failure_has_the_same_answer(book: KeyBook, store: KeyStore) -> None:
    """H6: `find` tells nothing apart; only our own counters learn the reason."""
    revoked, expired, valid = made(book), made(book, expires_ns=NOW + 1), made(book)
    book.revoke(revoked.decode(), NOW)
    store.refresh(0)
    unknown = form.new_credential("k7f3m9q2xw")
    same_id = form.new_credential(valid[3:13].decode())
    refused = {
        revoked: Reason.REVOKED,
        expired: Reason.EXPIRED,
        unknown: Reason.UNKNOWN,
        same_id: Reason.UNKNOWN,
        valid[:-1] + b"!": Reason.MALFORMED,
        valid * 100_000: Reason.MALFORMED,
        b"tm-' OR 1=1 --": Reason.MALFORMED,
        b"tm-{{7*7}}${7*7}%s%n": Reason.MALFORMED,
        b"tm-\x00\xff\r\nx: y": Reason.MALFORMED,
        b"tm-": Reason.MALFORMED,
    }
    for credential, reason in refused.items():
        verdict = store.judge(credential, NOW + 1)
        assert isinstance(verdict, Refused)
        assert verdict.reason is reason
        assert store.find(credential, NOW + 1) is None
    assert store.find(valid, NOW + 1) is not None


def test_what_is_compared_is_a_keyed_hash_in_constant_time(
    book: KeyBook, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H6: for every well-formed key, known or not, one hash is made and one comparison, of the
    same length, by the one function whose time does not depend on what it compares.
    """
    valid, revoked = made(book), made(book)
    book.revoke(revoked.decode(), NOW)
    store.refresh(0)
    seen: list[tuple[int, int]] = []
    hashed: list[int] = []

    def compare(one: bytes, other: bytes) -> bool:
        seen.append((len(one), len(other)))
        return one == other

    def digest(credential: bytes, secret: bytes) -> bytes:
        hashed.append(len(credential))
        return form.digest_of(credential, secret)

    monkeypatch.setattr(_store, "compare_digest", compare)
    monkeypatch.setattr(_store, "digest_of", digest)
    same_id = form.new_credential(valid[3:13].decode())
    for credential in (valid, revoked, same_id, form.new_credential("k7f3m9q2xw")):
        store.judge(credential, NOW)
    assert seen == [(32, 32)] * 4
    assert hashed == [51] * 4


def test_keys_with_a_common_beginning_are_told_apart(path: Path) -> None:
    """H6: nothing shorter than the whole hash decides, whatever two keys have in common."""
    one = form.new_credential("k7f3m9q2xw")
    twin = one[:44] + (b"A" if one[44:45] != b"A" else b"B")
    twin += form._checksum(twin)
    digest = form.digest_of(one, SECRET)
    almost = digest[:31] + bytes([digest[31] ^ 1])
    for kept, valid in ((digest, True), (almost, False)):
        key = VirtualKey(id="k7f3m9q2xw", digest=kept, created_ns=0)
        path.write_bytes(encode([key], SECRET))
        path.chmod(0o600)
        store = KeyStore.load(path, SECRET)
        assert (store.find(one, NOW) is not None) == valid
        assert store.find(twin, NOW) is None


def test_the_stand_in_for_no_key_cannot_be_used(book: KeyBook, store: KeyStore) -> None:
    """What stands in for an unknown key is void twice over."""
    made(book)
    store.refresh(0)
    assert _store._NOBODY.id == ""
    assert _store._NOBODY.state(NOW) == "revoked"


@given(st.binary(max_size=120).map(lambda rest: b"tm-" + rest) | st.binary(max_size=60))
def test_any_bytes_have_a_verdict(credential: bytes) -> None:
    """H6: nothing a client can send raises, or finds a key."""
    key = VirtualKey(id="k7f3m9q2xw", digest=bytes(32), created_ns=0)
    store = KeyStore(Path("/nowhere"), SECRET)
    store._held = _store._Held({key.id: key}, in_use=True)
    verdict = store.judge(credential, NOW)
    expected = Refused if credential.startswith(b"tm-") else Stranger
    assert isinstance(verdict, expected)


def test_a_change_is_seen_within_a_second_and_looked_for_no_more_often(
    book: KeyBook, store: KeyStore
) -> None:
    """A new and a revoked key are known at the next look; between two looks nothing is read."""
    assert not store.refresh(5 * SECOND)
    credential = made(book)
    assert not store.refresh(6 * SECOND - 1)
    assert store.refresh(6 * SECOND)
    assert store.find(credential, NOW) is not None
    book.revoke(credential.decode(), NOW)
    assert not store.refresh(7 * SECOND - 1)
    assert store.find(credential, NOW) is not None
    assert store.refresh(7 * SECOND)
    assert store.find(credential, NOW) is None
    assert not store.refresh(8 * SECOND)


def test_a_change_is_seen_whatever_the_clock_of_the_file_says(
    book: KeyBook, store: KeyStore, path: Path
) -> None:
    """Two writes of the same size in one tick of the file system's clock are still two."""
    first = made(book)
    store.refresh(0)
    facts = path.stat()
    book.revoke(first.decode(), NOW)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    held = store._held
    assert held.glance is not None
    # As if the file system gave the very same facts for both.
    alike = _store._Glance(_store._facts_of(path.stat()), held.glance.head)
    store._held = held._replace(glance=alike)
    assert store.refresh(SECOND)
    assert store.find(first, NOW) is None


def flip(path: Path, place: int, bit: int) -> None:
    """Damage one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_told_and_opens_nothing(
    seed: int, book: KeyBook, store: KeyStore, path: Path
) -> None:
    """D4: with one bit wrong anywhere no key is valid, the reason is told, and writing is refused;
    the file as it was makes all well again.
    """
    chance = random.Random(seed)
    credential = made(book, user="alice", expires_ns=NOW + SECOND)
    store.refresh(0)
    whole = path.read_bytes()
    flip(path, chance.randrange(len(whole) - 1), chance.randrange(8))
    assert store.refresh(SECOND)
    assert store.find(credential, NOW) is None
    assert store.judge(credential, NOW) == Refused(Reason.UNREADABLE)
    assert store.judge(None, NOW) == Stranger(may_borrow=False)
    assert store.problem is not None
    assert str(path) in store.problem
    assert "alice" not in store.problem
    with pytest.raises(KeysError):
        book.create(Terms(), NOW)
    path.write_bytes(whole)
    assert store.refresh(2 * SECOND)
    assert store.problem is None
    assert store.find(credential, NOW) is not None


@given(st.integers(0, 10**6), st.binary(max_size=8), st.integers(0, 8))
def test_any_other_file_is_refused_whole(place: int, inserted: bytes, taken: int) -> None:
    """Whatever is cut from or put into a file, it is read as it was or not at all."""
    key = VirtualKey(id="k7f3m9q2xw", digest=bytes(32), created_ns=0, models=("gpt-*",))
    whole = encode([key], SECRET)
    place %= len(whole)
    other = whole[:place] + inserted + whole[place + taken :]
    try:
        found = decode(other, SECRET, Path("keys.json"))
    except KeysError:
        return
    assert found == {key.id: key}


def test_a_file_that_goes_away_closes_the_door(book: KeyBook, store: KeyStore, path: Path) -> None:
    """Keys that were there and cannot be looked at may have been revoked since."""
    credential = made(book)
    store.refresh(0)
    path.rename(path.with_name("moved"))
    assert store.refresh(SECOND)
    assert store.find(credential, NOW) is None
    assert store.problem is not None
    assert "No such file" in store.problem
    assert store.judge(b"sk-1", NOW) == Stranger(may_borrow=False)
    assert not store.refresh(2 * SECOND)
    path.with_name("moved").rename(path)
    assert store.refresh(3 * SECOND)
    assert store.find(credential, NOW) is not None


def test_a_file_open_to_everybody_is_refused(book: KeyBook, store: KeyStore, path: Path) -> None:
    """H13: what every user may read or write is not trusted; the group's bits are left alone."""
    credential = made(book)
    for moment, (mode, good) in enumerate(
        [(0o600, True), (0o604, False), (0o602, False), (0o660, True), (0o601, False)]
    ):
        path.chmod(mode)
        store.refresh(moment * SECOND)
        assert (store.find(credential, NOW) is not None) == good
        assert ("chmod 600" in (store.problem or "")) == (not good)


def test_a_pipe_in_the_place_of_the_file_holds_nobody_up(path: Path, book: KeyBook) -> None:
    """D4: something that is no plain file is told, and not waited for."""
    os.mkfifo(path, 0o600)
    store = KeyStore.load(path, SECRET)
    assert "not a plain file" in (store.problem or "")
    with pytest.raises(KeysError, match="not a plain file"):
        book.all()


def test_another_secret_is_named_as_the_trouble(book: KeyBook, path: Path) -> None:
    """Where `hash.key` was lost and made anew, that is what is told."""
    made(book)
    store = KeyStore.load(path, b"\x08" * 32)
    assert "belongs to another hash.key" in (store.problem or "")
    assert store.in_use


def test_a_newer_format_is_not_guessed_at(path: Path) -> None:
    """L3: an older reader stops with a clear word: what it does not know may be a restriction."""
    path.write_bytes(b'{"format":2,"something":"else"}\n')
    path.chmod(0o600)
    assert "written by a newer version" in (KeyStore.load(path, SECRET).problem or "")


@pytest.mark.parametrize(
    "line",
    [
        {"addresses": ["10.0.0.0/8"]},
        {"budget": {"pico": 1, "per": "day", "rollover": True}},
        {"budget": {"pico": 1, "per": "week"}},
        {"models": "gpt-*"},
        {"expires_ns": -1},
        {"id": "K7F3M9Q2XW"},
    ],
)
def test_a_restriction_that_is_not_known_is_not_passed_over(
    path: Path, line: dict[str, object]
) -> None:
    """Even under a good seal, a key with a term we do not know opens nothing, nor do the others."""
    known = {"id": "k7f3m9q2xw", "digest": base64.b64encode(bytes(32)).decode(), "created_ns": 0}
    other = VirtualKey(id="aaaaaaaaaa", digest=bytes(32), created_ns=0)
    for terms, count in (({}, 2), (line, 0)):
        body = msgspec.json.encode([other, known | terms])
        seal = _document._seal(body, SECRET).encode()
        whole = encode([], SECRET).replace(b"[\n]", body)
        path.write_bytes(re.sub(rb'"seal":"[0-9a-f]+"', b'"seal":"%s"' % seal, whole))
        path.chmod(0o600)
        store = KeyStore.load(path, SECRET)
        assert len(store) == count
        assert ("is damaged" in (store.problem or "")) == (count == 0)


def test_without_a_descriptor_to_look_with_keys_hold_for_a_minute(
    book: KeyBook, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O6: a process that has no descriptor left still serves its callers, but not blindly for
    ever.
    """
    credential = made(book)
    store.refresh(0)

    def open_(*arguments: object, **options: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_)
        for second in range(1, 62):
            assert not store.refresh(second * SECOND)
            assert store.find(credential, NOW) is not None
        assert store.refresh(62 * SECOND)
        assert store.find(credential, NOW) is None
        assert "Too many open files" in (store.problem or "")
        assert not store.refresh(63 * SECOND)
    assert store.refresh(64 * SECOND)
    assert store.find(credential, NOW) is not None


def test_thirty_thousand_keys_are_loaded_in_no_time(path: Path) -> None:
    """As many keys as an enterprise has are read in a fraction of a second."""
    keys = [
        VirtualKey(
            id=f"{number:010d}",
            digest=bytes(32),
            created_ns=number,
            user=f"user-{number}@example.com",
            models=("gpt-*", "claude-*"),
        )
        for number in range(30_000)
    ]
    path.write_bytes(encode(keys, SECRET))
    path.chmod(0o600)
    assert effort(lambda: KeyStore.load(path, SECRET)) < 500
    store = KeyStore.load(path, SECRET)
    assert len(store) == 30_000
    assert store.problem is None


def test_the_path_of_keys_is_in_the_data_folder(tmp_path: Path) -> None:
    """One place, known to the commands and to the workers."""
    assert keys_path(tmp_path) == tmp_path / "keys.json"
