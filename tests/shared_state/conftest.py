"""One Redis server for this folder's tests; each test has a database of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.support.redis import RedisServer

_DATABASES = itertools.count()


@pytest.fixture(scope="package")
def redis_server() -> Iterator[RedisServer]:
    """A server."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty database."""
    return redis_server.url(next(_DATABASES))
