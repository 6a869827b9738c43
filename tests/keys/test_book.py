"""Changing keys: by several processes, through kills and full disks, readable by nobody else."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taximeter.keys import KeyBook, KeyBudget, KeysError, KeyStore, Terms, TermsError, _book, _files
from taximeter.keys import _form as form
from taximeter.keys._files import locked
from tests.keys.conftest import NOW, SECRET

ROOT = Path(__file__).parents[2]

WORKER = """
import sys, time
from pathlib import Path
from taximeter.keys import KeyBook, Terms
book = KeyBook(Path(sys.argv[1]), b"\\x07" * 32)
for number in range(int(sys.argv[2])):
    made = book.create(Terms(user=sys.argv[3]), time.time_ns())
    if number % 2:
        book.revoke(made.key.id, time.time_ns())
    print(made.credential, number % 2, flush=True)
"""


def start(path: Path, count: int, name: str) -> subprocess.Popen[str]:
    """Start a process that makes keys and revokes every second of them, and says so."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, path, str(count), name],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["proxy", "."])},
    )


def test_writers_at_the_same_time_lose_nothing_of_each_other(path: Path) -> None:
    """Keys made and revoked by several processes at once are all there, each as it was left."""
    children = [start(path, 20, f"user-{number}") for number in range(3)]
    told = [child.communicate(timeout=40)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    store = KeyStore.load(path, SECRET)
    assert len(store) == 60
    for lines in told:
        assert len(lines) == 20
        for line in lines:
            credential, revoked = line.split()
            assert (store.find(credential.encode(), NOW) is None) == (revoked == "1")


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_leaves_all_it_had_told_of(path: Path, seed: int) -> None:
    """D1: after `kill -9` at any moment the file is whole, every key that was shown is in it, and
    the next writer is held up by nothing.
    """
    chance = random.Random(seed)
    child = start(path, 10**6, "alice")
    assert child.stdout is not None
    try:
        told = [child.stdout.readline().split() for _ in range(chance.randrange(1, 30))]
        time.sleep(chance.random() / 50)
    finally:
        child.kill()
        rest = child.communicate(timeout=20)[0]
    told += [line.split() for line in rest.splitlines() if line.endswith((" 0", " 1"))]
    store = KeyStore.load(path, SECRET)
    assert store.problem is None
    for credential, revoked in told:
        assert (store.find(credential.encode(), NOW) is None) == (revoked == "1")
    assert len(told) <= len(store) <= len(told) + 1
    book = KeyBook(path, SECRET)
    book.create(Terms(), NOW)
    assert not path.with_name(f".{path.name}-draft").exists()
    assert len(book.all()) == len(store) + 1


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_their_owners_alone(path: Path, book: KeyBook, umask: int) -> None:
    """H13: whatever the umask, no other user can read or write what is made here."""
    before = os.umask(umask)
    try:
        book.create(Terms(), NOW)
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes) == {"keys.json", ".keys.json-lock"}
    assert all(mode & 0o077 == 0 for mode in modes.values())


