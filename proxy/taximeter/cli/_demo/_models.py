"""The simulated models: their names, their prices, how fast they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """One model of the simulated API. Prices are made up."""

    name: str
    input_usd_per_million: str
    output_usd_per_million: str
    first_token_seconds: float
    """Typical wait for the first token."""
    tokens_per_second: float


MODELS = {
    model.name: model
    for model in (
        Model("demo-large", "5.00", "15.00", 0.60, 35),
        Model("demo-small", "0.15", "0.60", 0.25, 90),
        Model("demo-claude", "3.00", "15.00", 0.45, 50),
    )
}
ANTHROPIC_MODEL = "demo-claude"
PROVIDER = "demo"
