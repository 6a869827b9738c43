"""A folder of keys, and both ways to it: one that changes them, one that looks them up."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter.keys import KeyBook, KeyStore, keys_path

SECRET = b"\x07" * 32
NOW = 1_800_000_000 * 10**9
"""Nanoseconds since the epoch, as the tests have it."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where keys are kept."""
    return keys_path(tmp_path)


@pytest.fixture
def book(path: Path) -> KeyBook:
    """To change them."""
    return KeyBook(path, SECRET)


@pytest.fixture
def store(path: Path) -> KeyStore:
    """To look them up; loaded while there are none."""
    return KeyStore.load(path, SECRET)
