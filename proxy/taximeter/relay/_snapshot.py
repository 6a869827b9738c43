"""Everything that a settings file decides, made once and swapped whole on reload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taximeter.relay._budget import ByteBudget
from taximeter.relay._identity import IdentityHeaders
from taximeter.relay._known import KnownHeads
from taximeter.relay._money import Money, PricesOnDemand, counts_money
from taximeter.relay._plain_call import PLAIN_BYTES_MAX
from taximeter.relay._routing import Routes
from taximeter.relay._upstream import Upstream, upstreams_of

if TYPE_CHECKING:
    from taximeter.keys import KeyStore
    from taximeter.settings import Settings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What holds under one settings file. A call keeps the snapshot it began under."""

    settings: Settings
    upstreams: dict[str, Upstream]
    routes: Routes[Upstream]
    identity_headers: IdentityHeaders
    body_budget: ByteBudget
    heads: KnownHeads
    plain_bytes_max: int
    """Bodies of this length and more are not a plain call's."""
    prices: Money | None
    """None where no budget counts money."""
    prices_on_demand: PricesOnDemand
    """For calls whose client wants to be told."""

    @classmethod
    def of(cls, settings: Settings, keys: KeyStore | None = None) -> Snapshot:
        """Make the snapshot of a configuration, and of the virtual keys there are."""
        identity = settings.identity
        headers = IdentityHeaders(
            user=_lower(identity.user_headers),
            team=_lower(identity.team_headers),
            session=_lower(identity.session_headers),
        )
        upstreams = upstreams_of(settings, headers.all)
        defaults = {}
        for family in ("openai", "anthropic", "gemini", "ollama"):
            name = settings.upstream_for_family(family)
            if name is not None:
                defaults[family] = upstreams[name]
        return cls(
            settings=settings,
            upstreams=upstreams,
            routes=Routes(upstreams, defaults),
            identity_headers=headers,
            body_budget=ByteBudget(settings.relay.body_buffers_bytes_max),
            heads=KnownHeads(),
            plain_bytes_max=min(
                PLAIN_BYTES_MAX, settings.relay.body_buffer_bytes_max, settings.relay.tap_bytes_max
            ),
            prices=Money(settings) if counts_money(settings, keys) else None,
            prices_on_demand=PricesOnDemand(settings),
        )

    @property
    def prices_found(self) -> Money | None:
        """The prices, if they are there for whatever reason."""
        return self.prices or self.prices_on_demand.found


def _lower(names: tuple[str, ...] | list[str]) -> tuple[bytes, ...]:
    return tuple(name.lower().encode("ascii") for name in names)