@pytest.mark.parametrize("refused", ["write", "fsync"])
def test_a_disk_that_takes_no_more_leaves_the_old_keys(
    path: Path, book: KeyBook, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """D6: a key that could not be kept is not shown, and those of before are as they were."""
    kept = book.create(Terms(), NOW)
    before = path.read_bytes()

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(_files.os, refused, full)
        with pytest.raises(KeysError, match="No space left on device"):
            book.create(Terms(), NOW)
    assert path.read_bytes() == before
    assert [key.id for key in book.all()] == [kept.key.id]
    assert {each.name for each in path.parent.iterdir()} == {"keys.json", ".keys.json-lock"}


def test_a_short_write_is_gone_on_with(
    path: Path, book: KeyBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system takes a part, the rest follows."""
    write = os.write
    monkeypatch.setattr(_files.os, "write", lambda handle, data: write(handle, data[:7]))
    book.create(Terms(user="alice"), NOW)
    assert book.all()[0].user == "alice"


def test_a_lock_that_stays_taken_is_told(
    path: Path, book: KeyBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer waits for another for a while, and not for ever."""
    monkeypatch.setattr(_files, "LOCK_TRIES_MAX", 2)
    with locked(path), pytest.raises(KeysError, match="stays locked"):
        book.create(Terms(), NOW)
    book.create(Terms(), NOW)


def test_there_is_a_most_of_keys(book: KeyBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound the way out is named, and works."""
    monkeypatch.setattr(_book, "KEYS_MAX", 2)
    first = book.create(Terms(expires_ns=NOW + 10), NOW)
    book.create(Terms(), NOW)
    with pytest.raises(KeysError, match="taximeter keys prune"):
        book.create(Terms(), NOW)
    assert book.prune(NOW + 10) == 0
    assert book.prune(NOW + 11) == 1
    assert first.key.id not in [key.id for key in book.all()]
    book.create(Terms(), NOW)


def test_no_two_keys_have_one_id(book: KeyBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """H6: an id that is taken is not given again, revoked or not."""
    ids = iter(["aaaaaaaaaa", "aaaaaaaaaa", "bbbbbbbbbb"])
    monkeypatch.setattr(_book, "new_id", lambda: next(ids))
    book.revoke(book.create(Terms(), NOW).key.id, NOW)
    assert book.create(Terms(), NOW).key.id == "bbbbbbbbbb"


def test_a_revoked_key_stays_revoked_since_it_was(book: KeyBook) -> None:
    """To revoke again changes nothing; there is no way back."""
    made = book.create(Terms(), NOW)
    assert book.revoke(made.key.id, NOW + 5).revoked_ns == NOW + 5
    assert book.revoke(made.credential, NOW + 9).revoked_ns == NOW + 5
    for unknown in ("", "k", "aaaaaaaaaa", form.new_credential("aaaaaaaaaa").decode(), "\ud800"):
        with pytest.raises(KeysError, match="no key with this id"):
            book.revoke(unknown, NOW)


@pytest.mark.parametrize(
    "terms",
    [
        {"user": ""}, {"user": " a"}, {"user": "a\n"}, {"user": "\ud800"}, {"team": "t" * 129},
        {"tier": "\x1b[2J"}, {"note": "n" * 201}, {"note": "a\0"}, {"models": ("",)},
        {"models": ("[a-z]",)}, {"models": ("a b",)}, {"models": ("\ud800",)},
        {"models": ("x\n",)}, {"models": ("x",) * 65}, {"upstreams": ("m" * 129,)},
        {"expires_ns": NOW}, {"expires_ns": 2**63}, {"budget": KeyBudget(pico=-1)},
        {"budget": KeyBudget(tokens=2**63)},
    ],
)  # fmt: skip
def test_terms_out_of_their_bounds_make_no_key(
    book: KeyBook, path: Path, terms: dict[str, object]
) -> None:
    """H8: what could not be read again, or shown, does not come in; the value is not repeated."""
    with pytest.raises(TermsError) as caught:
        book.create(Terms(**terms), NOW)  # type: ignore[arg-type]
    assert "\ud800" not in str(caught.value)
    assert not path.exists()


def test_a_new_key_hides_itself(book: KeyBook) -> None:
    """H9: a log or a traceback that shows what was made does not show the key."""
    made = book.create(Terms(user="alice"), NOW)
    assert made.credential not in repr(made)
    assert "alice" not in repr(made)


def test_keys_made_by_the_superuser_belong_to_the_folders_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key made with `sudo` can be read by the service."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(_files.os, "geteuid", lambda: 0)
    monkeypatch.setattr(_files.os, "fchown", lambda handle, *who: given.append(who))
    KeyBook(tmp_path / "keys.json", SECRET).create(Terms(), NOW)
    facts = tmp_path.stat()
    assert set(given) == {(facts.st_uid, facts.st_gid)}
    assert len(given) == 2
