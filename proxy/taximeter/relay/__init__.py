"""The data plane: accepts calls, relays them, journals them. Nothing else.

How a call goes through stands in `taximeter.relay._exchange`; what leans on aiohttp's inside
in `taximeter.relay._aiohttp`, and nowhere else.
"""

from taximeter.relay._errors import PROBLEMS, Fault, Problem
from taximeter.relay._policy import policy_of
from taximeter.relay._worker import RelayWorker

__all__ = ["PROBLEMS", "Fault", "Problem", "RelayWorker", "policy_of"]
