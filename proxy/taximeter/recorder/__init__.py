"""The recorder: from the journals to the ledger, each call exactly once."""

from taximeter.recorder._book import Bookkeeping
from taximeter.recorder._follow import Follower, Ready
from taximeter.recorder._recorder import Recorder, RecorderStats

__all__ = ["Bookkeeping", "Follower", "Ready", "Recorder", "RecorderStats"]
