"""The secret that credentials are hashed with: made once, one for all, read by its owner."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import taximeter
from taximeter.keys import KeysError, _secret, hash_key_of


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    """H13: 32 random bytes in a file of mode 0600, in a folder of mode 0700."""
    folder = tmp_path / "data"
    key = hash_key_of(folder)
    assert len(key) == 32
    assert hash_key_of(folder) == key
    assert stat.S_IMODE((folder / "hash.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert hash_key_of(tmp_path / "other") != key


def test_those_who_start_at_once_have_the_same_one(tmp_path: Path) -> None:
    """However many make it at the same time, one is kept, and no draft is left."""
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(hash_key_of, [tmp_path] * 8))) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["hash.key"]


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666, 0o777])
def test_a_secret_that_everybody_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """H13: a secret that is none any more is told, with what to do."""
    hash_key_of(tmp_path)
    (tmp_path / "hash.key").chmod(mode)
    with pytest.raises(KeysError, match="chmod 600"):
        hash_key_of(tmp_path)


@pytest.mark.parametrize("size", [0, 31, 33, 4096])
def test_a_secret_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    """D4: what was cut or overwritten is not used, and not replaced in silence."""
    path = tmp_path / "hash.key"
    path.write_bytes(b"x" * size)
    path.chmod(0o600)
    with pytest.raises(KeysError, match=r"hash\.key"):
        hash_key_of(tmp_path)
    assert path.stat().st_size == size


def test_a_full_disk_leaves_no_draft_of_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D6: it can be tried again and again without filling the disk any further."""

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(_secret.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            hash_key_of(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(hash_key_of(tmp_path)) == 32


def test_the_proxy_does_not_start_on_a_secret_that_is_none(tmp_path: Path) -> None:
    """H13: `serve` says what is wrong and what to do, once, instead of workers that die of it."""
    hash_key_of(tmp_path)
    (tmp_path / "hash.key").chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-m", "taximeter", "serve", "--listen", "127.0.0.1:0"],
        env={
            "PYTHONPATH": str(Path(taximeter.__file__).parent.parent),
            "TAXIMETER_DATA_DIR": str(tmp_path),
            "TAXIMETER_CONSOLE": "127.0.0.1:0",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    path = tmp_path / "hash.key"
    assert done.returncode == 1
    assert f"Cannot start: {path} is open to every user of this machine; chmod 600" in done.stderr
    assert "Traceback" not in done.stderr
