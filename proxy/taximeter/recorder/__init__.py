"""The recorder: from the journals to the ledger, each call exactly once."""

from taximeter.recorder._access import AccessLog
from taximeter.recorder._book import Bookkeeping
from taximeter.recorder._follow import Follower, Ready
from taximeter.recorder._journal import RecorderStats
from taximeter.recorder._recorder import Pass, Recorder
from taximeter.recorder._sinks import Sink, Sinks

__all__ = [
    "AccessLog",
    "Bookkeeping",
    "Follower",
    "Pass",
    "Ready",
    "Recorder",
    "RecorderStats",
    "Sink",
    "Sinks",
]
