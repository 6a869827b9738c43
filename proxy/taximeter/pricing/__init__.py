"""Prices: usage, model and date in, pico-dollars out. Pure and synchronous.

`PriceBook(own, models).price(usage, provider=..., model=..., at_ns=...)` gives a `Price`: an
exact integer of pico-dollars, or None where the cost is not known, with the name of the price
it was made with and the rates used. `OwnPrice` is a price of one's own; it wins over the
built-in table, and a cost stated by the provider wins over both.
"""

from taximeter.pricing._book import Price, PriceBook, catalogue_models, newest_price_ns
from taximeter.pricing._own import OwnPrice
from taximeter.pricing._provider import provider_of_url
from taximeter.pricing._upstreams import UpstreamPrices

__all__ = [
    "OwnPrice",
    "Price",
    "PriceBook",
    "UpstreamPrices",
    "catalogue_models",
    "newest_price_ns",
    "provider_of_url",
]
