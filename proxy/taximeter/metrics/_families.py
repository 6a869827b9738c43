"""The one table of metrics: everything exposed, documented and kept is made from it.

A family that is not here cannot be exposed, and `docs/metrics.md` is written from here. Names are
those of the OpenTelemetry GenAI conventions (v1.41, as Prometheus writes them) where these have a
word for what is measured, with their labels and their edges; everything else is `taximeter_...`.

Inside, every figure is an integer: nanoseconds, tokens, bytes, pico-dollars. `scale` says how many
of them make one of the unit that is exposed, so a sum loses nothing on its way to the one division
at the end.
"""

from __future__ import annotations

from typing import Final

from taximeter.metrics import _admitting, _booked, _running
from taximeter.metrics._family import Family

FAMILIES: Final[tuple[Family, ...]] = (
    *_booked.TABLE.families,
    *_running.TABLE.families,
    *_admitting.TABLE.families,
)
"""Every family, in the order in which it is exposed."""

BY_NAME: Final = {family.name: family for family in FAMILIES}

OPEN_LABELS: Final = {
    "user": "user",
    "team": "team",
    "model": "model",
    "gen_ai_request_model": "model",
    "gen_ai_response_model": "model",
}
"""Labels whose values come from strangers, and whose places they take. All others are of closed
sets, or are words of the configuration."""
