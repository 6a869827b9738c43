"""Counts of limits and budgets that several workers and machines share, through Redis.

`RedisStore` is an `admission.Store`. `Line` is its connection: it asks for what waits in batches,
each within a deadline, and while Redis is slow or gone the store goes by this process' share.
"""

from taximeter.shared_state._line import Line
from taximeter.shared_state._scripts import SERVER_TIME, Scripts
from taximeter.shared_state._store import RedisStore, SharedStats

__all__ = ["SERVER_TIME", "Line", "RedisStore", "Scripts", "SharedStats"]
