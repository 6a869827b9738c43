"""The counts that a worker shares with others, if it does: made from the settings."""

from __future__ import annotations

from collections.abc import Callable

from taximeter.admission import Admitted, Over, Short, Ticket
from taximeter.settings import Settings
from taximeter.shared_state import Line, RedisStore, SharedStats

Tell = Callable[[Ticket, Admitted | Over | Short | None], None]


class Shared:
    """A store in Redis, and the line to it."""

    def __init__(self, url: str, settings: Settings) -> None:
        redis = settings.redis
        share = redis.local_share if redis.local_share is not None else 1 / settings.workers
        self.store = RedisStore(share)
        self._line = Line(
            url,
            self.store,
            prefix=redis.key_prefix,
            deadline_seconds=redis.deadline_milliseconds / 1000,
        )

    @classmethod
    def of(cls, settings: Settings) -> Shared | None:
        """Give what the settings ask for; None where counts stay in this process."""
        url = settings.state_url
        return None if url is None else cls(url, settings)

    @property
    def stats(self) -> SharedStats:
        """How it goes."""
        return self.store.stats

    async def begin(self, tell: Tell) -> None:
        """Begin; `tell` takes what Redis says of a call."""
        self.store.tell = tell
        await self._line.begin()

    async def end(self) -> None:
        """Tell Redis the last of it, and end."""
        await self._line.end()
